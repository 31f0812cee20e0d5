"""Every backend against the fp64 reference: the random cases of ``gattn check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gattn.bench.gpu.task import Context, Result, Step, Task, green, red
from gattn.bench.gpu.workers import Job, tasks

import gattn
from gattn.check.measure import DTYPES, LIMIT, Standard, draw_case, run_backend
from gattn.check.ops import OPS

#: Cases an op and dtype: each has kernels of its own to compile. ``gattn check`` has as many as one likes.
CASES = 8


def numbers(op: str, seed: int, cases: int, context: Context) -> Sequence[int]:
    """Which of the sweep's cases are taken; in a dry run the smallest alone, for the interpreter is slow."""
    if not context.dry:
        return range(cases)
    edges = [draw_case(OPS[op], DTYPES["fp32"], seed, number).edges.num_edges for number in range(cases)]
    return [min(range(cases), key=lambda number: (edges[number] == 0, edges[number]))]


def _check(op: str, dtype: str, backend: str, cases: Sequence[int]) -> Result:
    worst = 0.0
    for number in cases:
        case = draw_case(OPS[op], DTYPES[dtype], 0, number)
        scores = Standard.of(case).scores(run_backend(case, backend))
        over = {name: score for name, score in scores.items() if not score <= LIMIT}
        if over:
            found = ", ".join(f"{name} {score:.2f}" for name, score in over.items())
            return red(
                f"errors over {LIMIT} times the reference's: {found}; gattn check --op {op} --dtype {dtype} "
                f"--backend {backend} --case {number}"
            )
        worst = max(worst, *scores.values())
    return green(cases=len(cases), worst=round(worst, 3))


def _jobs(context: Context) -> Iterator[Job]:
    """One for every backend that is usable here, op and dtype; those under test first."""
    usable = [name for name, (able, _) in gattn.backends().items() if able and name != "reference"]
    usable.sort(key=lambda name: name not in context.backends)
    for backend in usable:
        for op in OPS:
            cases = numbers(op, 0, CASES, context)
            for dtype in ("fp32", "bf16") if context.dry else DTYPES:
                yield Job(f"numerics/{backend}/{op}/{dtype}", _check, (op, dtype, backend, cases))


def _tasks(context: Context) -> Iterator[Task]:
    yield from tasks(list(_jobs(context)), context)


STEP = Step("numerics", "numerics against fp64", _tasks)

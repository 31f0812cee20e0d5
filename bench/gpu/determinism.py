"""The same input gives the same bits, run after run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from gattn.bench.gpu import small
from gattn.bench.gpu.numerics import numbers
from gattn.bench.gpu.task import Context, Result, Step, Task, green, red

from gattn.check.measure import DTYPES, draw_case, run_backend
from gattn.check.ops import OPS

RUNS = 10
#: Cases of the sweep an op, those of the numerics: their kernels are compiled by then.
CASES = 8


def _check(op: str, backend: str, cases: Sequence[int], runs: int) -> Result:
    for number in cases:
        case = draw_case(OPS[op], DTYPES["fp32"], 0, number)
        first = run_backend(case, backend)
        for _ in range(runs - 1):
            for name, value in run_backend(case, backend).items():
                if not torch.equal(value.nan_to_num(), first[name].nan_to_num()):
                    return red(f"{name} differs from run to run in case {number} of gattn check")
    return green(cases=len(cases), runs=runs)


def _repeat(call: small.Call) -> Result:
    """On a graph with hubs in either direction."""
    first = call.run()
    for _ in range(RUNS - 1):
        if not all(torch.equal(a, b) for a, b in zip(call.run(), first, strict=True)):
            return red("differs from run to run")
    return green(runs=RUNS)


def tasks(context: Context) -> Iterator[Task]:
    """A task a backend and op, and a call."""
    runs = 2 if context.dry else RUNS
    for backend in context.backends:
        for op in OPS:
            cases = numbers(op, 0, CASES, context)
            yield Task(f"determinism/{backend}/{op}", lambda b=backend, o=op, c=cases: _check(o, b, c, runs))
    yield from small.tasks("determinism", context, _repeat)


STEP = Step("determinism", "determinism", tasks)

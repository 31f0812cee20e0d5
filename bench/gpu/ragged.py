"""All-pairs attention over batches of graphs: numbers against fp64, then times beside padded and Flex attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from gattn.bench.gpu import batches
from gattn.bench.gpu.batches import CASES, BatchCase, Forward, Problem
from gattn.bench.gpu.runner import attempt, free
from gattn.bench.gpu.task import DTYPES, Context, Result, Step, Task, green, red, skipped
from gattn.bench.gpu.timing import alternate

from gattn.check.measure import LIMIT
from gattn.ops.ragged_attention import BACKENDS

#: Roundings of float32 that are no error, as in the tests of the op.
FLOOR = 16 * torch.finfo(torch.float32).eps
#: Largest error of a peer that is timed, over the whole of a tensor.
PEER_LIMITS = {"fp32": 1e-3, "bf16": 0.05}


def _case(name: str, context: Context) -> BatchCase:
    return batches.reduced(CASES[name]) if context.dry else CASES[name]


def _errors(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float((found[name].double() - x).norm() / x.norm()) for name, x in exact.items()}


def _check(name: str, dtype: str, backend: str, context: Context) -> Result:
    """Every error at most twice the reference's in the same dtype."""
    problem = Problem.build(_case(name, context), DTYPES[dtype], context.device)
    by_reference = batches.by_gattn(problem, "reference")
    exact = problem.step(by_reference, torch.float64)
    own = _errors(problem.step(by_reference), exact)
    errors = _errors(problem.step(batches.by_gattn(problem, backend)), exact)
    over = [f"{key} {error:.1e}" for key, error in errors.items() if not error <= LIMIT * own[key] + FLOOR]
    if over:
        return red(f"errors over {LIMIT} times the reference's: {', '.join(over)}", errors=errors)
    return green(errors=errors)


def _forward(problem: Problem, forward: Forward) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            forward(**problem.leaves)

    return run


def _peak(problem: Problem, forward: Forward, device: torch.device) -> int:
    """Bytes that a step takes beyond what is there before it."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    problem.step(forward)
    return torch.cuda.max_memory_allocated(device) - before


def _try(
    problem: Problem, make: Callable[[], Forward], exact: dict[str, torch.Tensor], limit: float, context: Context
) -> tuple[Forward, Result]:
    forward = make()
    found = problem.step(forward)
    # With dropout everyone draws a mask of their own: then only that it runs is known.
    errors = {} if problem.case.dropout_p else _errors(found, exact)
    over = [f"{key} {error:.1e}" for key, error in errors.items() if not error <= limit]
    if over:
        raise ValueError(f"wrong numbers: {', '.join(over)}")
    facts: dict[str, Any] = {"errors": errors}
    if context.device.type == "cuda":
        facts["peak_bytes"] = _peak(problem, forward, context.device)
    return forward, green(**facts)


def _measure(name: str, dtype: str, backend: str, context: Context) -> Result:
    """Every contender's times and memory; gattn's numbers have been found right before."""
    checked = context.results.get(f"ragged/numerics/{backend}/{name}/{dtype}")
    if checked is None or checked["status"] != "green":
        status = "has not been checked" if checked is None else f"is {checked['status']}"
        return skipped(f"no speed: ragged/numerics/{backend}/{name}/{dtype} {status}")
    case = _case(name, context)
    problem = Problem.build(case, DTYPES[dtype], context.device)
    exact = problem.step(batches.by_gattn(problem, "reference"), torch.float64)
    makers: dict[str, Callable[[], Forward]] = {"gattn": lambda: batches.by_gattn(problem, context.timed(backend))}
    makers |= {key: lambda m=make: m(problem) for key, make in batches.rivals(case, context).items()}
    kept: dict[str, Forward] = {}
    found: dict[str, Result] = {}
    for key, make in makers.items():

        def one(key: str = key, make: Callable[[], Forward] = make) -> Result:
            kept[key], result = _try(problem, make, exact, PEER_LIMITS[dtype], context)
            return result

        found[key] = attempt(one)
        if found[key]["status"] != "green":
            free(context.device)
    if context.dry:
        bad = [f"{key}: {result['reason']}" for key, result in found.items() if result["status"] != "green"]
        return red("; ".join(bad)) if bad else skipped("dry run: ran on the CPU backend, nothing timed")
    for part in ("forward", "step"):
        steps = {
            key: _forward(problem, forward) if part == "forward" else (lambda f=forward: problem.step(f))
            for key, forward in kept.items()
        }
        for key, summary in alternate(steps, context.device).items():
            found[key][part] = summary
    sizes = problem.ptr.diff()
    facts = {"nodes": int(problem.ptr[-1]), "pairs": int(sizes.square().sum()), "largest": int(sizes.max())}
    return green(**facts, contenders=found)


def tasks(context: Context) -> Iterator[Task]:
    """A check and a measurement for every backend, batch and dtype."""
    for backend in context.backends:
        if backend not in BACKENDS:
            continue
        for name in CASES:
            for dtype in DTYPES:
                of = f"{backend}/{name}/{dtype}"
                chosen = (name, dtype, backend, context)
                yield Task(f"ragged/numerics/{of}", lambda c=chosen: _check(*c))
                yield Task(f"ragged/speed/{of}", lambda c=chosen: _measure(*c))


STEP = Step("ragged", "all-pairs attention over batches of graphs", tasks)

"""Layers forward, and forward and backward: gattn beside PyTorch Geometric, in time and memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from gattn.bench.gpu import capture, ops, problems
from gattn.bench.gpu.contenders import makers
from gattn.bench.gpu.problems import OPS, Chosen
from gattn.bench.gpu.runner import attempt, free
from gattn.bench.gpu.task import Context, Result, green, red, skipped
from gattn.bench.gpu.timing import alternate
from gattn.bench.peers import Contender

from gattn import use_backend

#: In half precision eager PyG is what gattn's error is compared with, and so goes first.
YARDSTICK = ("pyg", "gattn", "pyg-compile")
#: Graphs so small that launching is what takes the time: there gattn is also replayed as a CUDA graph.
LAUNCH_BOUND = ("cora-uniform", "pubmed-uniform")


def _forward(contender: Contender) -> None:
    with torch.no_grad():
        contender.forward()


def _peak(contender: Contender, device: torch.device) -> int:
    """Bytes that a step takes beyond what is there before it."""
    contender.clear()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    contender.step()
    contender.clear()
    return torch.cuda.max_memory_allocated(device) - before


def _try(name: str, chosen: Chosen, context: Context, kept: dict[str, Contender], allowed: dict[str, float]) -> Result:
    """One contender's numbers and memory; if they are right, it is kept for the timing."""
    problem, want = problems.build(chosen, context)
    contender = makers(chosen, context)[name](problem)
    verdict = problems.judge(contender.result({"x": problem.x, **problem.parameters}), want, chosen.dtype, allowed)
    facts: dict[str, Any] = {"errors": verdict.errors}
    # In half precision a peer's errors are what ours are measured by.
    if verdict.reason and (name == "gattn" or chosen.dtype == "fp32"):
        return red(verdict.reason, **facts)
    if context.device.type == "cuda":
        facts["peak_bytes"] = _peak(contender, context.device)
    kept[name] = contender
    return green(**facts)


def _replay(contender: Contender, steps: dict[str, Callable[[], object]]) -> Result:
    """Adds the step as a CUDA graph to those that are timed."""
    captured, _ = capture.record(lambda: [contender.step()])
    steps["gattn replayed"] = captured.replay
    return green()


def _time(steps: dict[str, Callable[[], object]], part: str, found: dict[str, Result], device: torch.device) -> None:
    """All in turn; gattn alone if there is no room for all beside each other."""
    try:
        times = alternate(steps, device)
    except torch.OutOfMemoryError:
        free(device)
        times = alternate({name: step for name, step in steps.items() if name == "gattn"}, device)
        for name in steps.keys() - times.keys():
            found[name] = {"status": "out of memory", "reason": "beside the other contenders"}
    for name, summary in times.items():
        found[name][part] = summary


def measure(chosen: Chosen, context: Context) -> Result:
    """Every contender's times and memory on one problem; no speed unless its numbers are right.

    gattn's layer runs on the backend whose op was faster.
    """
    if importlib.util.find_spec("torch_geometric") is None:
        return skipped("torch_geometric is not installed")
    backend = ops.fastest(chosen, context) or context.backends[0]
    if refusal := context.distrust(backend, OPS[chosen.layer], chosen.dtype):
        return refusal
    problems.forget()
    kept: dict[str, Contender] = {}
    with use_backend(context.timed(backend)):
        found: dict[str, Result] = {}
        names = sorted(makers(chosen, context), key=YARDSTICK.index if chosen.dtype != "fp32" else None)
        for name in names:
            allowed = found.get("pyg", {}).get("errors", {})
            found[name] = attempt(lambda n=name, a=allowed: _try(n, chosen, context, kept, a))
            if found[name]["status"] != "green":
                free(context.device)
            if name == "gattn" and found[name]["status"] != "green":
                return {**found[name], "contenders": found}
        if context.dry:
            return skipped("dry run: ran on the CPU backend, nothing timed")
        for part in ("forward", "step"):
            steps = {n: (lambda c=c: _forward(c)) if part == "forward" else c.step for n, c in kept.items()}
            if part == "step" and chosen.graph in LAUNCH_BOUND:
                found["gattn replayed"] = attempt(lambda s=steps: _replay(kept["gattn"], s))
            _time(steps, part, found, context.device)
    case = problems.case_of(chosen, context)
    return green(nodes=case.num_nodes, edges=case.num_edges, backend=backend, contenders=found)

"""CUDA graphs: a captured step, replayed with other inputs in place, gives what an eager step gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from gattn.bench.gpu import small
from gattn.bench.gpu.task import Context, Result, Step, Task, green, red


def record(run: Callable[[], list[torch.Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[torch.Tensor]]:
    """Captures a step after a warm-up on another stream; its results are overwritten by every replay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        results = run()
    return captured, results


def _check(call: small.Call) -> Result:
    captured, results = record(call.run)
    with torch.no_grad():
        for tensor in call.inputs:
            tensor.mul_(0.5).add_(0.125)
    captured.replay()
    replayed = [tensor.clone() for tensor in results]
    if all(torch.equal(a, b) for a, b in zip(replayed, call.run(), strict=True)):
        return green()
    return red("a replay differs from the eager step")


def tasks(context: Context) -> Iterator[Task]:
    """A task a call."""
    return small.tasks("capture", context, _check)


STEP = Step("capture", "CUDA-graph capture", tasks)

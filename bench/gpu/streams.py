"""Kernels run on the caller's stream: a step behind a long wait there sees what was written before it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from gattn.bench.gpu import small
from gattn.bench.gpu.task import Context, Result, Step, Task, green, red

#: Clock ticks of the wait, some 50 ms: much longer than the step.
TICKS = 100_000_000


def _check(call: small.Call) -> Result:
    expected = call.run()
    values = [tensor.detach().clone() for tensor in call.inputs]
    stream = torch.cuda.Stream()
    with torch.no_grad():
        for tensor in call.inputs:
            tensor.fill_(torch.nan)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(TICKS)
        with torch.no_grad():
            for tensor, value in zip(call.inputs, values, strict=True):
                tensor.copy_(value)
        found = call.run()
    torch.cuda.synchronize()
    if all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)):
        return green()
    return red("a kernel did not wait for the stream that it was called on")


def tasks(context: Context) -> Iterator[Task]:
    """A task a call."""
    return small.tasks("streams", context, _check)


STEP = Step("streams", "streams", tasks)

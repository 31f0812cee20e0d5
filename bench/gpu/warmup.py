"""Compiles what the later steps run, in many processes: they find it in Triton's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from gattn.bench.gpu import small
from gattn.bench.gpu.problems import OPS
from gattn.bench.gpu.task import DTYPES, Context, Result, Step, Task, green
from gattn.bench.gpu.workers import Job, tasks
from gattn.bench.graphs import GraphCase


def _run(name: str, dtype: str, heads: int, channels: int, device: str, backend: str) -> Result:
    small.call(name, torch.device(device), backend, DTYPES[dtype], heads, channels).run()
    return green()


def _jobs(context: Context) -> Iterator[Job]:
    place = str(context.device), context.timed("triton")
    for name in small.names("triton"):
        yield Job(f"warm-up/{name}", _run, (name, "fp32", small.HEADS, small.CHANNELS, *place))
    case = GraphCase("", "", "", 0, 0)  # for the benchmarks' heads and channels
    for layer in OPS:
        for dtype in DTYPES:
            name = f"{layer} plain"
            yield Job(f"warm-up/{name}/{dtype}", _run, (name, dtype, case.heads, case.channels, *place))


def _tasks(context: Context) -> Iterator[Task]:
    if "triton" in context.backends:
        yield from tasks(list(_jobs(context)), context)


STEP = Step("warm-up", "compiling", _tasks)

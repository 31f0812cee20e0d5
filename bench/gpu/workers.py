"""Tasks in processes beside each other: what takes time there is compiling, and a GPU machine has many cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

from gattn.bench.gpu.runner import attempt
from gattn.bench.gpu.task import Context, Result, Task

from gattn.processes import end_with_parent

#: Each holds a CUDA context of some hundred megabytes.
MOST = 12


class Job(NamedTuple):
    """A task that a process can be told: a function of a module and its arguments."""

    key: str
    call: Callable[..., Result]
    arguments: tuple[Any, ...]


def _run(job: Job) -> Result:
    import torch

    torch.set_num_threads(1)
    return attempt(lambda: job.call(*job.arguments))


def tasks(jobs: list[Job], context: Context) -> Iterator[Task]:
    """The jobs as tasks, all of them begun at once; what is left when the budget is spent is given up."""
    missing = [job for job in jobs if job.key not in context.results]
    if not missing or context.left() <= 0:
        yield from (Task(job.key, lambda j=job: _run(j)) for job in missing)
        return
    workers = min(MOST, len(missing), os.cpu_count() or 1)
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent)
    try:
        futures: list[Future[Result]] = [pool.submit(_run, job) for job in missing]
        for job, future in zip(missing, futures, strict=True):
            yield Task(job.key, lambda f=future: f.result(timeout=max(1.0, context.left())))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

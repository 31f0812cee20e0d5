"""The GPU's own limits: copying, and gathering rows from tables of every graph's size."""

from __future__ import annotations

from collections.abc import Iterator

from gattn.bench.gpu import limits
from gattn.bench.gpu.cases import SIZES, reduced
from gattn.bench.gpu.problems import CASES
from gattn.bench.gpu.task import DTYPES, Context, Result, Step, Task, green, skipped

#: Bytes copied and rows gathered.
COPY_BYTES, GATHER_ROWS = 1 << 30, 1 << 22


def key(size: str, dtype: str) -> str:
    """Of the task for tables of a size."""
    return f"bandwidth/{size}/{dtype}"


def _measure(size: str, dtype: str, context: Context) -> Result:
    case = CASES[f"{size}-uniform"]
    if context.dry:
        limits.measure(context.device, reduced(case), DTYPES[dtype], count=1 << 10, size=1 << 16)
        return skipped("dry run: measured, not kept")
    return green(**limits.measure(context.device, case, DTYPES[dtype], count=GATHER_ROWS, size=COPY_BYTES))


def tasks(context: Context) -> Iterator[Task]:
    """A task a size and dtype."""
    for size in SIZES:
        for dtype in DTYPES:
            yield Task(key(size, dtype), lambda s=size, d=dtype: _measure(s, d, context))


STEP = Step("bandwidth", "bandwidths", tasks)

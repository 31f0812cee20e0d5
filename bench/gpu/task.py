"""What a step is made of, and what it is told about the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

Result = dict[str, Any]  #: plain JSON types, with one of :data:`STATUSES` as ``status`` and, unless green, a ``reason``
STATUSES = ("green", "red", "failed", "out of memory", "skipped")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def green(**facts: Any) -> Result:
    """A result that is as it should be."""
    return {"status": "green", **facts}


def red(reason: str, **facts: Any) -> Result:
    """A result that is wrong."""
    return {"status": "red", "reason": reason, **facts}


def skipped(reason: str) -> Result:
    """Nothing could be found out here."""
    return {"status": "skipped", "reason": reason}


@dataclass
class Context:
    """A run: where it computes, what it has found so far, and how long it may go on."""

    device: torch.device
    dry: bool
    deadline: float  #: by :func:`time.monotonic`
    results: dict[str, Result] = field(default_factory=dict)
    tell: Callable[[str], None] = lambda text: None
    backends: tuple[str, ...] = ("triton",)  #: under test; in a dry run Triton's interpreter

    def left(self) -> float:
        """Seconds of the budget."""
        return self.deadline - time.monotonic()

    def timed(self, backend: str) -> str:
        """What benchmarks of a backend run: in a dry run the CPU's kernels stand in, and no time is kept."""
        return "cpu" if self.dry else backend

    def distrust(self, backend: str, op: str, dtype: str) -> Result | None:
        """What a speed of the op is replaced by as long as its numbers have not been found right."""
        for key in (f"numerics/{backend}/{op}/{dtype}", f"determinism/{backend}/{op}"):
            found = self.results.get(key)
            if found is None:
                return skipped(f"no speed: {key} has not been checked")
            if found["status"] != "green":
                return {"status": found["status"], "reason": f"no speed: {key} is {found['status']}"}
        return None


class Task(NamedTuple):
    """One thing to find out."""

    key: str
    run: Callable[[], Result]
    needs_gpu: bool = False


class Step(NamedTuple):
    """A group of tasks; they are listed when the step's turn comes."""

    name: str
    title: str
    tasks: Callable[[Context], Iterable[Task]]

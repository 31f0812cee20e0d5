"""CUDA or Triton, where both can run: by the nearest case in a table of times that ``make gpu-report`` has measured.

The table is :data:`FILE`, or the file that ``GATTN_GPU_CHOICES`` names (empty for none). Without a measured case the
CUDA kernels are taken.
"""

from __future__ import annotations

import json
import math
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

VARIABLE = "GATTN_GPU_CHOICES"
FILE = Path(__file__).with_name("gpu_choices.json")
RIVALS = ("cuda", "triton")


class Case(NamedTuple):
    """What the speed of an op depends on; sizes that are not known, as in a program that is being compiled, are 0."""

    score: str
    dtype: str  #: such as ``"float32"``
    heads: int
    channels: int
    nodes: int = 0
    edges: int = 0


class Measured(NamedTuple):
    """A case's seconds, forward and backward, by backend."""

    case: Case
    seconds: dict[str, float]


def load(file: Path) -> list[Measured]:
    """A table's cases.

    Raises:
        ValueError: The file is not one of ``make gpu-report``'s.
    """
    try:
        entries = json.loads(file.read_text())["cases"]
        return [
            Measured(Case(*(entry[name] for name in Case._fields)), {name: float(entry[name]) for name in RIVALS})
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected a table written by 'make gpu-report' in {file} (got {error!r}). Name another with {VARIABLE}, "
            f"or set it to nothing."
        ) from error


@cache
def table() -> list[Measured]:
    """The cases in use, read once a process."""
    named = os.environ.get(VARIABLE)
    if named is None:
        return load(FILE) if FILE.is_file() else []
    return load(Path(named)) if named else []


def _distance(a: Case, b: Case) -> tuple[int, float]:
    """Other scores and dtypes last, then by the logarithms of width, heads, edges and degree."""
    apart = abs(math.log2(a.heads * a.channels / (b.heads * b.channels))) + abs(math.log2(a.heads / b.heads))
    if min(a.nodes, a.edges, b.nodes, b.edges) > 0:
        apart += abs(math.log2(a.edges / b.edges)) + abs(math.log2(a.edges / a.nodes * b.nodes / b.edges))
    return 2 * (a.score != b.score) + (a.dtype != b.dtype), apart


def faster(case: Case) -> str:
    """The backend that was faster in the nearest case; ``"cuda"`` if none was measured."""
    nearest = min(table(), key=lambda measured: _distance(case, measured.case), default=None)
    return RIVALS[0] if nearest is None else min(RIVALS, key=nearest.seconds.__getitem__)

"""CUDA or Triton for ops, CUB or PyTorch for sorting edges, where both can run: by the nearest case in a table of times
that ``make gpu-report`` has measured.

The table is :data:`FILE`, or the file that ``GATTN_GPU_CHOICES`` names (empty for none). Without a measured case the
CUDA kernels and PyTorch's sort are taken.
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
#: What sorts a graph's edges on a GPU.
SORTS = ("torch", "cub")


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


class BuildTime(NamedTuple):
    """A graph's size, and the seconds that building it took, by what sorted its edges."""

    nodes: int
    edges: int
    seconds: dict[str, float]


class Table(NamedTuple):
    """Everything measured."""

    cases: list[Measured]
    graphs: list[BuildTime]


def load(file: Path) -> Table:
    """A table.

    Raises:
        ValueError: The file is not one of ``make gpu-report``'s.
    """
    try:
        found = json.loads(file.read_text())
        return Table(
            [
                Measured(Case(*(entry[name] for name in Case._fields)), {name: float(entry[name]) for name in RIVALS})
                for entry in found["cases"]
            ],
            [
                BuildTime(int(entry["nodes"]), int(entry["edges"]), {name: float(entry[name]) for name in SORTS})
                for entry in found["graphs"]
            ],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected a table written by 'make gpu-report' in {file} (got {error!r}). Name another with {VARIABLE}, "
            f"or set it to nothing."
        ) from error


@cache
def table() -> Table:
    """The table in use, read once a process."""
    named = os.environ.get(VARIABLE)
    if named is None:
        return load(FILE) if FILE.is_file() else Table([], [])
    return load(Path(named)) if named else Table([], [])


def _distance(a: Case, b: Case) -> tuple[int, float]:
    """Other scores and dtypes last, then by the logarithms of width, heads, edges and degree."""
    apart = abs(math.log2(a.heads * a.channels / (b.heads * b.channels))) + abs(math.log2(a.heads / b.heads))
    if min(a.nodes, a.edges, b.nodes, b.edges) > 0:
        apart += abs(math.log2(a.edges / b.edges)) + abs(math.log2(a.edges / a.nodes * b.nodes / b.edges))
    return 2 * (a.score != b.score) + (a.dtype != b.dtype), apart


def faster(case: Case) -> str:
    """The backend that was faster in the nearest case; ``"cuda"`` if none was measured."""
    nearest = min(table().cases, key=lambda measured: _distance(case, measured.case), default=None)
    return RIVALS[0] if nearest is None else min(RIVALS, key=nearest.seconds.__getitem__)


def faster_sort(nodes: int, edges: int) -> str:
    """What built the graph of the nearest size in less time, first by edges; ``"torch"`` if none was measured."""

    def apart(measured: BuildTime) -> tuple[float, float]:
        return _ratio(measured.edges, edges), _ratio(measured.nodes, nodes)

    nearest = min(table().graphs, key=apart, default=None)
    return SORTS[0] if nearest is None else min(SORTS, key=nearest.seconds.__getitem__)


def _ratio(a: int, b: int) -> float:
    """How far apart two sizes are."""
    return abs(math.log2(max(a, 1) / max(b, 1)))

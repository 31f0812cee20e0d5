"""Which edges carry massive activations: by type and by degree of their ends, and the largest ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Carriers:
    """The edges of one kind.

    Attributes:
        edges: How many.
        carrying: Those with a massive activation.
        massive: Massive activations.
        bad: Edges with an activation that is not finite.
        zero_median: Edges whose median is 0, and whose ratio therefore is infinite.
        largest: The largest finite ratio; NaN without one.
    """

    edges: int = 0
    carrying: int = 0
    massive: int = 0
    bad: int = 0
    zero_median: int = 0
    largest: float = math.nan

    def __add__(self, other: Carriers) -> Carriers:
        return Carriers(
            self.edges + other.edges,
            self.carrying + other.carrying,
            self.massive + other.massive,
            self.bad + other.bad,
            self.zero_median + other.zero_median,
            max((self.largest, other.largest), key=_or_nothing),
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "largest": None if math.isnan(self.largest) else self.largest}


#: Kinds of edges by what they are called, in order.
Table = dict[str, Carriers]


def _or_nothing(ratio: float) -> float:
    return -math.inf if math.isnan(ratio) else ratio


def merge(first: Table, second: Table) -> Table:
    """Both, kind by kind."""
    return {kind: first.get(kind, Carriers()) + second.get(kind, Carriers()) for kind in {**first, **second}}


def tabulate(kind: Tensor, names: Mapping[int, str], ratio: Tensor, massive: Tensor) -> Table:
    """Edges by ``kind`` ``[E]``, integers from 0: their ratios ``[E]`` and numbers of massive activations ``[E]``."""
    table = {}
    for number in kind.unique().tolist():
        own = kind == number
        theirs = ratio[own]
        known = theirs[theirs.isfinite()]
        table[names[number]] = Carriers(
            edges=len(theirs),
            carrying=int((massive[own] > 0).sum()),
            massive=int(massive[own].sum()),
            bad=int(theirs.isnan().sum()),
            zero_median=int(theirs.isinf().sum()),
            largest=float(known.max()) if len(known) else math.nan,
        )
    return table


def degree_classes(degree: Tensor) -> Tensor:
    """0 for degree 1, then 2, 3 to 4, 5 to 8, 9 to 16, ..."""
    return (degree.clamp(min=1).double().log2().ceil() + 0.0).long()


class DegreeNames(dict[int, str]):
    """What the classes of :func:`degree_classes` are called."""

    def __missing__(self, number: int) -> str:
        least, most = 2 ** (number - 1) + 1 if number else 1, 2**number
        return f"{most}" if number < 2 else f"{least} to {most}"


@dataclass(frozen=True)
class Carrier:
    """One edge, and its largest activation.

    Attributes:
        ratio, magnitude: Of that activation.
        head, channel: Where in the edge it is.
        graph: The edge's graph, counted through all batches.
        source, target: The edge's nodes, as numbered in its batch.
        type: What its type is called, if types are known.
    """

    ratio: float
    magnitude: float
    head: int
    channel: int
    graph: int
    source: int
    target: int
    type: str | None = None


def largest(first: list[Carrier], second: list[Carrier], number: int) -> list[Carrier]:
    """The ``number`` carriers with the largest ratios, those of ``first`` before equal ones."""
    return sorted([*first, *second], key=lambda carrier: -carrier.ratio)[:number]


def later(carriers: list[Carrier], graphs: int) -> list[Carrier]:
    """The same with graphs counted from ``graphs`` on."""
    return [replace(carrier, graph=carrier.graph + graphs) for carrier in carriers]

"""What is kept of a layer: statistics by tap, the largest ratio of every graph, carriers and samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from gattn.activations import ActivationStats
from gattn.analysis.massive import carriers
from gattn.analysis.massive.carriers import Carrier, Table
from gattn.analysis.massive.sample import Sample
from gattn.ops.activation_stats import activation_stats

#: Edges with the largest ratios that are listed.
LISTED = 10


class Limits(NamedTuple):
    """What is counted, and how much is kept.

    Attributes:
        threshold: Ratio above which an activation is massive.
        thresholds: Ratios above which activations are counted; ``threshold`` is one of them.
        sample: Numbers kept of a layer for its distributions.
        chunk: Numbers that are examined at a time.
    """

    threshold: float
    thresholds: tuple[float, ...]
    sample: int
    chunk: int


T = TypeVar("T")


class Edges(NamedTuple):
    """What is known of a layer's edges.

    Attributes:
        ends: ``[2, E]``, sources and targets, on the CPU like the others.
        graph: ``[E]``, of a batch of ``graphs``, counted from 0.
        batch: The batch's number.
        first_graph: How many graphs came before this batch.
        classes: ``[E]`` by table, and what the classes are called.
    """

    ends: Tensor
    graph: Tensor
    graphs: int
    batch: int
    first_graph: int
    classes: dict[str, tuple[Tensor, Mapping[int, str]]]


@dataclass(eq=False)
class Record:
    """A layer through all batches.

    Attributes:
        name: As in ``model.named_modules()``.
        module: Its class.
        score: Which score its attention has.
        heads, channels: Of an edge's activations; one channel where the score is a number a head.
        calls: How often it ran.
        stats: By tap.
        graph_ratio: By batch, ``[graphs]``: the largest finite ratio of every graph, NaN without one.
        tables: Carriers by ``"kind"`` and ``"type"`` of edge, ``"target degree"`` and ``"source degree"``.
        features: ``[heads * channels]``: massive activations at every place of an edge.
        largest: The edges with the largest ratios.
        maxima: Sample of the edges' ratios ``[kept, 1]``.
        ratios: Sample of edges, the ratios of all their activations ``[kept, heads * channels]``.
    """

    name: str
    module: str
    score: str
    heads: int
    channels: int
    maxima: Sample
    ratios: Sample
    features: Tensor
    calls: int = 0
    stats: dict[str, ActivationStats] = field(default_factory=dict)
    graph_ratio: dict[int, Tensor] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    largest: list[Carrier] = field(default_factory=list)

    @classmethod
    def empty(cls, name: str, module: str, score: str, heads: int, channels: int, sample: int) -> Record:
        """Of a layer that has not run."""
        width = heads * channels
        maxima, ratios = Sample.empty(sample, 1), Sample.empty(max(1, sample // width), width)
        return cls(name, module, score, heads, channels, maxima, ratios, torch.zeros(width, dtype=torch.int64))

    @property
    def width(self) -> int:
        """Activations of an edge."""
        return self.heads * self.channels

    def by_graph(self) -> Tensor:
        """``[graphs]``: the largest finite ratio of every graph, batch after batch; NaN without one."""
        found = [self.graph_ratio[number] for number in sorted(self.graph_ratio)]
        return torch.cat(found) if found else torch.empty(0)

    def count(self, tap: str, x: Tensor, limits: Limits) -> ActivationStats:
        """Adds rows of a tap; their own statistics."""
        found = activation_stats(x, thresholds=limits.thresholds)
        self.add(tap, found)
        return found

    def add(self, tap: str, stats: ActivationStats) -> None:
        """Adds statistics of further rows of a tap."""
        known, kept = self.stats.get(tap), replace(stats, rows=None)
        self.stats[tap] = kept if known is None else known.merge(kept)

    def merge(self, other: Record, batches: int, graphs: int) -> Record:
        """These rows followed by the others', whose batches and graphs are counted from these numbers on.

        Raises:
            ValueError: The two are of different layers.
        """
        if (self.name, self.score, self.heads, self.channels) != (
            other.name,
            other.score,
            other.heads,
            other.channels,
        ):
            raise ValueError(
                f"Expected the same layer with the same score, heads and channels (got {self.name!r}, {self.score}, "
                f"{self.heads}, {self.channels} and {other.name!r}, {other.score}, {other.heads}, {other.channels})."
            )
        return replace(
            self,
            maxima=self.maxima.merge(other.maxima),
            ratios=self.ratios.merge(other.ratios),
            features=self.features + other.features,
            calls=self.calls + other.calls,
            stats=_each(self.stats, other.stats, ActivationStats.merge),
            graph_ratio=self.graph_ratio | {batches + number: by for number, by in other.graph_ratio.items()},
            tables=_each(self.tables, other.tables, carriers.merge),
            largest=carriers.largest(self.largest, carriers.later(other.largest, graphs), LISTED),
        )


def _each(first: Mapping[str, T], second: Mapping[str, T], merged: Callable[[T, T], T]) -> dict[str, T]:
    """By name, merged where both have it."""
    both = {name: merged(first[name], second[name]) for name in first.keys() & second.keys()}
    return {**first, **second, **both}

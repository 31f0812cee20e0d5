"""Random small graphs of every shape that has ever broken a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: More edges than this at one node and the kernels split it over threads.
HUB_EDGES = (2049, 5000)
MAX_NODES, MAX_EDGES = 90, 700


class Random:
    """A stream of random decisions that depends on its two numbers alone."""

    def __init__(self, seed: int, case: int) -> None:
        self.generator = torch.Generator().manual_seed(seed * 1_000_003 + case)

    def chance(self, probability: float) -> bool:
        """``True`` with this probability."""
        return self.uniform(0.0, 1.0) < probability

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def integer(self, low: int, high: int) -> int:
        """A number in [low, high], both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def choice(self, values: tuple[T, ...]) -> T:
        """One of ``values``."""
        return values[self.integer(0, len(values) - 1)]

    def integers(self, high: int, count: int) -> Tensor:
        """``count`` numbers in [0, high), int64."""
        return torch.randint(high, (count,), generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, fp64."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def skewed(self, high: int, count: int) -> Tensor:
        """Like :meth:`integers`, the smaller the likelier by far."""
        return (torch.rand(count, generator=self.generator, dtype=torch.float64) ** 3 * high).long()


@dataclass(frozen=True)
class EdgeList:
    """The plain facts of a graph, all that :mod:`gattn.reference` reads of one.

    The reference gets this in place of a :class:`gattn.Graph`, so that a graph built wrongly shows too.
    """

    kind: str
    edge_index: Tensor  # [2, E] int64, sources above targets
    num_src: int
    num_dst: int

    @property
    def num_edges(self) -> int:
        """E."""
        return self.edge_index.size(1)

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return self.edge_index.device


Edges = tuple[Tensor, Tensor]
Kind = Callable[[Random, int, int], Edges]


def _uniform(random: Random, sources: int, targets: int) -> Edges:
    edges = random.integer(1, MAX_EDGES)
    return random.integers(sources, edges), random.integers(targets, edges)


def _skewed(random: Random, sources: int, targets: int) -> Edges:
    edges = random.integer(1, MAX_EDGES)
    return random.skewed(sources, edges), random.skewed(targets, edges)


def _hub(random: Random, sources: int, targets: int) -> Edges:
    """One target with more in-edges than a thread takes alone."""
    first, second = _uniform(random, sources, targets)
    spokes = random.integer(*HUB_EDGES)
    hub = torch.full((spokes,), random.integer(0, targets - 1))
    order = torch.randperm(spokes + len(first), generator=random.generator)
    return torch.cat([first, random.integers(sources, spokes)])[order], torch.cat([second, hub])[order]


def _hub_source(random: Random, sources: int, targets: int) -> Edges:
    """One source with more out-edges than a thread takes alone."""
    second, first = _hub(random, targets, sources)
    return first, second


def _isolated(random: Random, sources: int, targets: int) -> Edges:
    """Most nodes have no edge, the last ones among them."""
    return _uniform(random, (sources + 3) // 4, (targets + 3) // 4)


def _duplicates(random: Random, sources: int, targets: int) -> Edges:
    first, second = _uniform(random, sources, targets)
    again = random.integers(min(5, len(first)), len(first))
    return first[again], second[again]


def _path(random: Random, sources: int, targets: int) -> Edges:
    """Every degree is zero or one."""
    steps = torch.arange(min(sources, targets))
    return steps, (steps + 1) % targets


def _loops(random: Random, sources: int, targets: int) -> Edges:
    """Random edges and a loop at every node, as the layers add them."""
    first, second = _uniform(random, sources, targets)
    loops = torch.arange(min(sources, targets))
    return torch.cat([first, loops]), torch.cat([second, loops])


def _complete(random: Random, sources: int, targets: int) -> Edges:
    sources, targets = min(sources, 24), min(targets, 24)
    return torch.arange(sources).repeat(targets), torch.arange(targets).repeat_interleave(sources)


def _no_edges(random: Random, sources: int, targets: int) -> Edges:
    return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)


#: Every kind with how often it is drawn.
KINDS: dict[str, tuple[Kind, int]] = {
    "uniform": (_uniform, 4),
    "skewed": (_skewed, 4),
    "hub": (_hub, 2),
    "hub_source": (_hub_source, 2),
    "isolated": (_isolated, 2),
    "duplicates": (_duplicates, 2),
    "path": (_path, 1),
    "loops": (_loops, 2),
    "complete": (_complete, 1),
    "no_edges": (_no_edges, 1),
}


def draw_graph(random: Random) -> EdgeList:
    """A random kind, size and, two times in five, different numbers of sources and targets."""
    kind = random.choice(tuple(name for name, (_, weight) in KINDS.items() for _ in range(weight)))
    sources = targets = 1 if random.chance(0.04) else random.integer(2, MAX_NODES)
    if random.chance(0.4):
        targets = random.integer(1, MAX_NODES)
    if kind == "no_edges" and random.chance(0.3):
        sources = targets = 0
    return EdgeList(kind, torch.stack(KINDS[kind][0](random, sources, targets)), sources, targets)

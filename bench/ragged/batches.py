"""Batches of graphs and their hop counts: molecules and proteins from ``$GATTN_DATA``, block models, and ladders."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from gattn.ops import shortest_path

#: CLUSTER (Dwivedi et al. 2023, table 12): communities, their least and most nodes, edge probabilities.
COMMUNITIES, LEAST, MOST, INSIDE, BETWEEN = 6, 5, 35, 0.55, 0.25
RUNGS = 1000


@dataclass(frozen=True)
class Batch:
    """Graphs one after the other, with packed distances."""

    name: str
    title: str
    gamma: float
    ptr: Tensor  # [B + 1]
    distance: Tensor  # [pairs], int16

    @property
    def sizes(self) -> list[int]:
        return self.ptr.diff().tolist()  # type: ignore[no-any-return]

    @property
    def nodes(self) -> int:
        return int(self.ptr[-1])


def _pick(count: int, graphs: int) -> list[int]:
    """The batch: a random one, the same every time."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[:graphs].tolist()  # type: ignore[no-any-return]


def _data(*parts: str) -> Path:
    root = os.environ.get("GATTN_DATA")
    if not root:
        raise FileNotFoundError("set GATTN_DATA to the folder of data sets")
    return Path(root, *parts)


def _tu(name: str) -> Callable[[int], Iterator[Tensor]]:
    """Of the TU Dortmund collection, from its text files."""

    def load(graphs: int) -> Iterator[Tensor]:
        folder = _data("tu", name, "raw")
        indicator = [int(line) for line in (folder / f"{name}_graph_indicator.txt").read_text().split()]
        owner = torch.tensor(indicator) - 1
        pairs = [line.split(",") for line in (folder / f"{name}_A.txt").read_text().splitlines()]
        edges = torch.tensor([[int(a), int(b)] for a, b in pairs]).T - 1
        first = torch.searchsorted(owner, torch.arange(int(owner[-1]) + 2))
        for graph in _pick(len(first) - 1, graphs):
            begin, end = int(first[graph]), int(first[graph + 1])
            adjacency = torch.zeros(end - begin, end - begin, dtype=torch.bool)
            mine = edges[:, owner[edges[0]] == graph] - begin
            adjacency[mine[0], mine[1]] = True
            yield adjacency

    return load


def _zinc(graphs: int) -> Iterator[Tensor]:
    """Molecules of the validation split."""
    with _data("zinc", "raw", "val.pickle").open("rb") as file:
        molecules = pickle.load(file)
    for graph in _pick(len(molecules), graphs):
        yield molecules[graph]["bond_type"] > 0


def _sbm(graphs: int) -> Iterator[Tensor]:
    """Stochastic block models as CLUSTER's are drawn."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(graphs):
        sizes = torch.randint(LEAST, MOST + 1, (COMMUNITIES,), generator=generator)
        block = torch.arange(COMMUNITIES).repeat_interleave(sizes)
        chance = torch.where(block.unsqueeze(1) == block, INSIDE, BETWEEN)
        upper = (torch.rand(chance.shape, generator=generator) < chance).triu(1)
        yield upper | upper.T


def _ladders(graphs: int) -> Iterator[Tensor]:
    """A few large graphs in which most pairs are far from each other."""
    adjacency = torch.zeros(2 * RUNGS, 2 * RUNGS, dtype=torch.bool)
    along, rungs = torch.arange(2 * RUNGS - 2), torch.arange(0, 2 * RUNGS, 2)
    adjacency[along, along + 2] = adjacency[rungs, rungs + 1] = True
    for _ in range(max(1, graphs // 32)):
        yield adjacency | adjacency.T


#: Name -> title, gamma as Gradformer has it on NCI1 and PROTEINS (Liu et al. 2024), and the graphs.
SOURCES: dict[str, tuple[str, float, Callable[[int], Iterator[Tensor]]]] = {
    "nci1": ("NCI1", 0.6, _tu("NCI1")),
    "proteins": ("PROTEINS", 0.5, _tu("PROTEINS")),
    "zinc": ("ZINC", 0.6, _zinc),
    "cluster": ("block models like CLUSTER's", 0.6, _sbm),
    "ladders": (f"ladders of {RUNGS} rungs", 0.6, _ladders),
}


def load(name: str, graphs: int = 128) -> Batch:
    """One batch.

    Raises:
        FileNotFoundError: The data are not there.
    """
    title, gamma, source = SOURCES[name]
    blocks = list(source(graphs))
    first = [0, *accumulate(len(block) for block in blocks)]
    edges = [block.nonzero().T + begin for block, begin in zip(blocks, first, strict=False)]
    ptr = torch.tensor(first)
    return Batch(name, title, gamma, ptr, shortest_path(torch.cat(edges, 1), ptr))

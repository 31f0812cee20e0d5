"""Graphs that are drawn, not loaded: the same ones every time, whatever else has drawn random numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data

_CLUSTERS, _SMALLEST, _LARGEST = 6, 5, 34
_WITHIN, _BETWEEN = 0.55, 0.25


def cluster(generator: torch.Generator) -> Data:
    """A graph as in CLUSTER (Dwivedi et al., *Benchmarking graph neural networks*, JMLR 2023, arXiv 2003.00982).

    A stochastic block model of 6 clusters with 5 to 34 nodes each, edges with probability .55 within a cluster and .25
    between two. One node of every cluster shows its label; the label of every node is to be found.
    """
    sizes = torch.randint(_SMALLEST, _LARGEST + 1, (_CLUSTERS,), generator=generator)
    label = torch.arange(_CLUSTERS).repeat_interleave(sizes)
    label = label[torch.randperm(len(label), generator=generator)]
    likely = torch.where(label[:, None] == label, _WITHIN, _BETWEEN)
    joined = (torch.rand(likely.shape, generator=generator) < likely).triu(1)
    shown = torch.zeros_like(label)
    for each in range(_CLUSTERS):
        members = (label == each).nonzero().flatten()
        shown[members[torch.randint(len(members), (1,), generator=generator)]] = each + 1
    return Data(x=F.one_hot(shown, _CLUSTERS + 1).float(), edge_index=_edges(joined), y=label)


#: Joined on the motif's nodes 0 to 4.
_HOUSE = ((0, 1), (1, 2), (2, 3), (3, 0), (0, 4), (1, 4))
_RING = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 0))


def two_motifs(generator: torch.Generator) -> Data:
    """A graph as in BA-2motifs (Luo et al., *Parameterized explainer for graph neural network*, NeurIPS 2020).

    A Barabási-Albert tree of 20 nodes with a house (class 0) or a ring of five nodes (class 1) tied to one of them.
    """
    ends = [0, 1]  # every node as often as it has edges: drawing from it prefers nodes of a high degree
    joined = torch.zeros(25, 25, dtype=torch.bool)
    joined[0, 1] = True
    for node in range(2, 20):
        other = ends[_below(len(ends), generator)]
        joined[other, node] = True
        ends += [other, node]
    kind = _below(2, generator)
    for one, other in (_HOUSE, _RING)[kind]:
        joined[20 + min(one, other), 20 + max(one, other)] = True
    joined[_below(20, generator), 20 + _below(5, generator)] = True
    return Data(x=torch.ones(25, 1), edge_index=_edges(joined), y=torch.tensor([kind]))


#: Generators by the data set's name, with the number of graphs that it was published with.
GENERATED: dict[str, tuple[Callable[[torch.Generator], Data], int]] = {
    "CLUSTER": (cluster, 12_000),
    "BA-2motifs": (two_motifs, 1_000),
}


def _below(bound: int, generator: torch.Generator) -> int:
    return int(torch.randint(bound, (1,), generator=generator))


def _edges(joined: Tensor) -> Tensor:
    """``[2, E]`` of an upper triangle, both ways."""
    return (joined | joined.T).nonzero().T.contiguous()

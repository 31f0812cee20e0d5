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
    joined = torch.zeros(25, 25, dtype=torch.bool)
    joined[:20, :20] = _tree(20, generator)
    kind = _below(2, generator)
    for one, other in (_HOUSE, _RING)[kind]:
        joined[20 + min(one, other), 20 + max(one, other)] = True
    joined[_below(20, generator), 20 + _below(5, generator)] = True
    return Data(x=torch.ones(25, 1), edge_index=_edges(joined), y=torch.tensor([kind]))


#: By label of :func:`labelled_motifs`: motifs on their nodes 0 to 4.
_MOTIFS = (_HOUSE, _RING, tuple((0, leaf) for leaf in range(1, 5)))


def labelled_motifs(generator: torch.Generator) -> Data:
    """A graph that stands for a molecule with several labels, gattn's own: which of three motifs are tied to a tree.

    A Barabási-Albert tree of 8 nodes, and each of a house, a ring and a star of five nodes with probability 1/2. One
    graph in twenty is a lone node. Nodes and edges have two columns of categories, the first a number below 3 by
    chance; the other of ``x`` ``[N, 2]`` is the degree up to 4, that of ``edge_attr`` ``[E, 2]`` whether the edge is a
    motif's. ``y`` ``[1, 3]`` is NaN with probability 1/5.
    """
    kept = [_below(2, generator) == 1 for _ in _MOTIFS]
    if _below(20, generator) == 0:
        kept, tree = [False] * len(_MOTIFS), 1
    else:
        tree = 8
    joined = torch.zeros(tree + 5 * sum(kept), tree + 5 * sum(kept), dtype=torch.bool)
    joined[:tree, :tree] = _tree(tree, generator)
    own = torch.zeros_like(joined)
    for place, motif in enumerate(each for each, there in zip(_MOTIFS, kept, strict=True) if there):
        start = tree + 5 * place
        for one, other in motif:
            own[start + min(one, other), start + max(one, other)] = True
        joined[_below(tree, generator), start + _below(5, generator)] = True
    edge_index = _edges(joined | own)
    kind = torch.randint(3, joined.shape, generator=generator).triu(1)
    columns = torch.stack([kind + kind.T, (own | own.T).long()], -1)
    degree = edge_index[1].bincount(minlength=len(joined)).clamp(max=4)
    y = torch.tensor([kept], dtype=torch.float)
    y[torch.rand(y.shape, generator=generator) < 0.2] = torch.nan
    x = torch.stack([torch.randint(3, (len(joined),), generator=generator), degree], 1)
    return Data(x=x, edge_index=edge_index, edge_attr=columns[edge_index[0], edge_index[1]], y=y)


#: The one with several labels and categories.
LABELLED = "BA-labels"
#: Generators by the data set's name, with the number of graphs that it was published with.
GENERATED: dict[str, tuple[Callable[[torch.Generator], Data], int]] = {
    "CLUSTER": (cluster, 12_000),
    "BA-2motifs": (two_motifs, 1_000),
    LABELLED: (labelled_motifs, 1_000),
}


def _tree(nodes: int, generator: torch.Generator) -> Tensor:
    """Upper triangle of a Barabási-Albert tree."""
    ends = [0, 1]  # every node as often as it has edges: drawing from it prefers nodes of a high degree
    joined = torch.zeros(nodes, nodes, dtype=torch.bool)
    joined[:1, 1:2] = True
    for node in range(2, nodes):
        other = ends[_below(len(ends), generator)]
        joined[other, node] = True
        ends += [other, node]
    return joined


def _below(bound: int, generator: torch.Generator) -> int:
    return int(torch.randint(bound, (1,), generator=generator))


def _edges(joined: Tensor) -> Tensor:
    """``[2, E]`` of an upper triangle, both ways."""
    return (joined | joined.T).nonzero().T.contiguous()

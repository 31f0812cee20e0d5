"""The data of the massive-activation study: how every data set is trained and judged, and its graphs made full."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.transforms import Compose

from gattn.studies.graphs import Encoding
from gattn.transforms import FullGraph, RandomWalkKernel

ENCODING: Encoding = ("random-walk", 16)
#: What edges are called that :func:`full_graphs` adds.
ADDED = "added pair"


class Metric(NamedTuple):
    """A number beside the loss: what it is called, and how it comes from all scores and labels."""

    label: str
    of: Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Task:
    """What is predicted, and the loss of every graph or label; its mean is trained on and judged by.

    Attributes:
        graphs: Of the training set, about.
        nodes: Of the training set, about: what an epoch costs.
        epochs: Of a run.
        label: What the loss is called.
        each: From scores and labels.
        metric: Beside the loss, if there is one.
        edges: What the types of edges are called, those that have a name.
    """

    graphs: int
    nodes: int
    epochs: int
    label: str
    each: Callable[[Tensor, Tensor], Tensor]
    metric: Metric | None = None
    edges: Mapping[int, str] = field(default_factory=dict)

    def edge(self, kind: str, added: int) -> str:
        """The name of a type that is known by its number; ``added`` is that of added pairs."""
        if not kind.isdecimal():
            return kind
        return ADDED if int(kind) == added else self.edges.get(int(kind), f"type {kind}")


def mean_roc_auc(scores: Tensor, y: Tensor) -> float:
    """The mean area under the ROC curve over the labels; NaN where none has both classes among its known values.

    Args:
        scores: ``[graphs, labels]``.
        y: The same, 0 and 1, NaN where a label is not known.
    """
    from sklearn.metrics import roc_auc_score

    areas = []
    for score, label in zip(scores.T, y.T, strict=True):
        known = ~label.isnan()
        if label[known].unique().numel() == 2:
            areas.append(roc_auc_score(label[known].numpy(), score[known].numpy()))
    return math.fsum(areas) / len(areas) if areas else math.nan


def _absolute(scores: Tensor, y: Tensor) -> Tensor:
    return (scores.squeeze(1) - y).abs()


def _binary(scores: Tensor, y: Tensor) -> Tensor:
    known = ~y.isnan()
    return F.binary_cross_entropy_with_logits(scores[known], y[known], reduction="none")


def _classes(scores: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(scores, y, reduction="none")


def _accuracy(scores: Tensor, y: Tensor) -> float:
    return float((scores.argmax(1) == y).double().mean())


_CLASSES = ("cross-entropy", _classes, Metric("accuracy", _accuracy), {0: "edge"})
_LABELS = ("binary cross-entropy", _binary, Metric("ROC-AUC, mean of the labels", mean_roc_auc))
#: As ``torch_geometric.utils.smiles.e_map`` numbers them.
_BONDS = {1: "single", 2: "double", 3: "triple", 12: "aromatic", 13: "ionic", 17: "dative"}
_ZINC_BONDS = {1: "single", 2: "double", 3: "triple", 4: "aromatic"}

TASKS = {
    "ZINC": Task(10_000, 230_000, 200, "mean absolute error", _absolute, edges=_ZINC_BONDS),
    "TOX21": Task(6_400, 118_000, 100, *_LABELS, edges=_BONDS),
    "PROTEINS": Task(890, 35_000, 100, *_CLASSES),
    "MUTAG": Task(150, 2_700, 100, *_CLASSES),
    "NCI1": Task(3_288, 98_000, 100, *_CLASSES),
    "BA-2motifs": Task(800, 20_000, 100, *_CLASSES),
    "BA-labels": Task(800, 18_000, 100, *_LABELS),
}


def full_graphs(graphs: Sequence[Data], added: int) -> list[Data]:
    """The graphs with all pairs of nodes, ``edge_real`` and ``edge_kernel``. Added pairs are of the category ``added``,
    which no edge has; edges without features become of category 0."""
    transform, found = Compose([FullGraph(), RandomWalkKernel()]), []
    for graph in graphs:
        data = graph.clone() if graph.edge_attr is None else graph
        if data.edge_attr is None:
            data.edge_attr = torch.zeros(data.num_edges, dtype=torch.long)
        data = transform(data)
        data.edge_attr[~data.edge_real] = added
        found.append(data)
    return found

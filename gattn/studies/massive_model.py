"""The networks of the massive-activation study, and how they are trained on every data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn import global_mean_pool

from gattn.nn import GraphiTLayer, GraphTransformerLayer, SANLayer
from gattn.studies.graphs import Encoding, GraphSet

ENCODING: Encoding = ("random-walk", 16)
HEADS = 8


@dataclass(frozen=True)
class Kind:
    """A network: its layer, and width and learning rate with which it was trained."""

    name: str
    layer: Callable[..., nn.Module]
    channels: int
    lr: float


KINDS = {
    "graph-transformer": Kind("GraphTransformer", GraphTransformerLayer, 64, 7e-4),
    "san": Kind("SAN", SANLayer, 56, 7e-4),
    "graphit": Kind("GraphiT", GraphiTLayer, 64, 3e-4),
}


def _masked(scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    known = ~y.isnan()
    return scores[known], y[known]


@dataclass(frozen=True)
class Task:
    """What is predicted, and the loss of every graph or label; its mean is trained on and judged by.

    Attributes:
        nodes: Of the training set, about: what an epoch costs.
        epochs: Of a run.
        label: What the loss is called.
        each: From scores and labels.
    """

    nodes: int
    epochs: int
    label: str
    each: Callable[[Tensor, Tensor], Tensor]


def _absolute(scores: Tensor, y: Tensor) -> Tensor:
    return (scores.squeeze(1) - y).abs()


def _binary(scores: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(*_masked(scores, y), reduction="none")


def _classes(scores: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(scores, y, reduction="none")


TASKS = {
    "ZINC": Task(230_000, 200, "mean absolute error", _absolute),
    "TOX21": Task(118_000, 100, "binary cross-entropy", _binary),
    "PROTEINS": Task(35_000, 100, "cross-entropy", _classes),
    "MUTAG": Task(2_700, 100, "cross-entropy", _classes),
    "NCI1": Task(98_000, 100, "cross-entropy", _classes),
    "BA-2motifs": Task(20_000, 100, "cross-entropy", _classes),
}


class Network(nn.Module):
    """Encoders of nodes, positions and edges, layers, the mean over the nodes, and two linear maps."""

    def __init__(self, data: GraphSet, kind: str, depth: int, explicit_bias: str | None) -> None:
        super().__init__()
        channels, own = KINDS[kind].channels, KINDS[kind].layer
        categories = not data.graphs[0].x.is_floating_point()
        self.node = (nn.Embedding if categories else nn.Linear)(data.in_channels, channels)
        self.position = nn.Linear(ENCODING[1], channels)
        # Without features all edges are of one kind.
        self.edge = nn.Embedding(max(1, data.edge_channels), channels)
        self.layers = nn.ModuleList([own(channels, HEADS, explicit_bias=explicit_bias) for _ in range(depth)])
        self.hidden, self.head = nn.Linear(channels, channels // 2), nn.Linear(channels // 2, data.out_channels)

    def forward(self, data: Data) -> Tensor:
        """``[graphs, out_channels]``."""
        x = self.node(data.x)
        x = (x.sum(1) if x.dim() == 3 else x) + self.position(data.encoding)
        if data.edge_attr is None:
            edge = self.edge.weight.expand(data.num_edges, -1)
        else:
            edge = self.edge(data.edge_attr)
            edge = edge.sum(1) if edge.dim() == 3 else edge
        for layer in self.layers:
            found = layer(x, data.edge_index, edge)
            x, edge = found if isinstance(found, tuple) else (found, edge)
        scores: Tensor = self.head(self.hidden(global_mean_pool(x, data.batch, data.num_graphs)).relu())
        return scores


@torch.no_grad()
def loss_of(model: nn.Module, batches: Sequence[Any], task: Task) -> float:
    """The mean over everything that is labelled."""
    model.eval()
    return float(torch.cat([task.each(model(batch), batch.y) for batch in batches]).double().mean())


class Plateau:
    """Halves the learning rate when the validation has not become better for so many epochs, as a function of what
    a run's record keeps."""

    def __init__(self, lr: float, patience: int) -> None:
        self.lr, self.patience = lr, patience

    def start(self) -> dict[str, Any]:
        """What a record begins with."""
        return {"rate": self.lr, "least": float("inf"), "waited": 0}

    def step(self, record: dict[str, Any], val: float) -> None:
        """After an epoch with this loss."""
        if val < record["least"]:
            record.update(least=val, waited=0)
            return
        record["waited"] += 1
        if record["waited"] > self.patience:
            record.update(rate=record["rate"] / 2, waited=0)

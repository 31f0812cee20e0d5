"""The networks of the massive-activation study, and how they are judged and trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import global_mean_pool

from gattn.nn import GraphiTLayer, GraphTransformerLayer, SANLayer
from gattn.studies.graphs import GraphSet
from gattn.studies.massive_data import ENCODING, Task

HEADS = 8
#: SAN's weight of added pairs.
GAMMA = 1e-5


@dataclass(frozen=True)
class Kind:
    """A network.

    Attributes:
        name: In the report.
        layer: Of which it is made.
        channels, lr: Width and learning rate with which it was trained.
        pairs: Of a network on all pairs of nodes, what its layers are given of every pair.
    """

    name: str
    layer: Callable[..., nn.Module]
    channels: int
    lr: float
    pairs: Literal["edge_real", "edge_kernel"] | None = None


KINDS = {
    "graph-transformer": Kind("GraphTransformer", GraphTransformerLayer, 64, 7e-4),
    "san": Kind("SAN", SANLayer, 56, 7e-4),
    "graphit": Kind("GraphiT", GraphiTLayer, 64, 3e-4),
    "san-full": Kind("SAN on all pairs", partial(SANLayer, full_graph=True, gamma=GAMMA), 56, 7e-4, "edge_real"),
    "graphit-full": Kind("GraphiT on all pairs", partial(GraphiTLayer, full_graph=True), 64, 3e-4, "edge_kernel"),
}
#: Those that attend along edges.
ALONG_EDGES = tuple(name for name, kind in KINDS.items() if kind.pairs is None)


class Network(nn.Module):
    """Encoders of nodes, positions and edges, layers, the mean over the nodes, and two linear maps."""

    def __init__(self, data: GraphSet, kind: str, depth: int, explicit_bias: str | None) -> None:
        super().__init__()
        channels, own, self.pairs = KINDS[kind].channels, KINDS[kind].layer, KINDS[kind].pairs
        categories = not data.graphs[0].x.is_floating_point()
        self.node = (nn.Embedding if categories else nn.Linear)(data.in_channels, channels)
        self.position = nn.Linear(ENCODING[1], channels)
        #: What added pairs are numbered as. Without features all edges are of one kind.
        self.added = max(1, data.edge_channels)
        self.edge = nn.Embedding(self.added + (self.pairs is not None), channels)
        self.layers = nn.ModuleList([own(channels, HEADS, explicit_bias=explicit_bias) for _ in range(depth)])
        self.hidden, self.head = nn.Linear(channels, channels // 2), nn.Linear(channels // 2, data.out_channels)

    def embed(self, data: Data) -> Tensor:
        """``[N, channels]``, what the first layer gets: features or categories and random-walk encodings, embedded.

        Several columns of categories are embedded by the sum of their embeddings, those of edges too.
        """
        x = self.node(data.x)
        embedded: Tensor = (x.sum(1) if x.dim() == 3 else x) + self.position(data.encoding)
        return embedded

    def forward(self, data: Data, noise: Tensor | None = None) -> Tensor:
        """``[graphs, out_channels]``; ``noise`` ``[N, channels]`` is added to :meth:`embed`."""
        x = self.embed(data) if noise is None else self.embed(data) + noise
        if data.edge_attr is None:
            edge = self.edge.weight.expand(data.num_edges, -1)
        else:
            edge = self.edge(data.edge_attr)
            edge = edge.sum(1) if edge.dim() == 3 else edge
        pairs = () if self.pairs is None else (data[self.pairs],)
        for layer in self.layers:
            found = layer(x, data.edge_index, edge, *pairs)
            x, edge = found if isinstance(found, tuple) else (found, edge)
        scores: Tensor = self.head(self.hidden(global_mean_pool(x, data.batch, data.num_graphs)).relu())
        return scores


class Judged(NamedTuple):
    """The mean loss over everything that is labelled, and the task's metric; NaN without one."""

    loss: float
    metric: float


@torch.no_grad()
def judge(
    model: nn.Module, batches: Sequence[Any], task: Task, noises: Sequence[Tensor | None] | None = None
) -> Judged:
    """Of all graphs in eval mode; ``noises`` are those of :meth:`Network.forward`, one a batch."""
    model.eval()
    found = [model(batch, noise) for batch, noise in zip(batches, noises or [None] * len(batches), strict=True)]
    scores, y = torch.cat(found), torch.cat([batch.y for batch in batches])
    loss = float(task.each(scores, y).double().mean())
    return Judged(loss, math.nan if task.metric is None else task.metric.of(scores, y))


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

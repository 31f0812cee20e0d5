"""Models, batches and plain numpy, for the tests of massive activations."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv

import gattn
from gattn import ops

HEADS, CHANNELS, EDGE_DIM, TYPES = 3, 4, 5, 3
TAPS = ("activations", "logits", "attention", "outputs")


class GT(nn.Module):
    """A layer of one's own on ``ops.gt``."""

    def __init__(self, channels, heads, clip=5.0):
        super().__init__()
        self.heads, self.clip = heads, clip
        self.q, self.k, self.v, self.e = (nn.Linear(channels, channels, bias=False) for _ in range(4))

    def forward(self, x, edge_index, edge_attr):
        graph = gattn.Graph.from_edge_index(edge_index, x.size(0))
        q, k, v, e = (
            linear(t).view(len(t), self.heads, -1)
            for linear, t in ((self.q, x), (self.k, x), (self.v, x), (self.e, edge_attr))
        )
        return ops.gt(q, k, v, e, graph, clip=self.clip).flatten(1)


def layer(kind):
    """``kind``: the name of a layer, ``-fused`` behind it for gattn's."""
    name, fused = kind.removesuffix("-fused"), kind.endswith("-fused")
    width = HEADS * CHANNELS
    if name == "gt":
        return GT(width, HEADS)
    conv = {"gat": GATConv, "gatv2": GATv2Conv, "transformer": TransformerConv}[name]
    conv = conv(width, CHANNELS, HEADS, edge_dim=width)
    if fused:
        holder = nn.ModuleList([conv])
        gattn.fuse(holder)
    return conv


KINDS = ["gt", "gat", "gatv2", "transformer", "gat-fused", "gatv2-fused", "transformer-fused"]


class Net(nn.Module):
    """Layers one behind the other; takes what PyG's models take."""

    def __init__(self, kinds=("gatv2-fused", "transformer-fused"), dropout=0.0):
        super().__init__()
        width = HEADS * CHANNELS
        self.encode = nn.Linear(EDGE_DIM, width)
        self.types = nn.Embedding(TYPES, width)
        self.layers = nn.ModuleList([layer(kind) for kind in kinds])
        self.dropout = nn.Dropout(dropout)
        for one in self.layers:
            if not isinstance(one, GT):
                one.dropout = dropout
        self.double()  # so that on which side of a threshold a ratio is does not depend on rounding

    def forward(self, x, edge_index, edge_attr, batch=None):
        x, edge = self.encode(x), self.types(edge_attr)
        for one in self.layers:
            x = self.dropout(one(x, edge_index, edge).relu())
        return x


class DataNet(Net):
    """The same for a ``Data``."""

    def forward(self, data):
        return super().forward(data.x, data.edge_index, data.edge_attr)


def graph(nodes, seed):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(nodes, (2, 3 * nodes), generator=generator)
    types = torch.randint(TYPES, (3 * nodes,), generator=generator)
    x = torch.randn(nodes, EDGE_DIM, generator=generator, dtype=torch.float64)
    return Data(x=x, edge_index=edges, edge_attr=types)


def batches(count=3, graphs=4):
    return [Batch.from_data_list([graph(5 + g + b, 10 * b + g) for g in range(graphs)]) for b in range(count)]


def run(model, data):
    return model(data.x, data.edge_index, data.edge_attr, data.batch)


def examined(model, data):
    """By layer: the activations ``[E, H, C]`` in float64 of numpy, from the definition, and the edges ``[2, E]``."""
    x, edge = model.encode(data.x), model.types(data.edge_attr)
    found = []
    for one in model.layers:
        found.append(of_layer(one, x, data.edge_index, edge))
        x = one(x, data.edge_index, edge).relu()
    return found


def of_layer(one, x, edge_index, edge):
    if isinstance(one, (GATConv, GATv2Conv)):
        edge_index, edge = with_loops(edge_index, edge, len(x))
    source, target = edge_index.numpy()

    def split(linear, t):
        return linear(t).detach().double().numpy().reshape(len(t), HEADS, CHANNELS)

    if isinstance(one, GT):
        q, k, e = split(one.q, x), split(one.k, x), split(one.e, edge)
        w = q[target] * k[source] * e / np.sqrt(CHANNELS)
    elif isinstance(one, TransformerConv):
        q, k, e = split(one.lin_query, x), split(one.lin_key, x), split(one.lin_edge, edge)
        w = q[target] * (k[source] + e) / np.sqrt(CHANNELS)
    elif isinstance(one, GATv2Conv):
        z = split(one.lin_l, x)[source] + split(one.lin_r, x)[target] + split(one.lin_edge, edge)
        w = one.att.detach().double().numpy() * np.where(z > 0, z, one.negative_slope * z)
    else:
        h, e = split(one.lin, x), split(one.lin_edge, edge)
        terms = [(t * a.detach().double().numpy()).sum(-1) for t, a in ((h, one.att_src), (h, one.att_dst))]
        w = terms[0][source] + terms[1][target] + (e * one.att_edge.detach().double().numpy()).sum(-1)
        w = w[..., None]
    return w, edge_index.numpy()


def with_loops(edge_index, edge, nodes):
    """PyG's self-loops, their features the mean of those that come in."""
    kept = edge_index[0] != edge_index[1]
    edge_index, edge = edge_index[:, kept], edge[kept]
    total = edge.new_zeros(nodes, edge.size(1)).index_add(0, edge_index[1], edge)
    number = edge.new_zeros(nodes).index_add(0, edge_index[1], edge.new_ones(len(edge)))
    loops = torch.arange(nodes).expand(2, -1)
    return torch.cat([edge_index, loops], 1), torch.cat([edge, total / number.clamp(min=1)[:, None]])


def ratios(w):
    """``[E, D]``; NaN in rows whose lower median is 0."""
    size = np.abs(w.reshape(len(w), -1))
    median = np.sort(size, axis=1)[:, (size.shape[1] - 1) // 2]
    return size / np.where(median == 0, np.nan, median)[:, None]


def record_of(found, number=0):
    return list(found.findings.records.values())[number]


def as_dict(findings):
    return [layer.as_dict() for layer in findings.report().layers.values()]

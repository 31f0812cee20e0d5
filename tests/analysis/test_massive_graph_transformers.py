"""Massive activations of the graph transformer layers, with and without explicit bias, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gattn.analysis import MassiveActivations
from gattn.nn import GraphiTLayer, GraphTransformerLayer, SANLayer

from .massive_cases import ratios

NODES, EDGES, CHANNELS, HEADS = 12, 60, 12, 3
VARIANTS = [
    (GraphTransformerLayer, {}),
    (SANLayer, {}),
    (SANLayer, {"full_graph": True, "gamma": 0.3}),
    (GraphiTLayer, {}),
    (GraphiTLayer, {"full_graph": True}),
    (GraphiTLayer, {"full_graph": True, "added_maps": True}),
]


def numpy(t):
    return t.detach().double().numpy()


def examined(layer, x, edge_index, edge_attr, kind):
    """``w_ij = q_i * k_j * e_ij / sqrt(C)``, plus ``(q_i . k' / sqrt(C)) e'`` with the bias term: ``[E, H, C]``."""
    of, kinds, size = layer.attention, layer.attention.kinds, CHANNELS // HEADS
    q, k, e = (
        numpy(linear(t)).reshape(len(t), HEADS, kinds, size)
        for linear, t in ((layer.query, x), (layer.key, x), (layer.edge, edge_attr))
    )
    source, target = edge_index.numpy()
    number = np.arange(len(source))
    q, k, e = q[target, :, kind], k[source, :, kind], e[number, :, kind]
    w = q * k * e / np.sqrt(size)
    if of.bias_edge is not None:
        key, edge = (numpy(p).reshape(HEADS, kinds, size).transpose(1, 0, 2)[kind] for p in (of.bias_key, of.bias_edge))
        w = w + (q * key).sum(-1, keepdims=True) / np.sqrt(size) * edge
    return w


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("bias", [None, "edge_bias", "kv_slot"])
@pytest.mark.parametrize(
    ("kind", "options"), VARIANTS, ids=lambda v: v.__name__ if isinstance(v, type) else "-".join(v)
)
def test_equals_numpy(kind, options, bias, dtype):
    torch.manual_seed(0)
    layer = kind(CHANNELS, HEADS, explicit_bias=bias, **options).to(dtype).eval()
    x, edge_attr = torch.randn(NODES, CHANNELS, dtype=dtype), torch.randn(EDGES, CHANNELS, dtype=dtype)
    edge_index, real = torch.randint(NODES, (2, EDGES)), torch.rand(EDGES) < 0.5
    further = {}
    if layer.attention.kinds > 1:
        further["real"] = real
    if options.get("full_graph") and kind is GraphiTLayer:
        further["kernel"] = torch.rand(EDGES)
    expected_out = layer(x, edge_index, edge_attr, **further)
    batch, threshold = torch.arange(NODES) // 4, 4.0
    found = MassiveActivations(layer, threshold=threshold, taps=("activations", "logits", "attention"), chunk=100)
    found.batch(batch=batch, edge_index=edge_index, edge_type=real.long())
    with found:
        out = layer(x, edge_index, edge_attr, **further)
    for one, two in zip(*((t,) if isinstance(t, torch.Tensor) else t for t in (out, expected_out)), strict=True):
        assert torch.equal(one, two)

    kinds = (~real).long().numpy() if layer.attention.kinds > 1 else np.zeros(EDGES, dtype=int)
    w = examined(layer, x, edge_index, edge_attr, kinds)
    ratio, rtol = ratios(w), 1e-9 if dtype == torch.float64 else 1e-3
    record = found.findings.records["attention"]
    assert (record.module, record.heads, record.channels) == ("GTAttention", HEADS, CHANNELS // HEADS)
    stats = record.stats["activations"]
    assert stats.largest.value == pytest.approx(np.abs(w).max(), rel=rtol)
    assert stats.largest_ratio.value == pytest.approx(ratio.max(), rel=rtol)
    graphs = batch.numpy()[edge_index[1].numpy()]
    by_graph = [ratio[graphs == g].max() for g in range(3)]
    np.testing.assert_allclose(record.by_graph().numpy(), by_graph, rtol=rtol)
    if dtype == torch.float64:
        assert stats.above[threshold] == (ratio > threshold).sum() > 0
        np.testing.assert_array_equal(record.features.numpy(), (ratio > threshold).sum(0))
    if layer.attention.kinds > 1:
        table = {name: c.edges for name, c in record.tables["kind"].items()}
        assert table == {"edges": int(real.sum()), "added pairs": int((~real).sum())}
    logits = w.sum(-1).clip(-5, 5)
    got = record.stats["logits"]
    assert got.mean == pytest.approx(logits.mean(), rel=rtol, abs=1e-6)
    assert got.largest.value == pytest.approx(np.abs(logits).max(), rel=rtol)
    assert got.count == EDGES


def test_a_network_of_them_and_its_base():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.x, self.e = nn.Embedding(5, CHANNELS), nn.Embedding(3, CHANNELS)
            self.layers = nn.ModuleList([GraphTransformerLayer(CHANNELS, HEADS) for _ in range(3)])

        def forward(self, x, edge_index, edge_attr, batch):
            x, e = self.x(x), self.e(edge_attr)
            for layer in self.layers:
                x, e = layer(x, edge_index, e)
            return x

    torch.manual_seed(1)
    model = Net().eval()
    data = (
        torch.randint(5, (NODES,)),
        torch.randint(NODES, (2, EDGES)),
        torch.randint(3, (EDGES,)),
        torch.arange(NODES) // 3,
    )

    def evaluate(model, found):
        model(*data)

    found = MassiveActivations(model)
    with found:
        evaluate(model, found)
    report = found.report(found.base(evaluate, seeds=range(2)))
    assert list(report.layers) == [f"layers.{n}.attention" for n in range(3)]
    for layer in report.layers.values():
        assert len(layer.base) == 2
        assert layer.record.graph_ratio[0].numel() == 4
        assert sum(c.edges for c in layer.record.tables["type"].values()) == EDGES

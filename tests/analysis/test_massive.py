"""What MassiveActivations finds in a layer, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import GATConv

import gattn
from gattn import ops
from gattn.analysis import MassiveActivations
from gattn.analysis.massive import EXAMINED, OWN, Own
from gattn.analysis.massive.record import LISTED
from gattn.analysis.massive.report import log_ratios

from .massive_cases import HEADS, KINDS, TAPS, Net, batches, examined, ratios, record_of, run

RTOL = 1e-9


@pytest.mark.parametrize("chunk", [2**20, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_numpy(kind, chunk):
    torch.manual_seed(0)
    model, data = Net([kind, kind]).eval(), batches()
    threshold = 8.0 if kind.startswith("gat") else 20.0
    with MassiveActivations(model, threshold=threshold, chunk=chunk) as found:
        for batch in data:
            run(model, batch)
    expected = [examined(model, batch) for batch in data]
    assert list(found.findings.records) == ["layers.0", "layers.1"]
    for number, record in enumerate(found.findings.records.values()):
        check(record, [of[number] for of in expected], data, threshold)


def check(record, expected, data, threshold):
    w = np.concatenate([of.reshape(len(of), -1) for of, _ in expected])
    ratio = ratios(w)
    known = ~np.isnan(ratio).any(1)
    stats = record.stats["activations"]
    assert (stats.count, stats.width, stats.zero_median_rows) == (*w.shape, (~known).sum())
    assert stats.largest.value == pytest.approx(np.abs(w).max(), rel=RTOL)
    assert stats.largest.row == np.abs(w).max(1).argmax()
    assert stats.largest_ratio.value == pytest.approx(np.nanmax(ratio), rel=RTOL)
    assert stats.mean == pytest.approx(w.mean(), abs=1e-12)
    assert stats.std == pytest.approx(w.std(), rel=RTOL)
    massive = ratio > threshold
    assert massive.sum() > 3
    assert stats.above[threshold] == massive.sum()
    np.testing.assert_array_equal(record.features.numpy(), massive.sum(0))
    by_graph, table = [], {}
    for (of, edges), batch in zip(expected, data, strict=True):
        largest, member = ratios(of).max(1), batch.batch.numpy()[edges[1]]
        by_graph += [np.nanmax(largest[member == g]) for g in range(batch.num_graphs)]
        degree = np.bincount(edges[1])[edges[1]]
        for low, high in ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16)):
            own = (degree >= low) & (degree <= high)
            if own.any():
                name = str(low) if low == high else f"{low} to {high}"
                counts = table.setdefault(name, np.zeros(3, dtype=int))
                counts += [own.sum(), (largest[own] > threshold).sum(), (ratios(of)[own] > threshold).sum()]
    np.testing.assert_allclose(record.by_graph().numpy(), by_graph, rtol=1e-4)
    found = {name: [c.edges, c.carrying, c.massive] for name, c in record.tables["target degree"].items()}
    assert found == {name: counts.tolist() for name, counts in table.items()}
    largest = np.sort(ratio[known].max(1))
    np.testing.assert_allclose([c.ratio for c in record.largest], largest[::-1][:10], rtol=RTOL)
    logs = log_ratios(record)
    np.testing.assert_allclose(np.sort(logs["edges"]), np.sort(-np.log10(largest)), atol=RTOL)
    np.testing.assert_allclose(np.sort(logs["activations"]), np.sort(-np.log10(ratio[ratio > 0])), atol=RTOL)


def test_one_edge_at_a_time():
    torch.manual_seed(0)
    model, data = Net(["gatv2"]).eval(), batches(1)
    found = []
    for chunk in (1, 2**20):
        with MassiveActivations(model, chunk=chunk, sample=100) as watching:
            run(model, data[0])
        found.append(watching.report().as_dict()["layers"][0])
    one, whole = (layer["taps"].pop("activations") for layer in found)
    assert found[0] == found[1]
    for name in ("sum", "squares", "mean", "std"):
        assert one.pop(name) == pytest.approx(whole.pop(name), rel=RTOL)
    assert one == whole


@pytest.mark.parametrize("kind", KINDS)
def test_largest_edge_is_where_it_says(kind):
    torch.manual_seed(1)
    model, data = Net([kind]).eval(), batches(2)
    with MassiveActivations(model) as found:
        for batch in data:
            run(model, batch)
    top = record_of(found).largest[0]
    number, place = divmod(top.graph, data[0].num_graphs)
    w, edges = examined(model, data[number])[0]
    ratio = ratios(w).reshape(len(w), HEADS, -1)
    own = (edges[0] == top.source) & (edges[1] == top.target)
    assert np.isclose(ratio[own][:, top.head, top.channel], top.ratio, rtol=1e-4).any()
    assert data[number].batch[top.target] == place
    assert np.isclose(np.abs(w[own][:, top.head, top.channel]), top.magnitude, rtol=1e-4).any()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_attention_and_outputs(kind):
    torch.manual_seed(2)
    model, data = Net([kind]).eval(), batches(1)[0]
    with MassiveActivations(model, taps=TAPS) as found:
        out = run(model, data)
    w, edges = examined(model, data)[0]
    s = w.sum(-1)
    if kind.startswith("gat") and "v2" not in kind:
        s = np.where(s > 0, s, 0.2 * s)
    s = s.clip(-5, 5) if kind == "gt" else s
    alpha = np.exp(s)
    total = np.zeros((data.num_nodes, HEADS))
    np.add.at(total, edges[1], alpha)
    alpha /= (total + (1e-6 if kind == "gt" else 0))[edges[1]]
    stats = record_of(found).stats
    for tap, expected in (("logits", s), ("attention", alpha)):
        got = stats[tap]
        assert (got.count, got.width) == expected.shape
        assert got.mean == pytest.approx(expected.mean(), rel=1e-4, abs=1e-6)
        assert got.std == pytest.approx(expected.std(), rel=1e-4)
        assert got.largest.value == pytest.approx(np.abs(expected).max(), rel=1e-5)
    got = stats["outputs"]
    assert got.count == data.num_nodes
    assert got.largest.value >= float(out.detach().max()) * (1 - 1e-6)


def test_outputs_are_what_the_layer_returns():
    torch.manual_seed(3)
    model, data = Net(["gatv2-fused"]).eval(), batches(1)[0]
    seen = []
    handle = model.layers[0].register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    with MassiveActivations(model, taps=["outputs"]) as found:
        run(model, data)
    handle.remove()
    assert record_of(found).stats.keys() == {"outputs"}
    expected = ops.activation_stats(seen[0]).as_dict()
    del expected["segment_ratio"]
    got = record_of(found).stats["outputs"].as_dict()
    del got["segment_ratio"]
    assert got == expected


def test_modifiers_are_in_the_logits():
    """LipschitzNorm divides the scores and not the activations."""
    torch.manual_seed(4)
    data = batches(1)[0]
    conv = gattn.FusedGATConv(5, 4, HEADS, norm="lipschitz").double().eval()
    with MassiveActivations(conv, taps=TAPS) as found:
        _, (edges, alpha) = conv(data.x, data.edge_index, return_attention_weights=True)
    stats = record_of(found).stats
    assert stats["logits"].largest.value <= 0.25
    assert stats["activations"].largest.value > 0.25
    assert stats["attention"].mean == pytest.approx(float(alpha.detach().mean()), rel=1e-5)
    assert stats["attention"].count == edges.size(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype):
    torch.manual_seed(5)
    graphs = gattn.Graph.from_edge_index(torch.randint(20, (2, 90)), 20)
    q, k, v = (torch.randn(20, 2, 8, dtype=torch.float64).to(dtype) for _ in range(3))
    edge = torch.randn(90, 2, 8, dtype=torch.float64).to(dtype)

    class Model(nn.Module):
        def forward(self):
            return ops.gt(q, k, v, edge, graphs)

    model = Model()
    with MassiveActivations(model) as found:
        model()
    source, target = graphs.edge_index
    w = (q.double()[target] * k.double()[source] * edge.double() / 8**0.5).numpy()
    stats = record_of(found).stats["activations"]
    assert stats.largest.value == pytest.approx(np.abs(w).max(), rel=1e-6)
    assert stats.largest_ratio.value == pytest.approx(ratios(w).max(), rel=1e-5)


def test_bad_rows_are_counted_apart():
    """NaN, infinities and medians of 0 are in no ratio, and the edges are still told apart."""
    torch.manual_seed(6)
    edge_index = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])
    graphs = gattn.Graph.from_edge_index(edge_index, 5)
    q, k, v = (torch.randn(5, 1, 4) for _ in range(3))
    edge = torch.ones(6, 1, 4)
    edge[0, 0, 0], edge[1, 0, 1], edge[2, 0, :3], edge[3] = torch.nan, torch.inf, 0, 0

    class Model(nn.Module):
        def forward(self):
            return ops.gt(q, k, v, edge, graphs)

    model = Model()
    found = MassiveActivations(model, threshold=1e-3)
    found.batch(
        batch=torch.tensor([0, 0, 1, 1, 0]), num_graphs=3, edge_index=edge_index, edge_type=torch.arange(6) // 2
    )
    with found:
        model()
    stats, record = record_of(found).stats["activations"], record_of(found)
    assert (stats.nan, stats.infinite, stats.bad_rows, stats.zero_median_rows) == (1, 1, 2, 2)
    assert {name: (c.edges, c.bad, c.zero_median) for name, c in record.tables["type"].items()} == {
        "0": (2, 2, 0),
        "1": (2, 0, 2),
        "2": (2, 0, 0),
    }
    w = (q[edge_index[1]] * k[edge_index[0]] * edge / 2).numpy()
    expected = ratios(w[4:]).max(1)
    np.testing.assert_allclose(record.by_graph()[:2].numpy(), expected, rtol=1e-5)
    assert record.by_graph()[2].isnan()
    assert record.features.sum() == 8
    assert len(record.largest) == 2
    report = found.report().as_dict()["layers"][0]
    assert (report["taps"]["activations"]["nan"], report["graph_ratio"][2]) == (1, None)


def test_no_edges():
    conv = GATConv(3, 2, 2, add_self_loops=False)
    with MassiveActivations(conv, taps=TAPS) as found:
        conv(torch.randn(4, 3), torch.empty(2, 0, dtype=torch.long))
    record = record_of(found)
    assert record.stats["activations"].count == record.stats["attention"].count == 0
    assert record.by_graph().isnan().all()
    assert "0" in str(found.report())


def test_a_layer_whose_op_reads_more_than_the_layer_means():
    """OWN translates: here an op on padded channels, with every node twice as a source."""

    class Padded(nn.Module):
        def forward(self, q, k, edge, graph):
            wide = [torch.nn.functional.pad(t, (0, 2), value=3.0) for t in (q, k.repeat_interleave(2, 0), edge)]
            return ops.gt(wide[0], wide[1], wide[1], wide[2], graph)

    OWN[Padded] = lambda layer, attended: Own(
        4, ("one", "other"), lambda x, source, target: x[..., :4] * (6 / 4) ** 0.5
    )
    try:
        model = Padded()
        source, target = torch.randint(5, (2, 20), generator=torch.Generator().manual_seed(0))
        q, k, edge = torch.randn(5, 2, 4), torch.randn(5, 2, 4), torch.randn(20, 2, 4)
        with MassiveActivations(model) as found:
            model(q, k, edge, gattn.Graph.from_edge_index(torch.stack([2 * source, target]), (10, 5)))
    finally:
        del OWN[Padded]
    w = (q[target] * k[source] * edge / 2).numpy()
    record = record_of(found)
    assert (record.heads, record.channels) == (2, 4)
    np.testing.assert_allclose(record.by_graph().numpy(), [ratios(w).max()], rtol=1e-5)
    assert {(c.source, c.target) for c in record.largest} <= set(zip(source.tolist(), target.tolist(), strict=True))


def test_no_more_numbers_at_a_time_than_asked_for(monkeypatch):
    torch.manual_seed(12)
    model, data, seen = Net(["gatv2", "gt"]).eval(), batches(1)[0], []
    for score in ("gatv2", "gt"):
        was = EXAMINED[score]

        def examined(*args, was=was):
            found = was(*args)
            seen.append(found.numel())
            return found

        monkeypatch.setitem(EXAMINED, score, examined)
    with MassiveActivations(model, taps=("logits",), chunk=100):
        run(model, data)
    assert max(seen) <= 100
    assert len(seen) > 20
    seen.clear()
    with MassiveActivations(model, sample=100, chunk=100) as found:  # the kernels take the statistics
        run(model, data)
    rows = [found.findings.records[name] for name in found.findings.records]
    assert max(seen) <= max(100, LISTED * max(row.width for row in rows))
    assert max(seen) < min(row.stats["activations"].count * row.width for row in rows)

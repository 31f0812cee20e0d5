"""Which graphs and which types of edges massive activations are counted for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Batch
from torch_geometric.nn import GATConv, TransformerConv

from gattn.analysis import MassiveActivations

from .massive_cases import TYPES, DataNet, Net, batches, examined, graph, ratios, record_of, run


@pytest.mark.parametrize("kind", ["gat", "gatv2-fused", "transformer"])
def test_edge_types(kind):
    torch.manual_seed(7)
    model, data = Net([kind]).eval(), batches()
    with MassiveActivations(model) as found:
        for batch in data:
            run(model, batch)
    table = record_of(found).tables["type"]
    loops = 0 if kind == "transformer" else 1
    expected = np.zeros(TYPES, dtype=int)
    for batch in data:
        kept = (batch.edge_index[0] != batch.edge_index[1]) if loops else slice(None)
        expected += np.bincount(batch.edge_attr[kept], minlength=TYPES)
    # Of a node's own self-loop and the layer's there is no telling which is which.
    own = sum(int((b.edge_index[0] == b.edge_index[1]).sum()) for b in data) if loops else 0
    assert abs(sum(table[str(t)].edges for t in range(TYPES)) - expected.sum()) <= own
    assert sum(c.edges for c in table.values()) == record_of(found).stats["activations"].count
    if not loops:
        assert [table[str(t)].edges for t in range(TYPES)] == expected.tolist()
    else:
        nodes = sum(b.num_nodes for b in data)
        assert nodes - own <= table["self-loop"].edges <= nodes


def test_types_of_a_sparse_adjacency_and_of_added_edges():
    edges = torch.tensor([[2, 0, 1, 0, 0], [0, 1, 2, 1, 2]])
    types = torch.tensor([4, 5, 6, 7, 4])
    model = TransformerConv(3, 2, 2)
    found = MassiveActivations(model)
    found.batch(edge_index=edges, edge_type=types)
    adj = torch.sparse_coo_tensor(edges.flip(0)[:, :3], torch.ones(3), (3, 3), check_invariants=True).coalesce()
    x = torch.randn(3, 3)
    with found:
        model(x, adj)
        model(x, torch.cat([edges, torch.tensor([[1, 0, 0], [1, 1, 1]])], 1))
    table = record_of(found).tables["type"]
    assert {name: c.edges for name, c in table.items()} == {
        "4": 3,
        "5": 2,
        "6": 2,
        "7": 1,
        "self-loop": 1,
        "added": 2,
    }


def test_a_data_in_the_call_says_everything():
    torch.manual_seed(8)
    model, data = DataNet(["gt"]).eval(), batches()
    with MassiveActivations(model) as found:
        for batch in data:
            model(batch)
    assert (found.findings.batches, found.findings.graphs) == (3, 12)
    assert set(record_of(found).tables["type"]) == {"0", "1", "2"}
    with MassiveActivations(model) as single:
        model(graph(6, 0))
    assert (single.findings.batches, single.findings.graphs) == (1, 1)


def test_a_batch_that_is_announced_counts_once():
    torch.manual_seed(9)
    model, data = DataNet(["gt"]).eval(), batches(2)
    with MassiveActivations(model) as found:
        found.batch(data[0])
        model(data[0])
        model(data[0])
        found.batch()
        model(data[1])
    assert (found.findings.batches, found.findings.graphs) == (2, 8)
    with MassiveActivations(model) as once:
        model(data[0])
        model(data[1])
    assert torch.equal(record_of(found).by_graph(), record_of(once).by_graph())
    assert record_of(found).calls == 3


def test_a_layer_used_twice_has_one_number_a_graph():
    torch.manual_seed(10)
    model, data = Net(["gt"]).eval(), batches(1)[0]
    model.layers.append(model.layers[0])
    with MassiveActivations(model) as found:
        run(model, data)
    assert list(found.findings.records) == ["layers.0"]
    record = record_of(found)
    assert record.calls == 2
    pair = [ratios(w).max(1) for w, _ in examined(model, data)]
    member = data.batch.numpy()[data.edge_index[1].numpy()]
    expected = [max(np.nanmax(r[member == g]) for r in pair) for g in range(data.num_graphs)]
    np.testing.assert_allclose(record.by_graph().numpy(), expected, rtol=1e-4)


def test_nodes_that_are_not_those_of_the_batch():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = GATConv(3, 2, 2)

        def forward(self, x, edge_index, batch):
            return self.conv(x[:4], edge_index[:, :3])

    model = Pooled()
    arguments = torch.randn(6, 3), torch.tensor([[0, 1, 2, 4], [1, 2, 3, 5]]), torch.zeros(6, dtype=torch.long)
    with (
        MassiveActivations(model),
        pytest.raises(ValueError, match=r"6 nodes of the batch .*4 targets.*per_graph=False"),
    ):
        model(*arguments)
    with MassiveActivations(model, per_graph=False) as found:
        model(*arguments)
        model(*arguments)
    assert len(record_of(found).by_graph()) == 2


def test_graphs_of_a_batch_in_any_loader_order():
    """The graphs' maxima do not depend on how they are put into batches."""
    torch.manual_seed(11)
    model, graphs = DataNet(["gatv2", "transformer-fused"]).eval(), [graph(5 + g, g) for g in range(6)]
    found = []
    for size in (1, 2, 6):
        with MassiveActivations(model) as watching:
            for start in range(0, 6, size):
                model(Batch.from_data_list(graphs[start : start + size]))
        found.append(watching)
    for number in range(2):
        maxima = [record_of(one, number).by_graph() for one in found]
        for other in maxima[1:]:
            torch.testing.assert_close(maxima[0], other, rtol=1e-4, atol=0)

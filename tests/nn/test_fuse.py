"""fuse and unfuse: layers swapped inside whole models, everything else untouched."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch_geometric.nn import GAT, GATConv, GATv2Conv, HeteroConv, to_hetero
from torch_geometric.nn import Sequential as GraphSequential

import gattn
from gattn.nn import FusedGATConv, fuse, unfuse

pytestmark = pytest.mark.usefixtures("fused_only")


def model() -> GAT:
    torch.manual_seed(1)
    return GAT(5, 8, num_layers=3, out_channels=4, heads=2).double()


def gradients(module, *args):
    out = module(*args)
    return [out, *torch.autograd.grad(out.square().sum(), list(module.parameters()))]


def test_names_and_types():
    gat = model()
    assert fuse(gat) == ["convs.0", "convs.1", "convs.2"]
    assert all(type(conv) is FusedGATConv for conv in gat.convs)
    assert fuse(gat) == []
    assert unfuse(gat) == ["convs.0", "convs.1", "convs.2"]
    assert all(type(conv) is GATConv for conv in gat.convs)
    assert "backend" not in vars(gat.convs[0])


def test_same_numbers(case):
    gat = model()
    expected = gradients(gat, case.x, case.edge_index)
    fuse(gat)
    torch.testing.assert_close(gradients(gat, case.x, case.edge_index), expected)
    unfuse(gat)
    torch.testing.assert_close(gradients(gat, case.x, case.edge_index), expected)


def test_a_layer_by_itself(case):
    layer = GATConv(5, 4).double()
    expected = layer(case.x, case.edge_index)
    assert fuse(layer) == [""]
    assert type(layer) is FusedGATConv
    torch.testing.assert_close(layer(case.x, case.edge_index), expected)


def test_nothing_to_swap():
    assert fuse(nn.Sequential(nn.Linear(2, 2), GATv2Conv(2, 2))) == []


def test_subclasses_are_left_alone():
    class Mine(GATConv):
        pass

    class MineFused(FusedGATConv):
        pass

    assert fuse(nn.ModuleList([Mine(2, 2)])) == []
    assert unfuse(nn.ModuleList([MineFused(2, 2)])) == []


def test_everything_a_layer_holds_survives(case):
    gat = model()
    gat.convs[1].eval()
    gat.convs[0].register_buffer("extra", torch.ones(1))
    gat.convs[0].note = "mine"
    calls = []
    gat.convs[0].register_forward_hook(lambda *args: calls.append(args))
    before = [(name, id(p)) for name, p in gat.named_parameters()]
    state = {name: value.clone() for name, value in gat.state_dict().items()}
    identities = [id(module) for module in gat.modules()]
    fuse(gat)
    assert [(name, id(p)) for name, p in gat.named_parameters()] == before
    assert [id(module) for module in gat.modules()] == identities
    assert list(gat.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in gat.state_dict().items())
    assert gat.convs[0].training
    assert not gat.convs[1].training
    assert gat.convs[0].note == "mine"
    gat(case.x, case.edge_index)
    assert len(calls) == 1


def test_optimizer_built_before_goes_on(case):
    models = model(), model()
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.1) for m in models]
    fuse(models[1])
    for m, optimizer in zip(models, optimizers, strict=True):
        for _ in range(5):
            optimizer.zero_grad()
            m(case.x, case.edge_index).square().sum().backward()
            optimizer.step()
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_shared_layer():
    layer = GATConv(4, 4)
    twice = nn.ModuleList([layer, nn.Sequential(layer)])
    assert fuse(twice) == ["0"]
    assert type(layer) is FusedGATConv
    assert twice[1][0] is twice[0]
    assert unfuse(twice) == ["0"]


def test_backend_is_passed_on(case):
    gat = model()
    expected = gat(case.x, case.edge_index)
    fuse(gat, backend="reference")
    assert {conv.backend for conv in gat.convs} == {"reference"}
    torch.testing.assert_close(gat(case.x, case.edge_index), expected)


def test_copies_of_a_fused_model(case):
    gat = model()
    expected = gat(case.x, case.edge_index)
    fuse(gat)
    buffer = io.BytesIO()
    torch.save(gat, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(gat), torch.load(buffer, weights_only=False)):
        assert type(twin.convs[0]) is FusedGATConv
        torch.testing.assert_close(twin(case.x, case.edge_index), expected)


def test_lazy_model(case):
    torch.manual_seed(1)
    plain = GAT(-1, 8, num_layers=2).double()
    fused = copy.deepcopy(plain)
    fuse(fused)
    for gat in (plain, fused):
        torch.manual_seed(2)
        gat(case.x, case.edge_index)
    torch.testing.assert_close(fused(case.x, case.edge_index), plain(case.x, case.edge_index))


def test_graph_sequential(case):
    torch.manual_seed(1)
    net = GraphSequential("x, edge_index", [(GATConv(5, 4), "x, edge_index -> x"), nn.ReLU(), nn.Linear(4, 2)])
    net = net.double()
    expected = net(case.x, case.edge_index)
    assert len(fuse(net)) == 1
    torch.testing.assert_close(net(case.x, case.edge_index), expected)


class TwoLayers(nn.Module):
    def __init__(self, layer: type[GATConv]) -> None:
        super().__init__()
        self.conv1 = layer((-1, -1), 8, heads=2, add_self_loops=False)
        self.conv2 = layer((-1, -1), 4, add_self_loops=False)

    def forward(self, x, edge_index):
        return self.conv2(self.conv1(x, edge_index).relu(), edge_index)


HETERO_TYPES = [("user", "buys", "item"), ("item", "sold_to", "user"), ("user", "knows", "user")]


@pytest.fixture
def hetero():
    generator = torch.Generator().manual_seed(3)
    sizes = {"user": 7, "item": 9}
    x = {kind: torch.randn(n, 5, generator=generator, dtype=torch.float64) for kind, n in sizes.items()}
    edges = {
        (src, rel, dst): torch.stack([torch.randint(sizes[kind], (20,), generator=generator) for kind in (src, dst)])
        for src, rel, dst in HETERO_TYPES
    }
    return x, edges


@pytest.mark.parametrize("when", ["built fused", "fused before", "fused after"])
def test_to_hetero(hetero, when):
    x, edges = hetero
    metadata = (list(x), HETERO_TYPES)
    plain = to_hetero(TwoLayers(GATConv), metadata).double()
    base = TwoLayers(FusedGATConv if when == "built fused" else GATConv)
    if when == "fused before":
        fuse(base)
    fused = to_hetero(base, metadata).double()
    if when == "fused after":
        assert len(fuse(fused)) == 6
    for net in (plain, fused):
        torch.manual_seed(2)
        net(x, edges)
    fused.load_state_dict(plain.state_dict())
    assert sum(type(module) is FusedGATConv for module in fused.modules()) == 6
    torch.testing.assert_close(fused(x, edges), plain(x, edges))


@pytest.mark.parametrize("swap", [True, False])
def test_hetero_conv(hetero, swap):
    x, edges = hetero

    def build(layer):
        torch.manual_seed(1)
        return HeteroConv({kind: layer((5, 5), 4, add_self_loops=False) for kind in HETERO_TYPES}).double()

    plain, fused = build(GATConv), build(GATConv if swap else FusedGATConv)
    if swap:
        assert len(fuse(fused)) == 3
    torch.testing.assert_close(fused(x, edges), plain(x, edges))


def test_public_names():
    assert gattn.fuse is fuse
    assert gattn.unfuse is unfuse
    assert gattn.FusedGATConv is FusedGATConv


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
def test_compiled_layer(case):
    layer = GATConv(5, 4, heads=2).double()
    expected = gradients(layer, case.x, case.edge_index)
    fuse(layer)
    compiled = torch.compile(layer, backend="aot_eager")
    torch.testing.assert_close(gradients(compiled, case.x, case.edge_index), expected)

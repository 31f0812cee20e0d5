"""fuse and unfuse: layers swapped inside whole models, everything else untouched."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch_geometric.nn import GATConv, GCNConv
from torch_geometric.nn import Sequential as GraphSequential

import gattn
from gattn.nn import FusedGATConv, FusedGATv2Conv, FusedTransformerConv, fuse, unfuse

pytestmark = pytest.mark.usefixtures("fused_only")


def gradients(module, *args):
    out = module(*args)
    return [out, *torch.autograd.grad(out.square().sum(), list(module.parameters()))]


def test_names_and_types(classes, make_net):
    plain, fused = classes
    net = make_net(plain)
    assert fuse(net) == ["conv1", "conv2"]
    assert all(type(conv) is fused for conv in net.children())
    assert fuse(net) == []
    assert unfuse(net) == ["conv1", "conv2"]
    assert all(type(conv) is plain for conv in net.children())
    assert not {"backend", "norm"} & vars(net.conv1).keys()


def test_same_numbers(classes, make_net, case):
    net = make_net(classes[0], edge_dim=3)
    args = case.x, case.edge_index, case.edge_attr
    expected = gradients(net, *args)
    fuse(net)
    torch.testing.assert_close(gradients(net, *args), expected)
    unfuse(net)
    torch.testing.assert_close(gradients(net, *args), expected)


def test_a_layer_by_itself(classes, case):
    plain, fused = classes
    layer = plain(5, 4).double()
    expected = layer(case.x, case.edge_index)
    assert fuse(layer) == [""]
    assert type(layer) is fused
    torch.testing.assert_close(layer(case.x, case.edge_index), expected)


def test_nothing_to_swap():
    assert fuse(nn.Sequential(nn.Linear(2, 2), GCNConv(2, 2))) == []


def test_subclasses_are_left_alone(classes):
    plain, fused = classes
    Mine, MineFused = type("Mine", (plain,), {}), type("MineFused", (fused,), {})
    assert fuse(nn.ModuleList([Mine(2, 2)])) == []
    assert unfuse(nn.ModuleList([MineFused(2, 2)])) == []


def test_a_norm_keeps_its_layer():
    # Without it the layer would compute something else.
    net = nn.ModuleList([FusedGATConv(2, 2), FusedGATConv(2, 2, norm="lipschitz")])
    with pytest.raises(ValueError, match="'1'"):
        unfuse(net)
    assert all(type(layer) is FusedGATConv for layer in net)
    net[1].norm = None
    assert unfuse(net) == ["0", "1"]


def test_everything_a_layer_holds_survives(classes, make_net, case):
    net = make_net(classes[0])
    net.conv2.eval()
    net.conv1.register_buffer("extra", torch.ones(1))
    net.conv1.note = "mine"
    calls = []
    net.conv1.register_forward_hook(lambda *args: calls.append(args))
    before = [(name, id(p)) for name, p in net.named_parameters()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    identities = [id(module) for module in net.modules()]
    fuse(net)
    assert [(name, id(p)) for name, p in net.named_parameters()] == before
    assert [id(module) for module in net.modules()] == identities
    assert list(net.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert net.conv1.training
    assert not net.conv2.training
    assert net.conv1.note == "mine"
    net(case.x, case.edge_index)
    assert len(calls) == 1


def test_optimizer_built_before_goes_on(classes, make_net, case):
    nets = make_net(classes[0]), make_net(classes[0])
    optimizers = [torch.optim.Adam(net.parameters(), lr=0.1) for net in nets]
    fuse(nets[1])
    for net, optimizer in zip(nets, optimizers, strict=True):
        for _ in range(5):
            optimizer.zero_grad()
            net(case.x, case.edge_index).square().sum().backward()
            optimizer.step()
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_shared_layer():
    layer = GATConv(4, 4)
    twice = nn.ModuleList([layer, nn.Sequential(layer)])
    assert fuse(twice) == ["0"]
    assert type(layer) is FusedGATConv
    assert twice[1][0] is twice[0]
    assert unfuse(twice) == ["0"]


def test_backend_is_passed_on(classes, make_net, case):
    net = make_net(classes[0])
    expected = net(case.x, case.edge_index)
    fuse(net, backend="reference")
    assert {conv.backend for conv in net.children()} == {"reference"}
    torch.testing.assert_close(net(case.x, case.edge_index), expected)


def test_copies_of_a_fused_model(classes, make_net, case):
    net = make_net(classes[0])
    expected = net(case.x, case.edge_index)
    fuse(net)
    # Only what a pickle can name: the layers, in a container of torch's.
    layers = nn.ModuleList(net.children())
    buffer = io.BytesIO()
    torch.save(layers, buffer)
    buffer.seek(0)
    for conv1, conv2 in (copy.deepcopy(layers), torch.load(buffer, weights_only=False)):
        assert type(conv1) is classes[1]
        torch.testing.assert_close(conv2(conv1(case.x, case.edge_index).relu(), case.edge_index), expected)


def test_lazy_model(classes, make_net, case):
    nets = [make_net(classes[0], in_channels=-1) for _ in range(2)]
    fuse(nets[1])
    for net in nets:
        torch.manual_seed(2)
        net(case.x, case.edge_index)
    plain, fused = nets
    torch.testing.assert_close(fused(case.x, case.edge_index), plain(case.x, case.edge_index))


def test_graph_sequential(case):
    torch.manual_seed(1)
    net = GraphSequential("x, edge_index", [(GATConv(5, 4), "x, edge_index -> x"), nn.ReLU(), nn.Linear(4, 2)])
    net = net.double()
    expected = net(case.x, case.edge_index)
    assert len(fuse(net)) == 1
    torch.testing.assert_close(net(case.x, case.edge_index), expected)


def test_public_names():
    assert gattn.fuse is fuse
    assert gattn.unfuse is unfuse
    assert gattn.FusedGATConv is FusedGATConv
    assert gattn.FusedGATv2Conv is FusedGATv2Conv
    assert gattn.FusedTransformerConv is FusedTransformerConv

"""Dropout, low precision and whole training runs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.datasets import KarateClub
from torch_geometric.nn import GAT

import gattn
from gattn.nn import fuse

pytestmark = pytest.mark.usefixtures("fused_only")


def reference_layer(layer, kind, x, edge_index):
    """The layer written out on ``gattn.reference``, its dropout seed drawn from torch's generator."""
    graph = gattn.Graph.from_edge_index(edge_index, x.size(0), self_loops=kind != "transformer")
    if kind == "gat":
        h = heads(layer, layer.lin(x))
        scores = [(h * att).sum(-1) for att in (layer.att_src, layer.att_dst)]
        out, alpha = gattn.reference.gat(h, *scores, graph, dropout_p=layer.dropout, return_attention=True)
        return out.flatten(1) + layer.bias, alpha
    if kind == "gatv2":
        projected = [heads(layer, lin(x)) for lin in (layer.lin_l, layer.lin_r)]
        out, alpha = gattn.reference.gatv2(
            *projected, layer.att[0], graph, dropout_p=layer.dropout, return_attention=True
        )
        return out.flatten(1) + layer.bias, alpha
    projected = [heads(layer, lin(x)) for lin in (layer.lin_query, layer.lin_key, layer.lin_value)]
    out, alpha = gattn.reference.dot(*projected, graph, dropout_p=layer.dropout, return_attention="before_dropout")
    return out.flatten(1) + layer.lin_skip(x), alpha


def heads(layer, x):
    return x.view(-1, layer.heads, layer.out_channels)


@pytest.mark.parametrize("backend", ["cpu", "reference", None])
def test_dropout_follows_torch_seed(classes, kind, case, backend):
    layer = classes[1](5, 4, heads=3, dropout=0.4, backend=backend).double()
    torch.manual_seed(11)
    out, (_, alpha) = layer(case.x, case.edge_index, return_attention_weights=True)
    torch.manual_seed(11)
    expected, expected_alpha = reference_layer(layer, kind, case.x, case.edge_index)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(alpha, expected_alpha)
    dropped = (alpha == 0).double().mean()
    assert dropped == 0 if kind == "transformer" else 0.1 < dropped < 0.7
    grads = [torch.autograd.grad(y.square().sum(), list(layer.parameters())) for y in (out, expected)]
    torch.testing.assert_close(*grads)
    assert not torch.equal(layer(case.x, case.edge_index), out)


def test_dropout_of_everything(classes, kind, case):
    options = {"root_weight": False} if kind == "transformer" else {}
    layer = classes[1](5, 4, dropout=1.0, bias=False, **options).double()
    assert not layer(case.x, case.edge_index).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("edges", [True, False])
def test_half_precision_layer(make_twins, case, edges, dtype):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3 if edges else None, dtype=dtype)
    wide, _ = make_twins(5, 4, heads=2, edge_dim=3 if edges else None)
    wide.load_state_dict(plain.state_dict())
    edge_attr = case.edge_attr if edges else None

    def run(layer, dtype):
        attr = None if edge_attr is None else edge_attr.to(dtype)
        out, (_, alpha) = layer(case.x.to(dtype), case.edge_index, attr, return_attention_weights=True)
        assert out.dtype is alpha.dtype is dtype
        return out.double(), alpha.double()

    expected = run(wide, torch.float64)
    for got, exact, peer in zip(run(fused, dtype), expected, run(plain, dtype), strict=True):
        # No further from the exact result than PyG in the same dtype, but for a rounding of the output.
        room = torch.finfo(dtype).eps * exact.abs().max()
        assert (got - exact).abs().max() <= 1.5 * (peer - exact).abs().max() + room


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("edges", [True, False])
def test_autocast(make_twins, make_case, edges, dtype, bias):
    case = make_case(dtype=torch.float32)
    layers = make_twins(5, 4, heads=2, bias=bias, edge_dim=3 if edges else None, dtype=torch.float32)
    edge_attr = case.edge_attr if edges else None
    exact, (_, exact_alpha) = layers[0](case.x, case.edge_index, edge_attr, return_attention_weights=True)
    outs, grads = [], []
    for layer in layers:
        with torch.autocast("cpu", dtype=dtype):
            out, (_, alpha) = layer(case.x, case.edge_index, edge_attr, return_attention_weights=True)
        outs.append(out)
        grads.append(torch.autograd.grad(out.float().square().sum(), list(layer.parameters())))
    assert outs[1].dtype is outs[0].dtype
    assert alpha.dtype is torch.float32
    torch.testing.assert_close(outs[1].float(), exact, rtol=0, atol=6e-2)
    torch.testing.assert_close(alpha, exact_alpha, rtol=0, atol=2e-2)
    torch.testing.assert_close(grads[1], grads[0], rtol=0.1, atol=0.3)


@pytest.mark.parametrize("kind", ["gatv2", "transformer"])
def test_autocast_with_an_edge_map_that_stays_wide(make_twins, make_case):
    # Autocast runs some modules in single precision: their features meet those of a linear map.
    case = make_case(dtype=torch.float32)
    layers = make_twins(5, 4, heads=2, edge_dim=3, dtype=torch.float32)
    outs = []
    for layer in layers:
        layer.lin_edge = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8))
        torch.manual_seed(2)
        layer.lin_edge[0].reset_parameters()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outs.append(layer(case.x, case.edge_index, case.edge_attr))
    assert outs[0].dtype is outs[1].dtype
    torch.testing.assert_close(outs[1], outs[0], rtol=0, atol=3e-2)


def train(model, data, *, epochs=50, fused=False):
    """The loss curve of full-batch training from a fixed seed, dropout 0."""
    if fused:
        fuse(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        out = model(data.x, data.edge_index)
        loss = F.cross_entropy(out[data.train_mask], data.y[data.train_mask])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses)


def test_karate_converges_as_pyg(classes, make_net):
    dataset = KarateClub()
    nets = [make_net(cls, in_channels=34, out_channels=dataset.num_classes, dtype=torch.float32) for cls in classes]
    plain, fused = (train(net, dataset[0]) for net in nets)
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-4)
    assert fused[-1] < 0.5 * fused[0]


@pytest.mark.data
@pytest.mark.slow
def test_cora_converges_as_pyg(data_copy):
    from torch_geometric.datasets import Planetoid

    dataset = Planetoid(str(data_copy("planetoid")), "Cora")
    data = dataset[0]
    data.x = data.x[:, :100]  # the first layer's linear map would be most of the time
    runs = []
    for fused in (False, True):
        torch.manual_seed(0)
        model = GAT(data.num_features, 8, num_layers=2, out_channels=dataset.num_classes, heads=2)
        runs.append(train(model, data, fused=fused))
    torch.testing.assert_close(*runs, rtol=0, atol=1e-4)


def test_training_with_dropout_learns(classes, make_net):
    data = KarateClub()[0]
    net = make_net(classes[1], in_channels=34, out_channels=4, dropout=0.5, dtype=torch.float32)
    losses = train(net, data, epochs=80)
    assert losses[-10:].mean() < 0.6 * losses[0]


@pytest.mark.parametrize("kind", ["gat"])
def test_no_grad_for_frozen_parameters(make_twins, case):
    grads = []
    for layer in make_twins(5, 4, heads=2):
        layer.lin.requires_grad_(False)
        layer.att_dst.requires_grad_(False)
        layer(case.x, case.edge_index).square().sum().backward()
        assert layer.lin.weight.grad is None
        assert layer.att_dst.grad is None
        grads.append((layer.att_src.grad, layer.bias.grad))
    torch.testing.assert_close(*grads)


def test_gradient_to_edge_features_only(make_twins, case):
    grads = []
    for layer in make_twins(5, 4, heads=2, edge_dim=3):
        layer.requires_grad_(False)
        edge_attr = case.edge_attr.clone().requires_grad_()
        layer(case.x, case.edge_index, edge_attr).square().sum().backward()
        grads.append(edge_attr.grad)
    torch.testing.assert_close(*grads)


def test_gradient_penalty(make_twins, case):
    # Through the gradient of the features into the parameters: second derivatives.
    grads = []
    for layer in make_twins(5, 4, heads=2, edge_dim=3):
        x = case.x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            layer(x, case.edge_index, case.edge_attr).square().sum(), x, create_graph=True
        )
        grads.append(torch.autograd.grad(gradient.square().sum(), list(layer.parameters()), allow_unused=True))
    for got, expected in zip(*reversed(grads), strict=True):
        if expected is None or not expected.any():
            assert got is None or not got.any()
        else:
            torch.testing.assert_close(got, expected)

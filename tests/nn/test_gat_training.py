"""Dropout, low precision and whole training runs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.datasets import KarateClub
from torch_geometric.nn import GAT, GATConv

import gattn
from gattn.nn import FusedGATConv, fuse

pytestmark = pytest.mark.usefixtures("fused_only")


def reference_layer(layer, x, edge_index):
    """The layer written out on ``gattn.reference``, its dropout seed drawn from torch's generator."""
    graph = gattn.Graph.from_edge_index(edge_index, x.size(0), self_loops=True)
    h = layer.lin(x).view(-1, layer.heads, layer.out_channels)
    scores = [(h * att).sum(-1) for att in (layer.att_src, layer.att_dst)]
    out, alpha = gattn.reference.gat(h, *scores, graph, dropout_p=layer.dropout, return_attention=True)
    return out.flatten(1) + layer.bias, alpha


@pytest.mark.parametrize("backend", ["cpu", "reference", None])
def test_dropout_follows_torch_seed(case, backend):
    layer = FusedGATConv(5, 4, heads=3, dropout=0.4, backend=backend).double()
    torch.manual_seed(11)
    out, (_, alpha) = layer(case.x, case.edge_index, return_attention_weights=True)
    torch.manual_seed(11)
    expected, expected_alpha = reference_layer(layer, case.x, case.edge_index)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(alpha, expected_alpha)
    dropped = (alpha == 0).double().mean()
    assert 0.1 < dropped < 0.7
    grads = [torch.autograd.grad(y.square().sum(), list(layer.parameters())) for y in (out, expected)]
    torch.testing.assert_close(*grads)
    assert not torch.equal(layer(case.x, case.edge_index), out)


def test_dropout_of_everything(case):
    layer = FusedGATConv(5, 4, dropout=1.0, bias=False).double()
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
    exact = layers[0](case.x, case.edge_index, case.edge_attr)
    outs, grads = [], []
    for layer in layers:
        with torch.autocast("cpu", dtype=dtype):
            out, (_, alpha) = layer(
                case.x, case.edge_index, case.edge_attr if edges else None, return_attention_weights=True
            )
        outs.append(out)
        assert alpha.dtype is torch.float32
        grads.append(torch.autograd.grad(out.square().sum(), list(layer.parameters())))
    assert outs[1].dtype is outs[0].dtype is torch.float32
    torch.testing.assert_close(outs[1], exact, rtol=0, atol=6e-2)
    torch.testing.assert_close(grads[1], grads[0], rtol=0.1, atol=0.3)


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


def curves(data, num_classes, *, heads):
    runs = []
    for fused in (False, True):
        torch.manual_seed(0)
        model = GAT(data.num_features, 8, num_layers=2, out_channels=num_classes, heads=heads)
        runs.append(train(model, data, fused=fused))
    return runs


def test_karate_converges_as_pyg():
    dataset = KarateClub()
    plain, fused = curves(dataset[0], dataset.num_classes, heads=4)
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-4)
    assert fused[-1] < 0.5 * fused[0]


@pytest.mark.data
@pytest.mark.slow
def test_cora_converges_as_pyg(data_copy):
    from torch_geometric.datasets import Planetoid

    dataset = Planetoid(str(data_copy("planetoid")), "Cora")
    data = dataset[0]
    data.x = data.x[:, :100]  # the first layer's linear map would be most of the time
    plain, fused = curves(data, dataset.num_classes, heads=2)
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-4)


def test_training_with_dropout_learns():
    data = KarateClub()[0]
    torch.manual_seed(0)
    layers = [FusedGATConv(34, 8, heads=4, dropout=0.5), FusedGATConv(32, 4, heads=1, dropout=0.5)]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(layers)

        def forward(self, x, edge_index):
            return self.layers[1](self.layers[0](x, edge_index).relu(), edge_index)

    losses = train(Net(), data, epochs=80)
    assert losses[-10:].mean() < 0.6 * losses[0]


def test_no_grad_for_frozen_parameters(case):
    torch.manual_seed(1)
    layers = [cls(5, 4, heads=2).double() for cls in (GATConv, FusedGATConv)]
    layers[1].load_state_dict(layers[0].state_dict())
    grads = []
    for layer in layers:
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

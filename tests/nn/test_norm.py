"""``norm="lipschitz"``: against the formulas written out on PyG's parameters, and what it promises."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.nn import GATConv, TransformerConv
from torch_geometric.utils import softmax

from gattn.nn import FusedGATConv, FusedTransformerConv

KINDS = ("gat", "transformer")


def largest(values, edge_index, num_dst):
    """Per target and head, the largest of the values of its sources."""
    rows = [values[edge_index[0, edge_index[1] == i]] for i in range(num_dst)]
    return torch.stack([row.max(dim=0).values if len(row) else values.new_zeros(values.size(1)) for row in rows])


def aggregate(alpha, values, edge_index, num_dst):
    messages = alpha.unsqueeze(-1) * values[edge_index[0]]
    return messages.new_zeros(num_dst, *messages.shape[1:]).index_add(0, edge_index[1], messages)


def gat(layer, x_src, x_dst, edge_index):
    """Dasoulas et al., equation 13: returns the output and the scores before LeakyReLU."""
    divisor_weight = 4 * torch.cat([layer.att_src, layer.att_dst], dim=2)[0].norm(dim=1)
    farthest = largest(x_src.norm(dim=2), edge_index, x_dst.size(0))
    c = divisor_weight * (x_dst.norm(dim=2) ** 2 + farthest**2).sqrt()
    source, target = edge_index
    t = (x_src * layer.att_src).sum(-1)[source] + (x_dst * layer.att_dst).sum(-1)[target]
    t = t / c[target]
    alpha = softmax(F.leaky_relu(t, layer.negative_slope), target, num_nodes=x_dst.size(0))
    return aggregate(alpha, x_src, edge_index, x_dst.size(0)).flatten(1) + layer.bias, t


def transformer(layer, x, x_dst, edge_index):
    q, k, v = (
        lin(features).view(-1, layer.heads, layer.out_channels)
        for lin, features in ((layer.lin_query, x_dst), (layer.lin_key, x), (layer.lin_value, x))
    )
    num_dst = q.size(0)
    u = q.square().sum(dim=(0, 2)).sqrt()
    v_max, w_max = (largest(t.norm(dim=2), edge_index, num_dst) for t in (k, v))
    c = torch.stack([u * v_max, u * w_max, v_max * w_max]).max(dim=0).values
    source, target = edge_index
    t = (q[target] * k[source]).sum(-1) / layer.out_channels**0.5 / c[target]
    alpha = softmax(t, target, num_nodes=num_dst)
    return aggregate(alpha, v, edge_index, num_dst).flatten(1) + layer.lin_skip(x_dst), t


def same_with_gradients(layer, out, expected):
    torch.testing.assert_close(out, expected)
    grads = [torch.autograd.grad(y.sin().sum(), list(layer.parameters())) for y in (out, expected)]
    torch.testing.assert_close(*grads)


def test_gat(fused_only, case):
    layer = FusedGATConv(5, 4, heads=3, norm="lipschitz").double()
    edge_index = layer(case.x, case.edge_index, return_attention_weights=True)[1][0]
    x = layer.lin(case.x).view(-1, 3, 4)
    expected, t = gat(layer, x, x, edge_index)
    same_with_gradients(layer, layer(case.x, case.edge_index), expected)
    assert t.abs().max() <= 0.25


def test_gat_between_two_sets(fused_only, bipartite):
    layer = FusedGATConv((5, 6), 4, heads=3, norm="lipschitz", add_self_loops=False).double()
    x_src, x_dst = (
        lin(x).view(-1, 3, 4) for lin, x in ((layer.lin_src, bipartite.x), (layer.lin_dst, bipartite.x_dst))
    )
    expected, _ = gat(layer, x_src, x_dst, bipartite.edge_index)
    same_with_gradients(layer, layer((bipartite.x, bipartite.x_dst), bipartite.edge_index), expected)
    expected, _ = gat(layer, x_src, torch.zeros_like(x_dst), bipartite.edge_index)
    torch.testing.assert_close(layer((bipartite.x, None), bipartite.edge_index, size=(9, 7)), expected)


def test_transformer(fused_only, bipartite):
    layer = FusedTransformerConv((5, 6), 4, heads=3, norm="lipschitz").double()
    expected, t = transformer(layer, bipartite.x, bipartite.x_dst, bipartite.edge_index)
    same_with_gradients(layer, layer((bipartite.x, bipartite.x_dst), bipartite.edge_index), expected)
    assert t.abs().max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_scale_of_the_features_does_not_sharpen_the_attention(classes, case):
    layer = classes[1](5, 4, heads=2, norm="lipschitz", bias=False).double()
    (_, (_, once)), (_, (_, more)) = (
        layer(scale * case.x, case.edge_index, return_attention_weights=True) for scale in (1, 1000)
    )
    torch.testing.assert_close(more, once)


@pytest.mark.parametrize("kind", KINDS)
def test_edge_features_take_part(classes, case):
    layer = classes[1](5, 4, heads=2, norm="lipschitz", edge_dim=3).double()
    edge_attr = case.edge_attr.requires_grad_()
    layer(case.x, case.edge_index, edge_attr).square().sum().backward()
    assert edge_attr.grad.any()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_low_precision(classes, make_case, dtype):
    case = make_case(dtype=torch.float32)
    layer = classes[1](5, 4, heads=2, norm="lipschitz")
    x = 300 * case.x  # whose squared norms float16 cannot hold
    exact = layer(x, case.edge_index).detach()
    with torch.autocast("cpu", dtype=dtype):
        out = layer(x, case.edge_index)
    torch.testing.assert_close(out.float(), exact, rtol=0.03, atol=0.03 * float(exact.abs().max()))
    out.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    half = layer.to(dtype)(x.to(dtype), case.edge_index)
    torch.testing.assert_close(half.float(), exact, rtol=0.03, atol=0.03 * float(exact.abs().max()))


@pytest.mark.parametrize("num_nodes", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_no_edges(classes, kind, num_nodes):
    options = {"add_self_loops": False} if kind == "gat" else {}
    layer = classes[1](5, 4, norm="lipschitz", **options).double()
    out = layer(torch.randn(num_nodes, 5).double(), torch.empty(2, 0, dtype=torch.long))
    assert out.shape == (num_nodes, 4)
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_the_fused_path_raises(classes, case):
    layer = classes[1](5, 4, norm="lipschitz").double()
    layer.register_message_forward_hook(lambda *args: None)
    with pytest.raises(NotImplementedError, match=r"norm='lipschitz'.*message hooks are registered"):
        layer(case.x, case.edge_index)


@pytest.mark.parametrize(("fused", "plain"), [(FusedGATConv, GATConv), (FusedTransformerConv, TransformerConv)])
def test_parameters_are_those_of_the_plain_layer(fused, plain):
    torch.manual_seed(1)
    expected = plain(5, 4, heads=2).state_dict()
    torch.manual_seed(1)
    layer = fused(5, 4, heads=2, norm="lipschitz")
    torch.testing.assert_close(layer.state_dict(), expected, rtol=0, atol=0)
    assert str(layer) == str(fused(5, 4, heads=2))

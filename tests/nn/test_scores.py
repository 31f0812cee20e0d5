"""The logits that the layer computes beside the op."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch_geometric.nn import Linear

from gattn.nn._scores import edge_scores, node_scores


def inputs(*, heads=3, channels=4, dtype=torch.float64):
    x, y = (torch.randn(n, heads, channels, dtype=dtype, requires_grad=True) for n in (6, 5))
    att = [torch.randn(1, heads, channels, dtype=dtype, requires_grad=True) for _ in range(2)]
    return x, y, *att


CASES = {
    "one graph": lambda x, y, a, b: node_scores(x, x, a, b),
    "bipartite": node_scores,
    "no targets": lambda x, y, a, b: node_scores(x, None, a, b)[:1],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("heads", "channels"), [(1, 1), (1, 4), (3, 1), (3, 4)])
def test_values(case, heads, channels):
    x, y, att_src, att_dst = inputs(heads=heads, channels=channels)
    got = CASES[case](x, y, att_src, att_dst)
    targets = {"one graph": x, "bipartite": y}
    expected = [(x * att_src).sum(-1)]
    if case in targets:
        expected.append((targets[case] * att_dst).sum(-1))
    torch.testing.assert_close(list(got), expected)


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    x, y, att_src, att_dst = inputs()
    assert gradcheck(CASES[case], (x, y, att_src, att_dst))
    assert gradgradcheck(CASES[case], (x, y, att_src, att_dst))


@pytest.mark.parametrize("frozen", range(3))
def test_frozen_inputs_get_no_gradient(frozen):
    x, _, *att = inputs()
    leaves = [x, *att]
    leaves[frozen].requires_grad_(False)
    a_src, a_dst = node_scores(x, x, *att)
    (a_src.sin() + a_dst.cos()).sum().backward()
    assert [leaf.grad is None for leaf in leaves] == [i == frozen for i in range(3)]


@pytest.mark.parametrize("inside", [True, False])
def test_autocast_keeps_the_precision_of_the_parameters(inside):
    x, y, att_src, att_dst = inputs(dtype=torch.float32)
    lin = Linear(3, 12, bias=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = [
            *node_scores(x.bfloat16(), y.bfloat16(), att_src, att_dst),
            edge_scores(torch.randn(7, 3).bfloat16(), lin, att_src),
        ]
        assert all(score.dtype is torch.float32 for score in scores)
        loss = torch.stack([score.square().sum() for score in scores]).sum()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    exact = [(h.bfloat16().float() * a).sum(-1) for h, a in ((x, att_src), (y, att_dst))]
    torch.testing.assert_close(scores[:2], exact)
    assert all(leaf.grad is not None for leaf in (x, y, att_src, att_dst, lin.weight))


@pytest.mark.parametrize("rank", [1, 2])
def test_edge_scores_match_the_layer_written_out(rank):
    lin = Linear(1, 12, bias=False).double()
    att = torch.randn(1, 3, 4, dtype=torch.float64)
    edge_attr = torch.randn((7, 1)[:rank], dtype=torch.float64)
    expected = (lin(edge_attr.view(7, 1)).view(7, 3, 4) * att).sum(-1)
    torch.testing.assert_close(edge_scores(edge_attr, lin, att), expected)

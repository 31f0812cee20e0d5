"""The logits that the layer computes beside the op."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch_geometric.nn import Linear

from gattn.nn._scores import edge_scores, node_scores


def inputs(*, heads=3, channels=4, dtype=torch.float64):
    x, att = torch.randn(6, heads, channels, dtype=dtype), torch.randn(1, heads, channels, dtype=dtype)
    return x.requires_grad_(), att.requires_grad_()


@pytest.mark.parametrize(("heads", "channels"), [(1, 1), (1, 4), (3, 1), (3, 4)])
def test_node_scores(heads, channels):
    x, att = inputs(heads=heads, channels=channels)
    torch.testing.assert_close(node_scores(x, att), (x * att).sum(-1))
    assert gradcheck(node_scores, (x, att))
    assert gradgradcheck(node_scores, (x, att))


def test_autocast_keeps_the_precision_of_the_parameters():
    x, att = inputs(dtype=torch.float32)
    lin, edge_attr = Linear(3, 12, bias=False), torch.randn(7, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nodes, edges = node_scores(x.bfloat16(), att), edge_scores(edge_attr, lin, att)
    torch.testing.assert_close(nodes, (x.bfloat16().float() * att).sum(-1))
    torch.testing.assert_close(edges, (lin(edge_attr.float()).view(7, 3, 4) * att).sum(-1))
    (nodes.sum() + edges.sum()).backward()
    assert all(leaf.grad is not None for leaf in (x, att, lin.weight))


@pytest.mark.parametrize("rank", [1, 2])
def test_edge_scores_match_the_layer_written_out(rank):
    lin = Linear(1, 12, bias=False).double()
    att = torch.randn(1, 3, 4, dtype=torch.float64)
    edge_attr = torch.randn((7, 1)[:rank], dtype=torch.float64)
    expected = (lin(edge_attr.view(7, 1)).view(7, 3, 4) * att).sum(-1)
    torch.testing.assert_close(edge_scores(edge_attr, lin, att), expected)

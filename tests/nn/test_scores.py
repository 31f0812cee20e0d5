"""The logits that the layer computes beside the op."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import Linear

from gattn.nn._scores import edge_scores


def test_autocast_keeps_the_precision_of_the_parameters():
    att = torch.randn(1, 3, 4, requires_grad=True)
    lin, edge_attr = Linear(3, 12, bias=False), torch.randn(7, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        edges = edge_scores(edge_attr, lin, att)
    torch.testing.assert_close(edges, (lin(edge_attr.float()).view(7, 3, 4) * att).sum(-1))
    edges.sum().backward()
    assert att.grad is not None
    assert lin.weight.grad is not None


@pytest.mark.parametrize("rank", [1, 2])
def test_edge_scores_match_the_layer_written_out(rank):
    lin = Linear(1, 12, bias=False).double()
    att = torch.randn(1, 3, 4, dtype=torch.float64)
    edge_attr = torch.randn((7, 1)[:rank], dtype=torch.float64)
    expected = (lin(edge_attr.view(7, 1)).view(7, 3, 4) * att).sum(-1)
    torch.testing.assert_close(edge_scores(edge_attr, lin, att), expected)

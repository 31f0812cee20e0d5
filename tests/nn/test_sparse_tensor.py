"""``torch_sparse.SparseTensor`` as the adjacency, where torch_sparse is installed."""

from __future__ import annotations

import pytest
import torch

torch_sparse = pytest.importorskip("torch_sparse", reason="torch_sparse is not installed")


def adj_t(case, value=None):
    row, col = case.edge_index.flip(0)
    return torch_sparse.SparseTensor(row=row, col=col, value=value, sparse_sizes=(case.num_dst, case.num_src))


def without_loops(kind):
    return {} if kind == "transformer" else {"add_self_loops": False}


@pytest.mark.parametrize(
    ("kind", "options", "target_features"),
    [
        ("gat", {}, True),
        ("gat", {}, False),
        ("gat", {"add_self_loops": False}, False),
        ("gatv2", {}, True),
        ("gatv2", {"add_self_loops": False}, True),
        ("transformer", {}, True),
    ],
)
def test_adjacency(make_twins, assert_same, bipartite, options, target_features):
    plain, fused = make_twins((5, 6), 4, heads=2, **options)
    x, adj = (bipartite.x, bipartite.x_dst if target_features else None), adj_t(bipartite)
    for _ in range(2):  # the second time from the cache
        assert_same(plain, fused, x, adj)
    expected_out, expected = plain(x, adj, return_attention_weights=True)
    out, got = fused(x, adj, return_attention_weights=True)
    torch.testing.assert_close(out, expected_out)
    assert isinstance(got, torch_sparse.SparseTensor)
    assert got.sizes() == expected.sizes()
    for a, b in zip(got.coo(), expected.coo(), strict=True):
        torch.testing.assert_close(a, b)


def test_values_are_edge_features(make_twins, assert_same, kind, case):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3, **without_loops(kind))
    assert_same(plain, fused, case.x, adj_t(case, case.edge_attr))
    assert_same(plain, fused, case.x, adj_t(case), case.edge_attr)


@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_weights_are_not_features(make_twins, assert_same, case):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=1, add_self_loops=False)
    assert_same(plain, fused, case.x, adj_t(case, case.edge_attr[:, 0]))


@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_self_loops_with_edge_features(make_twins, case):
    for layer in make_twins(5, 4, edge_dim=3):
        with pytest.raises(NotImplementedError, match="'edge_index' in a 'SparseTensor' form"):
            layer(case.x, adj_t(case, case.edge_attr))


def test_against_the_flow(make_twins, case):
    for layer in make_twins(5, 4, flow="target_to_source"):
        with pytest.raises(ValueError, match='Flow direction "target_to_source" is invalid'):
            layer(case.x, adj_t(case))


def test_shape_disagrees_with_features(make_twins, case):
    for layer in make_twins(5, 4):
        with pytest.raises(ValueError, match="expected size 9"):
            layer(case.x[:8], adj_t(case))

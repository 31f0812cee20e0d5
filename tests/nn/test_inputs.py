"""Every form of graph that PyG's layers take, and the attention that they return."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.utils import to_torch_coo_tensor, to_torch_csc_tensor, to_torch_csr_tensor

from gattn.nn import _edges

ADDITIVE = ("gat", "gatv2")

TO_SPARSE = {"coo": to_torch_coo_tensor, "csr": to_torch_csr_tensor, "csc": to_torch_csc_tensor}


#: Kinds of layers, with and without self-loops to append.
LOOPED = [("gat", True), ("gat", False), ("gatv2", True), ("gatv2", False), ("transformer", False)]


def loop_option(kind, self_loops):
    """The constructor's option for self-loops, of layers that have one."""
    return {} if kind == "transformer" else {"add_self_loops": self_loops}


def adj_t(case, layout, values=None):
    """The transposed adjacency (rows are targets) of a case, duplicates merged."""
    return TO_SPARSE[layout](case.edge_index.flip(0), values, size=(case.num_dst, case.num_src))


def assert_same_edges(got, expected):
    assert type(got) is type(expected)
    if got.layout is torch.strided:
        assert torch.equal(torch.as_tensor(got), torch.as_tensor(expected))
    else:
        assert got.layout is expected.layout
        assert got.shape == expected.shape
        assert torch.equal(got.to_dense(), expected.to_dense()) or torch.allclose(got.to_dense(), expected.to_dense())


@pytest.mark.parametrize("weights", [None, True, False, 1, 0, torch.tensor(True)], ids=str)
def test_when_attention_is_returned(make_twins, assert_same, case, kind, weights):
    plain, fused = make_twins(5, 4, heads=2)
    result = assert_same(plain, fused, case.x, case.edge_index, return_attention_weights=weights)
    assert isinstance(result, tuple) == (isinstance(weights, bool) if kind == "transformer" else bool(weights))


@pytest.mark.parametrize(
    ("kind", "self_loops", "dtype"),
    [*((*looped, torch.int64) for looped in LOOPED), ("gat", True, torch.int32), ("gatv2", True, torch.int16)],
)
@pytest.mark.parametrize("flow", ["source_to_target", "target_to_source"])
def test_returned_edges(make_twins, assert_same, case, kind, flow, self_loops, dtype):
    edge_index = case.edge_index.to(dtype)
    plain, fused = make_twins(5, 4, heads=2, flow=flow, **loop_option(kind, self_loops))
    _, (edges, alpha) = assert_same(plain, fused, case.x, edge_index, return_attention_weights=True)
    _, (expected, _) = plain(case.x, edge_index, return_attention_weights=True)
    assert_same_edges(edges, expected)
    assert edges.dtype is expected.dtype
    assert alpha.shape == (edges.size(1), 2)


@pytest.mark.parametrize("kind", ADDITIVE)
def test_returned_edges_are_the_callers(make_twins, case):
    _, fused = make_twins(5, 4, edge_dim=3)
    expected = fused(case.x, case.edge_index, case.edge_attr)
    fused(case.x, case.edge_index, return_attention_weights=True)[1][0].zero_()
    torch.testing.assert_close(fused(case.x, case.edge_index, case.edge_attr), expected)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_narrow_integers_without_loops(make_twins, case, kind, dtype):
    # PyG takes these only where appending self-loops widens them.
    _, fused = make_twins(5, 4, heads=2, **loop_option(kind, False))
    out, (edges, _) = fused(case.x, case.edge_index.to(dtype), return_attention_weights=True)
    torch.testing.assert_close(out, fused(case.x, case.edge_index))
    assert edges.dtype is dtype


@pytest.mark.parametrize("layout", ["coo", "csr"])
@pytest.mark.parametrize(
    ("kind", "self_loops", "target_features"),
    [*((*looped, True) for looped in LOOPED), ("gat", True, False), ("gat", False, False)],
)
def test_sparse(make_twins, assert_same, bipartite, kind, target_features, self_loops, layout):
    plain, fused = make_twins((5, 6), 4, heads=2, **loop_option(kind, self_loops))
    x = (bipartite.x, bipartite.x_dst if target_features else None)
    adj = adj_t(bipartite, layout)
    for _ in range(2):  # the second time from the cache
        _, (edges, _) = assert_same(plain, fused, x, adj, return_attention_weights=True)
        assert_same_edges(edges, plain(x, adj, return_attention_weights=True)[1][0])


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_sparse_with_edge_attr(make_twins, assert_same, case, kind, layout):
    adj = adj_t(case, layout)
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3, **loop_option(kind, False))
    assert_same(plain, fused, case.x, adj, case.edge_attr[: adj._nnz()])


@pytest.mark.parametrize("layout", ["coo", "csr"])
@pytest.mark.parametrize(("kind", "self_loops"), LOOPED)
@pytest.mark.parametrize("fill", ["mean", 0.5])
def test_sparse_values_are_edge_features(make_twins, assert_same, case, kind, fill, self_loops, layout):
    adj = adj_t(case, layout, case.edge_attr)
    filled = {"fill_value": fill} if self_loops else {}
    plain, fused = make_twins(5, 4, heads=2, edge_dim=3, **loop_option(kind, self_loops), **filled)
    assert_same(plain, fused, case.x, adj)


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("kind", ADDITIVE)
def test_sparse_weights_are_not_features(make_twins, assert_same, case, self_loops):
    adj = adj_t(case, "csr", case.edge_attr[:, 0])
    plain, fused = make_twins(5, 4, heads=2, edge_dim=1, add_self_loops=self_loops)
    assert_same(plain, fused, case.x, adj)


def test_csc(make_twins, assert_same, kind, bipartite):
    # PyG's own path has CSC in its signature but refuses it; here it is one more order of the same edges.
    plain, fused = make_twins((5, 6), 4, heads=2, edge_dim=3, **loop_option(kind, False))
    x, csr, csc = (bipartite.x, bipartite.x_dst), adj_t(bipartite, "csr"), adj_t(bipartite, "csc")
    to_csr = torch.argsort(csc.row_indices(), stable=True)
    edge_attr = bipartite.edge_attr[: csc._nnz()]
    out, (adj, alpha) = fused(x, csc, edge_attr, return_attention_weights=True)
    expected, (expected_adj, expected_alpha) = plain(x, csr, edge_attr[to_csr], return_attention_weights=True)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(alpha[to_csr], expected_alpha)
    assert adj.layout is torch.sparse_csc
    torch.testing.assert_close(adj.to_dense(), expected_adj.to_dense())


def test_sparse_changed_in_place(make_twins, assert_same, case):
    adj = adj_t(case, "csr")
    plain, fused = make_twins(5, 4, heads=2)
    assert_same(plain, fused, case.x, adj)
    adj.col_indices()[0] = (adj.col_indices()[0] + 1) % 2
    assert_same(plain, fused, case.x, adj)


@pytest.mark.parametrize(("sized", "sort_order"), [(False, None), (True, None), (True, "row"), (True, "col")])
@pytest.mark.parametrize(("kind", "self_loops"), LOOPED)
@pytest.mark.parametrize("flow", ["source_to_target", "target_to_source"])
def test_edge_index_class(make_twins, assert_same, case, kind, flow, self_loops, sized, sort_order):
    edge_index = EdgeIndex(case.edge_index, sparse_size=(9, 9) if sized else None)
    if sort_order is not None:
        edge_index = edge_index.sort_by(sort_order)[0]
    plain, fused = make_twins(5, 4, heads=2, flow=flow, edge_dim=3, **loop_option(kind, self_loops))
    result = assert_same(plain, fused, case.x, edge_index, case.edge_attr, return_attention_weights=True)
    assert_same_edges(result[1][0], plain(case.x, edge_index, case.edge_attr, return_attention_weights=True)[1][0])


def test_bipartite_edge_index_class(make_twins, assert_same, kind, bipartite):
    edge_index = EdgeIndex(bipartite.edge_index, sparse_size=(9, 7))
    plain, fused = make_twins((5, 6), 4, heads=2, **loop_option(kind, False))
    assert_same(plain, fused, (bipartite.x, bipartite.x_dst), edge_index)
    if kind == "gat":
        assert_same(plain, fused, (bipartite.x, None), edge_index)


@pytest.mark.parametrize("kind", ["transformer"])
def test_reverse_edge_index_class_between_two_sets(make_twins, assert_same, bipartite):
    edge_index = EdgeIndex(bipartite.edge_index.flip(0), sparse_size=(7, 9))
    plain, fused = make_twins((5, 6), 4, heads=2, flow="target_to_source")
    assert_same(plain, fused, (bipartite.x, bipartite.x_dst), edge_index)


@pytest.mark.parametrize("num_nodes", [0, 3])
@pytest.mark.parametrize(("kind", "self_loops"), LOOPED)
@pytest.mark.parametrize("edge_dim", [None, 2])
def test_no_edges(make_twins, assert_same, kind, edge_dim, self_loops, num_nodes):
    plain, fused = make_twins(5, 4, heads=2, edge_dim=edge_dim, **loop_option(kind, self_loops))
    x = torch.randn(num_nodes, 5, dtype=torch.float64)
    edge_index = torch.empty(2, 0, dtype=torch.long)
    edge_attr = None if edge_dim is None else torch.empty(0, 2, dtype=torch.float64)
    assert_same(plain, fused, x, edge_index, edge_attr, return_attention_weights=True)


def test_non_contiguous(make_twins, assert_same, case):
    plain, fused = make_twins(5, 4, heads=2)
    assert_same(plain, fused, case.x.t().contiguous().t(), case.edge_index.t().contiguous().t())


def test_sparse_features(make_twins, case):
    plain, fused = make_twins(5, 4, heads=2)
    torch.testing.assert_close(fused(case.x.to_sparse(), case.edge_index), plain(case.x.to_sparse(), case.edge_index))


def test_edge_index_changed_in_place(make_twins, assert_same, case):
    plain, fused = make_twins(5, 4, heads=2)
    assert_same(plain, fused, case.x, case.edge_index)
    case.edge_index[1, 5:9] = 0
    assert_same(plain, fused, case.x, case.edge_index)


def test_all_forms_of_one_graph_agree(classes, kind):
    # The calls that PyG's own tests of the layers make.
    _, layer = classes
    x, x_dst = torch.randn(4, 8), torch.randn(2, 16)
    edge_index = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
    conv = layer(8, 32, heads=2)
    out = conv(x, edge_index)
    assert out.shape == (4, 64)
    adj = to_torch_csc_tensor(edge_index, size=(4, 4)).t()
    torch.testing.assert_close(conv(x, adj), out)
    again, (edges, alpha) = conv(x, edge_index, return_attention_weights=True)
    torch.testing.assert_close(again, out)
    num_edges = 4 if kind == "transformer" else 7
    assert edges.shape == (2, num_edges)
    assert alpha.shape == (num_edges, 2)
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    again, (sparse, _) = conv(x, adj, return_attention_weights=True)
    torch.testing.assert_close(again, out)
    assert sparse.shape == ((4, 4) if kind == "transformer" else (4, 4, 2))
    assert sparse._nnz() == num_edges

    adj = to_torch_csc_tensor(edge_index, size=(4, 2)).t()
    conv = layer((8, 16), 32, heads=2)
    out = conv((x, x_dst), edge_index)
    assert out.shape == (2, 64)
    torch.testing.assert_close(conv((x, x_dst), adj), out)


@pytest.mark.parametrize("kind", ["gat"])
def test_size(classes):
    x, x_dst = torch.randn(4, 8), torch.randn(2, 16)
    edge_index = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
    _, layer = classes
    conv = layer(8, 32, heads=2)
    torch.testing.assert_close(conv(x, edge_index, size=(4, 4)), conv(x, edge_index))
    conv = layer((8, 16), 32, heads=2)
    torch.testing.assert_close(conv((x, x_dst), edge_index, size=(4, 2)), conv((x, x_dst), edge_index))
    out = conv((x, None), edge_index, size=(4, 2))
    assert out.shape == (2, 64)
    torch.testing.assert_close(conv((x, None), to_torch_csc_tensor(edge_index, size=(4, 2)).t()), out)


@pytest.mark.parametrize("layout", ["coo", "csr"])
@pytest.mark.parametrize(("kind", "self_loops"), LOOPED)
def test_sparse_cache_keeps_nothing_alive(make_twins, case, kind, self_loops, layout):
    _, fused = make_twins(5, 4, **loop_option(kind, self_loops))
    adj = adj_t(case, layout)
    fused(case.x, adj)
    known, alive = len(_edges._patterns), weakref.ref(adj)
    del adj
    gc.collect()
    assert alive() is None
    assert len(_edges._patterns) == known - 1

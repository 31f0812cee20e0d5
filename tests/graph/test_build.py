"""The arrays of a graph against plain constructions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.utils import add_self_loops, remove_self_loops

from gattn import Graph

pytestmark = pytest.mark.usefixtures("builder")
Assert = Callable[[Graph, Tensor, int, int], None]


@st.composite
def edge_lists(draw: st.DrawFn) -> tuple[Tensor, int, int]:
    """``(edge_index, num_src, num_dst)``, either number zero now and then."""
    num_src, num_dst = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    edges = []
    if num_src and num_dst:
        edge = st.tuples(st.integers(0, num_src - 1), st.integers(0, num_dst - 1))
        edges = draw(st.lists(edge, max_size=40))
    dtype = draw(st.sampled_from([torch.int32, torch.int64]))
    return torch.tensor(edges, dtype=dtype).reshape(-1, 2).T, num_src, num_dst


@pytest.mark.parametrize("wide", [False, True], ids=["int32", "int64"])
@given(case=edge_lists())
def test_any_graph(case: tuple[Tensor, int, int], wide: bool, assert_graph: Assert) -> None:
    edge_index, num_src, num_dst = case
    graph = Graph._build(edge_index, ((num_src, num_dst), "source_to_target", False), wide=wide)
    assert graph.data.dtype == (torch.int64 if wide else torch.int32)
    assert_graph(graph, edge_index, num_src, num_dst)


@given(case=edge_lists())
def test_flow_swaps_the_rows(case: tuple[Tensor, int, int], assert_graph: Assert) -> None:
    edge_index, num_src, num_dst = case
    graph = Graph.from_edge_index(edge_index, (num_dst, num_src), flow="target_to_source")
    assert_graph(graph, edge_index.flip(0), num_dst, num_src)


@given(case=edge_lists())
def test_self_loops_are_rewritten_as_pyg_does(case: tuple[Tensor, int, int], assert_graph: Assert) -> None:
    edge_index, num_src, num_dst = case
    nodes = min(num_src, num_dst)
    graph = Graph.from_edge_index(edge_index, (num_src, num_dst), self_loops=True)
    numbers = torch.arange(edge_index.size(1))
    rest, kept = remove_self_loops(edge_index, numbers)
    expected, _ = add_self_loops(rest, num_nodes=nodes)
    assert_graph(graph, expected, num_src, num_dst)
    assert graph.num_loops == nodes
    assert graph.kept_edges is not None
    assert torch.equal(graph.kept_edges, kept)


@given(case=edge_lists())
def test_scipy_agrees(case: tuple[Tensor, int, int]) -> None:
    """As matrices of numbers of edges, rows targets."""
    edge_index, num_src, num_dst = case
    source, target = edge_index.numpy()
    expected = sparse.coo_matrix((np.ones(len(source)), (target, source)), shape=(num_dst, num_src)).toarray()
    graph = Graph.from_edge_index(edge_index, (num_src, num_dst))
    ones = np.ones(graph.num_edges)
    rows = sparse.csr_matrix((ones, graph.col.numpy(), graph.rowptr.numpy()), shape=(num_dst, num_src))
    columns = sparse.csc_matrix((ones, graph.row.numpy(), graph.colptr.numpy()), shape=(num_dst, num_src))
    np.testing.assert_array_equal(rows.toarray(), expected)
    np.testing.assert_array_equal(columns.toarray(), expected)


def test_sizes_by_default(edge_index: Tensor, assert_graph: Assert) -> None:
    assert_graph(Graph.from_edge_index(edge_index), edge_index, 6, 6)
    assert_graph(Graph.from_edge_index(edge_index, 9), edge_index, 9, 9)
    assert_graph(Graph.from_edge_index(edge_index, (6, 8)), edge_index, 6, 8)
    nothing = torch.empty(2, 0, dtype=torch.int64)
    assert_graph(Graph.from_edge_index(nothing), nothing, 0, 0)
    assert Graph.from_edge_index(edge_index).kept_edges is None
    assert Graph.from_edge_index(edge_index).num_loops == 0


@pytest.mark.parametrize("self_loops", [False, True])
def test_threads_do_not_change_the_graph(self_loops: bool, assert_graph: Assert) -> None:
    """Large enough that building is shared out, with a heavy node on either side."""
    edge_index = (4000 * torch.rand(2, 150_000, generator=torch.Generator().manual_seed(0)).pow(4)).long()
    threads = torch.get_num_threads()
    try:
        packed = []
        for count in (1, 2, 3, 4):
            torch.set_num_threads(count)
            packed.append(Graph._build(edge_index, (4000, "source_to_target", self_loops)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(graph.data, packed[0].data) for graph in packed)
    expected = edge_index
    if self_loops:
        expected, _ = add_self_loops(remove_self_loops(edge_index)[0], num_nodes=4000)
    assert_graph(packed[-1], expected, 4000, 4000)


def test_strided_edge_index(edge_index: Tensor, assert_graph: Assert) -> None:
    assert_graph(Graph.from_edge_index(edge_index.T.contiguous().T), edge_index, 6, 6)
    assert_graph(Graph.from_edge_index(edge_index[:, ::2]), edge_index[:, ::2], 6, 6)
    assert_graph(Graph.from_edge_index(edge_index.flip(0)[:, 3:]), edge_index.flip(0)[:, 3:], 6, 6)
    loop = torch.tensor([[1]]).expand(2, 4)
    assert_graph(Graph.from_edge_index(loop), loop, 2, 2)


def test_pyg_edge_index(edge_index: Tensor, assert_graph: Assert) -> None:
    graph = Graph.from_edge_index(EdgeIndex(edge_index, sparse_size=(7, 7)), 7)
    assert type(graph.edge_index) is Tensor
    assert_graph(graph, edge_index, 7, 7)
    loops = Graph.from_edge_index(EdgeIndex(edge_index), 7, self_loops=True)
    assert torch.equal(loops.kept_edges, torch.tensor([0, 1, 2, 4, 5, 8, 9]))


@given(case=edge_lists())
def test_csr(case: tuple[Tensor, int, int], assert_graph: Assert) -> None:
    """From its own CSR a graph comes back with the edges numbered by slot."""
    edge_index, num_src, num_dst = case
    graph = Graph.from_edge_index(edge_index, (num_src, num_dst))
    again = Graph.from_csr(graph.rowptr, graph.col, num_src)
    assert_graph(again, graph.edge_index[:, graph.edge_id.long()], num_src, num_dst)
    assert torch.equal(again.edge_id, torch.arange(graph.num_edges, dtype=torch.int32))


def test_csr_sizes_by_default() -> None:
    assert Graph.from_csr(torch.tensor([0, 1, 2]), torch.tensor([0, 0])).num_src == 2
    assert Graph.from_csr(torch.tensor([0, 1, 2]), torch.tensor([0, 6])).num_src == 7
    assert Graph.from_csr(torch.tensor([0]), torch.empty(0, dtype=torch.int64)).num_edges == 0


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc], ids=str)
@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.filterwarnings("ignore:Sparse CSC tensor support is in beta")
def test_sparse_tensors(layout: torch.layout, self_loops: bool, edge_index: Tensor, assert_graph: Assert) -> None:
    """Edges are the stored elements in the layout's order; duplicates of COO are one element."""
    source, target = edge_index.unique(dim=1)
    adj_t = torch.sparse_coo_tensor(torch.stack([target, source]), torch.ones(len(source)), (8, 6)).coalesce()
    if layout == torch.sparse_csc:
        order = torch.argsort(source * 8 + target)
        adj_t = adj_t.to_sparse_csc()
    else:
        order = torch.argsort(target * 6 + source)
        adj_t = adj_t.to_sparse_csr() if layout == torch.sparse_csr else adj_t
    expected = torch.stack([source, target])[:, order]
    if self_loops:
        expected, _ = add_self_loops(remove_self_loops(expected)[0], num_nodes=6)
    assert_graph(Graph.from_adj_t(adj_t, self_loops=self_loops), expected, 6, 8)


def test_sparse_tensor_with_edge_features(edge_index: Tensor, assert_graph: Assert) -> None:
    source, target = edge_index.unique(dim=1)
    adj_t = torch.sparse_coo_tensor(torch.stack([target, source]), torch.ones(len(source), 3), (8, 6, 3))
    order = torch.argsort(target * 6 + source)
    assert_graph(Graph.from_adj_t(adj_t), torch.stack([source, target])[:, order], 6, 8)

"""Malformed adjacencies are refused before anything is built, in PyG's words where PyG has some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gattn import Graph

pytestmark = pytest.mark.usefixtures("builder")
LOOP = torch.tensor([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("edge_index", "words"),
    [
        ([[0], [1]], r"to be a tensor of shape \[2, num_edges\] \(got 'list'\)"),
        (None, "got 'NoneType'"),
        (np.zeros((2, 1), dtype=np.int64), "got 'ndarray'"),
        (LOOP.float(), r"to be of integer type \(got 'torch.float32'\)"),
        (LOOP.bool(), r"to be of integer type \(got 'torch.bool'\)"),
        (LOOP.to(torch.int16), r"to be of integer type \(got 'torch.int16'\)"),
        (LOOP.to(torch.uint8), r"to be of integer type \(got 'torch.uint8'\)"),
        (LOOP[0], r"to be two-dimensional \(got 1 dimensions\)"),
        (LOOP[None], r"to be two-dimensional \(got 3 dimensions\)"),
        (LOOP.repeat(2, 1)[:3], r"size '2' in the first dimension \(got '3'\)"),
        (torch.zeros(0, 2, dtype=torch.int64), r"size '2' in the first dimension \(got '0'\)"),
    ],
)
def test_wrong_edge_index(edge_index: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Graph.from_edge_index(edge_index, 2)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize(
    ("edges", "sizes", "words"),
    [
        ([[0, 2], [1, 0]], 2, r"larger than 1 \(got 2 in the source row\).*interval \[0, 2\)"),
        ([[0, 1], [1, 5]], 5, r"larger than 4 \(got 5 in the target row\).*interval \[0, 5\)"),
        ([[0, -1], [1, 0]], 2, r"[Nn]egative indices.*got -1 in the source row.*interval \[0, 2\)"),
        ([[0, 1], [-7, 0]], None, r"negative indices.*got -7 in the target row"),
        ([[2], [0]], (2, 9), r"got 2 in the source row.*interval \[0, 2\)"),
        ([[0], [2]], (9, 2), r"got 2 in the target row.*interval \[0, 2\)"),
        ([[0], [0]], 0, r"interval \[0, 0\)"),
        ([[0], [2**31 - 1]], 2, "got 2147483647 in the target row"),
    ],
)
def test_index_out_of_range(edges: list[list[int]], sizes: Any, words: str, dtype: torch.dtype) -> None:
    for self_loops in (False, True):
        with pytest.raises(IndexError, match=words):
            Graph.from_edge_index(torch.tensor(edges, dtype=dtype), sizes, self_loops=self_loops)


def test_an_index_out_of_range_far_down_is_found() -> None:
    edge_index = torch.zeros(2, 200_000, dtype=torch.int64)
    edge_index[1, -1] = 3
    with pytest.raises(IndexError, match="got 3 in the target row"):
        Graph.from_edge_index(edge_index, 3)


@pytest.mark.parametrize("sizes", [-1, (2, -2), (2,), (2, 2, 2), 2.0, "2", (2, 2.5), True, (None, 2), {2, 3}, 2**41])
def test_wrong_sizes(sizes: Any) -> None:
    with pytest.raises(ValueError, match="num_nodes"):
        Graph.from_edge_index(LOOP.clone(), sizes)


def test_sizes_may_be_numpys() -> None:
    graph = Graph.from_edge_index(LOOP, np.int64(3))
    assert (graph.num_src, graph.num_dst) == (3, 3)
    assert Graph.from_edge_index(LOOP, (np.int32(3), 4)).num_src == 3


def test_an_index_too_large_for_memory_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 2\^40 nodes"):
        Graph.from_edge_index(torch.tensor([[2**62], [0]]))


def test_wrong_flow() -> None:
    with pytest.raises(ValueError, match="got 'both'"):
        Graph.from_edge_index(LOOP, flow="both")


def test_a_graph_is_not_constructed_directly() -> None:
    with pytest.raises(TypeError, match=r"Graph\.from_edge_index"):
        Graph()


def test_indices_alone_cannot_be_on_meta() -> None:
    with pytest.raises(NotImplementedError, match="meta"):
        Graph.from_edge_index(LOOP.to("meta"), 2)


def integers(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize(
    ("rowptr", "col", "num_src", "kind", "words"),
    [
        (integers(1, 2), integers(0, 0), None, ValueError, "first entry of 1"),
        (integers(0, 1), integers(0, 0), None, ValueError, "rise from 0 to E = 2.*last entry of 1"),
        (integers(0, 2, 1, 2), integers(0, 0), None, ValueError, "smallest step -1"),
        (integers(), integers(), None, ValueError, r"shape \[num_dst \+ 1\]"),
        (integers(0, 1).view(1, 2), integers(0), None, ValueError, r"got \[1, 2\]"),
        (integers(0, 1), integers(0).view(1, 1), None, ValueError, r"and \[1, 1\]"),
        (integers(0, 1).int(), integers(0), None, ValueError, "'torch.int32' and 'torch.int64'"),
        (integers(0, 1).float(), integers(0).float(), None, ValueError, "got 'torch.float32'"),
        (integers(0, 1), integers(0).to("meta"), None, ValueError, "one device.*'meta'"),
        (integers(0, 1), integers(3), 3, IndexError, r"interval \[0, 3\)"),
        (integers(0, 1), integers(-1), None, IndexError, "negative"),
        (integers(0, 1), integers(0), -1, ValueError, "num_nodes"),
    ],
)
def test_wrong_csr(rowptr: Tensor, col: Tensor, num_src: int | None, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        Graph.from_csr(rowptr, col, num_src)


@pytest.mark.parametrize(
    ("adj_t", "words"),
    [
        (torch.eye(2), "layout torch.strided"),
        ([[0, 1]], "got 'list'"),
        (torch.eye(2).to_sparse()[None].coalesce(), "layout torch.sparse_coo"),
    ],
)
def test_wrong_sparse_tensor(adj_t: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Graph.from_adj_t(adj_t)

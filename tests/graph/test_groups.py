"""Degree groups: what they promise, from the degrees alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gattn import Graph, groups


def graph_of(degrees: Sequence[int], nodes: int = 7) -> Graph:
    """Targets of the given in-degrees, sources in turn."""
    target = torch.repeat_interleave(torch.arange(len(degrees)), torch.tensor(degrees, dtype=torch.int64))
    return Graph.from_edge_index(torch.stack([torch.arange(len(target)) % nodes, target]), (nodes, len(degrees)))


def assert_groups(graph: Graph) -> tuple[groups.Side, groups.Side]:
    """Every promise of :class:`gattn.groups.Side`, on either side."""
    data, sizes = graph.groups
    counts = graph.num_src, graph.num_dst, graph.num_edges
    assert data.dtype == graph.data.dtype
    assert len(data) == groups.numel(*counts)
    found = groups.sides(sizes, *counts)
    bounds = groups.sides(groups.upper_bounds(*counts), *counts)
    for side, bound, pointer in zip(found, bounds, (graph.rowptr, graph.colptr), strict=True):
        degree = pointer.diff().tolist()
        nodes = len(degree)
        exact = [side.hubs, side.chunks, side.middle, side.small]
        assert data[side.counts : side.counts + 4].tolist() == exact
        assert all(a <= b for a, b in zip(exact, [bound.hubs, bound.chunks, bound.middle, bound.small], strict=True))
        assert (bound.counts, bound.order, bound.chunk_ptr, bound.chunk_hub) == side[:4]
        order = data[side.order : side.order + nodes].tolist()
        assert order == sorted(range(nodes), key=lambda node: -degree[node].bit_length())
        sorted_degrees = [degree[node] for node in order]
        assert all(d >= 2 * side.chunk for d in sorted_degrees[: side.hubs])
        assert all(32 <= d < 2 * side.chunk for d in sorted_degrees[side.hubs : side.hubs + side.middle])
        assert all(d < 32 for d in sorted_degrees[side.hubs + side.middle :])
        assert side.hubs + side.middle + side.small == nodes
        chunk_ptr = data[side.chunk_ptr : side.chunk_ptr + side.hubs + 1].tolist()
        assert chunk_ptr == [sum(-(-d // side.chunk) for d in sorted_degrees[:h]) for h in range(side.hubs + 1)]
        hub_of = data[side.chunk_hub : side.chunk_hub + side.chunks].tolist()
        assert hub_of == [h for h in range(side.hubs) for _ in range(chunk_ptr[h], chunk_ptr[h + 1])]
    return found


@given(degrees=st.lists(st.integers(0, 70), max_size=12))
def test_any_degrees(degrees: list[int]) -> None:
    assert_groups(graph_of(degrees))


@pytest.mark.parametrize(
    "degrees",
    [
        [0],
        [31, 32, 33, 0, 1],
        [1023, 1024, 1025, 5],
        [0, 3000, 2, 1024, 64, 1536, 1537],
        [1024] * 9,
    ],
    ids=str,
)
def test_hubs(degrees: list[int]) -> None:
    rows, _ = assert_groups(graph_of(degrees))
    assert rows.hubs == sum(degree >= 1024 for degree in degrees)


def test_one_hub_among_the_sources() -> None:
    """More chunks than nodes."""
    _, columns = assert_groups(graph_of([2500, 2500], nodes=1))
    assert (columns.hubs, columns.chunks) == (1, 10)


@pytest.mark.parametrize("edges", [0, 1, 8192 * 512, 8192 * 512 + 1, 115_000_000, 2**33])
def test_chunks_are_few(edges: int) -> None:
    """Also as the device finds the size."""
    chunk = groups.chunk_size(edges)
    assert chunk.bit_count() == 1
    assert chunk >= 512
    assert edges <= chunk * groups.MAX_CHUNKS
    assert chunk == 512 or edges > chunk // 2 * groups.MAX_CHUNKS
    assert int(groups._chunk_size(torch.tensor(edges))) == chunk


def test_kept_with_the_graph(edge_index: Tensor) -> None:
    graph = Graph.from_edge_index(edge_index, 7)
    assert graph.groups is graph.groups


def test_wide(edge_index: Tensor) -> None:
    assert_groups(Graph._build(edge_index, (7, "source_to_target", False), wide=True))

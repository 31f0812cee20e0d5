"""Graphs made in compiled programs: the op behind them, its cache, its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gattn import Graph
from gattn.graph import _cache

Function = Callable[..., Any]
build = torch.ops.gattn.build_graph.default
group = torch.ops.gattn.group_nodes.default


def compiled(function: Function) -> Function:
    return torch.compile(function, fullgraph=True, dynamic=True, backend="eager")


@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("flow", ["source_to_target", "target_to_source"])
def test_the_same_graph_as_eager(flow: str, self_loops: bool, edges_of: Function) -> None:
    def make(edge_index: Tensor, num_src: int, num_dst: int) -> Graph:
        return Graph.from_edge_index(edge_index, (num_src, num_dst), flow=flow, self_loops=self_loops)

    program = compiled(make)
    for i, (num_src, num_dst, edges) in enumerate([(11, 12, 19), (13, 7, 30)]):
        edge_index = edges_of(min(num_src, num_dst), min(num_src, num_dst), edges)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            got = program(edge_index, num_src, num_dst)
        expected = make(edge_index, num_src, num_dst)
        for name in ("num_src", "num_dst", "num_edges", "num_loops"):
            assert getattr(got, name) == getattr(expected, name), name
        assert torch.equal(got.data, expected.data)
        assert torch.equal(got.edge_index, expected.edge_index)
        if self_loops:
            assert torch.equal(got.kept_edges, expected.kept_edges)


def test_sorted_once_and_copied(edges_of: Function) -> None:
    """The op finds the graph in the cache, and nothing done to its result reaches the cached one."""
    edge_index = edges_of(7, 7, 20)
    graph = Graph.from_edge_index(edge_index, (7, 7), self_loops=True)
    before = graph.data.clone()
    program = compiled(lambda edges: Graph.from_edge_index(edges, 7, self_loops=True).data.zero_())
    program(edge_index)
    assert len(_cache[id(edge_index)][2]) == 1
    assert torch.equal(graph.data, before)


def test_a_change_in_place_builds_again(edges_of: Function) -> None:
    edge_index = edges_of(7, 7, 20)
    program = compiled(lambda edges: Graph.from_edge_index(edges, 7).data)
    program(edge_index)
    edge_index[0] = 3
    assert torch.equal(program(edge_index), Graph.from_edge_index(edge_index, 7).data)


def test_an_index_out_of_range(edges_of: Function) -> None:
    program = compiled(lambda edges: Graph.from_edge_index(edges, 7).data)
    program(edges_of(7, 7, 20))
    with pytest.raises(IndexError, match=r"got 7 in the target row.*interval \[0, 7\)"):
        program(torch.tensor([[0] * 9, [7] * 9]))


def test_the_number_of_nodes_is_needed(edges_of: Function) -> None:
    with pytest.raises(Exception, match="num_nodes"):
        compiled(lambda edges: Graph.from_edge_index(edges).data)(edges_of(7, 7, 20))


@pytest.mark.parametrize("self_loops", [False, True])
def test_opcheck(self_loops: bool, edges_of: Function) -> None:
    torch.library.opcheck(build, (edges_of(5, 5, 9), 5, 6, False, self_loops))
    torch.library.opcheck(build, (torch.empty(2, 0, dtype=torch.int32), 0, 3, True, self_loops))
    torch.library.opcheck(build, (edges_of(5, 5, 9), 5, 6, False, self_loops, True))


@pytest.mark.parametrize("self_loops", [False, True])
def test_degree_groups(self_loops: bool, edges_of: Function) -> None:
    """Found in the program, with bounds for sizes; by the op, exact data."""
    program = compiled(lambda edges, nodes: Graph.from_edge_index(edges, nodes, self_loops=self_loops).groups)
    for i, (nodes, edges) in enumerate([(11, 19), (7, 30)]):
        edge_index = edges_of(nodes, nodes, edges)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            data, sizes = program(edge_index, nodes)
        graph = Graph.from_edge_index(edge_index, nodes, self_loops=self_loops)
        assert torch.equal(data, graph.groups.data)
        assert all(exact <= bound for exact, bound in zip(graph.groups.sizes, sizes, strict=True))
        assert torch.equal(build(edge_index, nodes, nodes, False, self_loops, True)[2], graph.groups.data)
        torch.library.opcheck(group, (graph.data, nodes, nodes, graph.num_edges))

"""The cache of graphs: hits, no stale hits, no leaks; copies of graphs."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor

from gattn import Graph, ops
from gattn.graph import _cache


def test_the_same_arguments_give_the_same_object(edge_index: Tensor) -> None:
    graph = Graph.from_edge_index(edge_index, 7)
    assert Graph.from_edge_index(edge_index, 7) is graph
    assert Graph.from_edge_index(edge_index, 7, flow="source_to_target", self_loops=False) is graph
    bipartite = Graph.from_edge_index(edge_index, (7, 7))
    assert Graph.from_edge_index(edge_index, [7, 7]) is bipartite
    assert Graph.from_edge_index(edge_index, torch.Size([7, 7])) is bipartite
    others = [
        Graph.from_edge_index(edge_index),
        Graph.from_edge_index(edge_index, 8),
        Graph.from_edge_index(edge_index, 7, flow="target_to_source"),
        Graph.from_edge_index(edge_index, 7, self_loops=True),
    ]
    assert len({id(g) for g in [graph, *others]}) == 5
    assert Graph.from_edge_index(edge_index, 7) is graph
    assert Graph.from_edge_index(edge_index, 7, self_loops=True) is others[-1]


def test_equal_tensors_do_not_share(edge_index: Tensor) -> None:
    graph = Graph.from_edge_index(edge_index, 7)
    assert Graph.from_edge_index(edge_index.clone(), 7) is not graph
    assert Graph.from_edge_index(edge_index.view(2, -1), 7) is not graph


def test_a_change_in_place_builds_again(edge_index: Tensor) -> None:
    arguments = [{"self_loops": False}, {"self_loops": True}]
    before = [Graph.from_edge_index(edge_index, 7, **a) for a in arguments]
    old = edge_index.clone()
    edge_index[1, 0] = 6
    after = [Graph.from_edge_index(edge_index, 7, **a) for a in arguments]
    assert torch.equal(before[0].edge_index, old)
    assert torch.equal(after[0].edge_index, edge_index)
    for a, b, options in zip(before, after, arguments, strict=True):
        assert a is not b
        assert Graph.from_edge_index(edge_index, 7, **options) is b


def test_a_change_through_a_view_builds_again(edge_index: Tensor) -> None:
    graph = Graph.from_edge_index(edge_index, 7)
    edge_index[0].fill_(0)
    assert Graph.from_edge_index(edge_index, 7) is not graph
    assert not Graph.from_edge_index(edge_index, 7).col.any()


def test_a_failed_build_leaves_no_entry(edge_index: Tensor) -> None:
    for _ in range(2):
        with pytest.raises(IndexError):
            Graph.from_edge_index(edge_index, 3)
    assert id(edge_index) not in _cache
    assert Graph.from_edge_index(edge_index, 6).num_edges == 10


def test_kept_edges_notice_a_change(edge_index: Tensor) -> None:
    """They are found when first asked for, from the caller's own tensor."""
    asked, late = (Graph.from_edge_index(edge_index, 7 + i, self_loops=True) for i in range(2))
    kept = asked.kept_edges
    edge_index.zero_()
    assert asked.kept_edges is kept
    with pytest.raises(RuntimeError, match="changed in place after this graph was built"):
        _ = late.kept_edges


def test_no_stale_hit_when_memory_is_reused() -> None:
    """Tensors come and go in the same memory, often as objects of the same id."""
    ids, places = set(), set()
    for i in range(300):
        edge_index = torch.full((2, 3), i % 5)
        ids.add(id(edge_index))
        places.add(edge_index.data_ptr())
        assert torch.equal(Graph.from_edge_index(edge_index, 5).edge_index, edge_index)
        del edge_index
    assert len(ids) < 300
    assert len(places) < 300


def test_an_entry_of_another_tensor_is_not_believed(edge_index: Tensor) -> None:
    """Even should an id come back before the old entry is gone."""
    other = torch.zeros(2, 3, dtype=torch.int64)
    wrong = Graph.from_edge_index(other, 7)
    _cache[id(edge_index)] = (weakref.ref(other), edge_index._version, {(7, "source_to_target", False): wrong})
    assert Graph.from_edge_index(edge_index, 7) is not wrong
    assert Graph.from_edge_index(edge_index, 7) is Graph.from_edge_index(edge_index, 7)


@pytest.mark.parametrize("self_loops", [False, True])
def test_the_graph_dies_with_its_edge_index(self_loops: bool) -> None:
    gc.disable()  # reference counts alone must do
    try:
        edge_index = torch.tensor([[0, 1, 1], [1, 0, 1]])
        graph = Graph.from_edge_index(edge_index, 2, self_loops=self_loops)
        alive, tensor, name = weakref.ref(graph), weakref.ref(edge_index), id(edge_index)
        del graph
        assert alive() is not None  # the cache's
        assert name in _cache
        del edge_index
        assert tensor() is None
        assert alive() is None
        assert name not in _cache
    finally:
        gc.enable()


def test_a_graph_keeps_no_edge_index_alive(edge_index: Tensor) -> None:
    mine = edge_index.clone()
    graphs = [Graph.from_edge_index(mine, 7, self_loops=self_loops) for self_loops in (False, True)]
    dead = weakref.ref(mine)
    del mine
    assert dead() is None
    assert torch.equal(graphs[0].edge_index, edge_index)
    assert torch.equal(graphs[1].kept_edges, torch.tensor([0, 1, 2, 4, 5, 8, 9]))


def test_old_graphs_die_when_edges_change() -> None:
    edge_index = torch.tensor([[0, 1], [1, 0]])
    dead = []
    for _ in range(3):
        dead.append(weakref.ref(Graph.from_edge_index(edge_index, 2)))
        edge_index.add_(0)
    Graph.from_edge_index(edge_index, 2)
    assert [ref() for ref in dead] == [None] * 3


def test_inference_tensors_are_not_cached() -> None:
    """They keep no version, so a change in place would go unseen."""
    with torch.inference_mode():
        edge_index = torch.tensor([[0, 1, 1], [1, 0, 1]])
        first = Graph.from_edge_index(edge_index, 2, self_loops=True)
        assert first.num_edges == 4
        assert torch.equal(first.kept_edges, torch.tensor([0, 1]))
        edge_index[1, 0] = 0
        second = Graph.from_edge_index(edge_index, 2, self_loops=True)
    assert torch.equal(second.kept_edges, torch.tensor([1]))
    assert second.num_edges == 3
    assert id(edge_index) not in _cache


def test_ordinary_tensors_in_inference_mode(edge_index: Tensor) -> None:
    """A graph built there serves training afterwards."""
    with torch.inference_mode():
        graph = Graph.from_edge_index(edge_index, 7)
        assert torch.equal(graph.edge_index, edge_index)
    assert Graph.from_edge_index(edge_index, 7) is graph
    logits = torch.zeros(graph.num_edges, 1, requires_grad=True)
    ops.edge_softmax(logits, graph).square().sum().backward()
    assert not any(x.is_inference() for x in (graph.data, graph.edge_index))


@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies(again, self_loops: bool, edge_index: Tensor) -> None:  # type: ignore[no-untyped-def]
    graph = Graph.from_edge_index(edge_index, (7, 8), self_loops=self_loops)
    other = again(graph)
    assert other is not graph
    for name in ("num_src", "num_dst", "num_edges", "num_loops", "device"):
        assert getattr(other, name) == getattr(graph, name), name
    assert torch.equal(other.data, graph.data)
    assert torch.equal(other.edge_index, graph.edge_index)
    if self_loops:
        assert torch.equal(other.kept_edges, graph.kept_edges)
    else:
        assert other.kept_edges is None
    assert repr(other) == repr(graph)


def test_moving_to_a_device(edge_index: Tensor) -> None:
    graph = Graph.from_edge_index(edge_index, 7, self_loops=True)
    assert graph.to("cpu") is graph
    assert graph.to(torch.device("cpu")) is graph
    moved = graph.to("meta")
    assert moved.device.type == "meta"
    assert (moved.num_src, moved.num_dst, moved.num_edges, moved.num_loops) == (7, 7, graph.num_edges, 7)
    assert moved.kept_edges.device.type == "meta"
    assert repr(moved) == "Graph(num_src=7, num_dst=7, num_edges=14, dtype=torch.int32, device='meta')"

"""What attention over a graph must satisfy whatever the numbers, on graphs that hypothesis draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gattn import Graph, ops

HEADS, CHANNELS = 3, 4
TIGHT = {"rtol": 1e-11, "atol": 1e-12}


class Problem:
    """A drawn graph of ``nodes`` nodes with inputs for ``ops.gat``."""

    def __init__(self, nodes: int, edges: list[tuple[int, int]], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.nodes = nodes
        self.edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T.contiguous()
        self.x, self.a_src, self.a_dst = normal(nodes, HEADS, CHANNELS), normal(nodes, HEADS), normal(nodes, HEADS)
        self.a_edge = normal(len(edges), HEADS)
        self.generator = generator

    def permutation(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self.generator)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    nodes = draw(st.integers(1, 12))
    node = st.integers(0, nodes - 1)
    return Problem(nodes, draw(st.lists(st.tuples(node, node), max_size=40)), draw(st.integers(0, 1000)))


def attend(
    edge_index: Tensor, x: Tensor, a_src: Tensor, a_dst: Tensor, a_edge: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    graph = Graph.from_edge_index(edge_index, (x.size(0), a_dst.size(0)))
    out, alpha = ops.gat(x, a_src, a_dst, graph, a_edge, return_attention=True, backend="cpu", **options)
    return out, alpha


def solve(p: Problem) -> tuple[Tensor, Tensor]:
    return attend(p.edge_index, p.x, p.a_src, p.a_dst, p.a_edge)


@given(problems())
def test_attention_sums_to_one(p: Problem) -> None:
    _, alpha = solve(p)
    total = torch.zeros(p.nodes, HEADS, dtype=torch.float64).index_add(0, p.edge_index[1], alpha)
    has_edges = torch.bincount(p.edge_index[1], minlength=p.nodes) > 0
    torch.testing.assert_close(total, has_edges.double().unsqueeze(1).expand_as(total), **TIGHT)
    assert (alpha >= 0).all()


@given(problems())
def test_out_is_the_average_that_attention_says(p: Problem) -> None:
    out, alpha = solve(p)
    messages = alpha.unsqueeze(-1) * p.x[p.edge_index[0]]
    torch.testing.assert_close(out, torch.zeros_like(p.x).index_add(0, p.edge_index[1], messages), **TIGHT)


@given(problems())
def test_renumbering_the_nodes_renumbers_the_result(p: Problem) -> None:
    order = p.permutation(p.nodes)
    number = order.argsort()  # node order[k] becomes k
    out, alpha = solve(p)
    got, got_alpha = attend(number[p.edge_index], p.x[order], p.a_src[order], p.a_dst[order], p.a_edge)
    torch.testing.assert_close(got, out[order], **TIGHT)
    torch.testing.assert_close(got_alpha, alpha, **TIGHT)


@given(problems())
def test_the_order_of_edges_does_not_matter(p: Problem) -> None:
    order = p.permutation(p.edge_index.size(1))
    out, alpha = solve(p)
    got, got_alpha = attend(p.edge_index[:, order], p.x, p.a_src, p.a_dst, p.a_edge[order])
    torch.testing.assert_close(got, out, **TIGHT)
    torch.testing.assert_close(got_alpha, alpha[order], **TIGHT)


@given(problems(), st.floats(-50, 50))
def test_softmax_does_not_see_a_shift_of_a_targets_logits(p: Problem, size: float) -> None:
    graph = Graph.from_edge_index(p.edge_index, p.nodes)
    shift = size * p.a_dst[p.edge_index[1]]
    expected = ops.edge_softmax(p.a_edge, graph, backend="cpu")
    torch.testing.assert_close(ops.edge_softmax(p.a_edge + shift, graph, backend="cpu"), expected, **TIGHT)


@given(problems(), problems())
def test_a_disjoint_union_gives_both_results(p: Problem, q: Problem) -> None:
    parts = [solve(p), solve(q)]
    got = attend(
        torch.cat([p.edge_index, q.edge_index + p.nodes], dim=1),
        *(torch.cat([getattr(p, name), getattr(q, name)]) for name in ("x", "a_src", "a_dst", "a_edge")),
    )
    for i in range(2):
        assert torch.equal(got[i], torch.cat([parts[0][i], parts[1][i]]))


@given(problems())
def test_an_isolated_node_changes_nothing(p: Problem) -> None:
    more = [torch.cat([t, torch.full_like(t[:1], 1e3)]) for t in (p.x, p.a_src, p.a_dst)]
    (out, alpha), (got, got_alpha) = solve(p), attend(p.edge_index, *more, p.a_edge)
    assert torch.equal(got[:-1], out)
    assert torch.equal(got_alpha, alpha)
    assert not got[-1].any()


@given(problems(), st.integers(0, HEADS - 1))
def test_heads_do_not_see_each_other(p: Problem, head: int) -> None:
    out, alpha = solve(p)
    only = slice(head, head + 1)
    got, got_alpha = attend(p.edge_index, p.x[:, only], p.a_src[:, only], p.a_dst[:, only], p.a_edge[:, only])
    torch.testing.assert_close(got, out[:, only], **TIGHT)
    torch.testing.assert_close(got_alpha, alpha[:, only], **TIGHT)


@given(problems())
def test_a_source_that_is_no_neighbour_has_no_influence(p: Problem) -> None:
    out, _ = solve(p)
    x, a_src = p.x.clone(), p.a_src.clone()
    x[0], a_src[0] = float("nan"), float("nan")
    touched = torch.zeros(p.nodes, dtype=torch.bool)
    touched[p.edge_index[1, p.edge_index[0] == 0]] = True
    got, _ = attend(p.edge_index, x, a_src, p.a_dst, p.a_edge)
    assert torch.equal(got[~touched], out[~touched])
    assert got[touched].isnan().all()


@pytest.mark.parametrize("op", ["gat", "edge_softmax"])
@given(p=problems())
def test_equal_logits_give_equal_weights(op: str, p: Problem) -> None:
    graph = Graph.from_edge_index(p.edge_index, p.nodes)
    zeros = torch.zeros(graph.num_edges, HEADS)
    if op == "gat":
        nodes = torch.zeros(p.nodes, HEADS)
        _, alpha = ops.gat(p.x.float(), nodes, nodes, graph, zeros, return_attention=True, backend="cpu")
    else:
        alpha = ops.edge_softmax(zeros, graph, backend="cpu")
    degree = torch.bincount(p.edge_index[1], minlength=p.nodes)[p.edge_index[1]]
    torch.testing.assert_close(alpha, (1.0 / degree).unsqueeze(1).expand_as(alpha))

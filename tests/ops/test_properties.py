"""What attention over a graph must satisfy whatever the numbers, on graphs that hypothesis draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gattn import Graph, Lipschitz, Sink, ops

Function = Callable[..., Any]
Tensors = dict[str, Tensor]
HEADS, CHANNELS = 3, 4
TIGHT = {"rtol": 1e-11, "atol": 1e-12}
MODIFIERS = ["lipschitz gat", "decay", "sink value"]
#: Every kernel: ``gat`` without modifiers has one of its own.
PATHS = [("gat", []), *((op, MODIFIERS) for op in ("gat", "gatv2", "dot", "gt"))]
EDGE_TENSORS = ("a_edge", "x_edge", "edge", "edge_weight", "distance")
SHARED_TENSORS = ("att", "norm_weight", "hop", "sink_value")


def every_kernel(test: Function) -> Function:
    """Fewer examples of each, as there are several."""
    return pytest.mark.parametrize(("op", "modifiers"), PATHS)(settings(max_examples=20)(test))


class Problem:
    """A drawn graph of ``nodes`` nodes, and the inputs of an op on it."""

    def __init__(self, nodes: int, edges: list[tuple[int, int]], seed: int) -> None:
        self.nodes, self.seed = nodes, seed
        self.edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T.contiguous()
        self.degree = torch.bincount(self.edge_index[1], minlength=nodes)
        self.generator = torch.Generator().manual_seed(seed)

    def inputs(self, inputs_of: Function, op: str, modifiers: list[str]) -> Tensors:
        """With edge features and distances."""
        graph = Graph.from_edge_index(self.edge_index, self.nodes)
        tensors = inputs_of(op, graph, HEADS, CHANNELS, edge=True, modifiers=modifiers, seed=self.seed)
        return {**tensors, "distance": torch.randint(5, (graph.num_edges,), generator=self.generator)}

    def permutation(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self.generator)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    nodes = draw(st.integers(1, 12))
    node = st.integers(0, nodes - 1)
    return Problem(nodes, draw(st.lists(st.tuples(node, node), max_size=40)), draw(st.integers(0, 1000)))


@pytest.fixture(scope="session")
def solve(call_op: Function) -> Function:
    """``(out, alpha)`` of an op by name, edges, number of nodes and tensors."""

    def solve(op: str, edge_index: Tensor, nodes: int, tensors: Tensors, **options: Any) -> tuple[Tensor, Tensor]:
        tensors = dict(tensors)
        decay = {"distance": tensors.pop("distance")}
        graph = Graph.from_edge_index(edge_index, nodes)
        result = call_op(op, tensors, graph, return_attention=True, backend="cpu", decay=decay, **options)
        return result[0], result[1]

    return solve


def change(tensors: Tensors, kind: str, apply: Callable[[Tensor], Tensor]) -> Tensors:
    """``apply`` to all tensors with a row for every edge or every node."""
    return {
        name: apply(t) if name not in SHARED_TENSORS and (name in EDGE_TENSORS) == (kind == "edges") else t
        for name, t in tensors.items()
    }


@every_kernel
@given(p=problems())
def test_attention_sums_to_one_without_a_sink(
    op: str, modifiers: list[str], inputs_of: Function, solve: Function, p: Problem
) -> None:
    tensors = p.inputs(inputs_of, op, modifiers[:2])
    _, alpha = solve(op, p.edge_index, p.nodes, tensors)
    total = torch.zeros(p.nodes, HEADS, dtype=torch.float64).index_add(0, p.edge_index[1], alpha)
    expected = (p.degree > 0).double().unsqueeze(1).expand_as(total)
    # Score gt adds 1e-6 to the sum of weights exp(-5) and more, times edge weights of 0.1 and more.
    torch.testing.assert_close(total, expected, **(TIGHT if op != "gt" else {"rtol": 2e-3, "atol": 0.0}))
    assert (alpha >= 0).all()


@every_kernel
@given(p=problems())
def test_a_sink_takes_the_same_part_of_every_weight(
    op: str, modifiers: list[str], inputs_of: Function, solve: Function, p: Problem
) -> None:
    tensors = p.inputs(inputs_of, op, [*modifiers[:2], "sink"])
    logit = tensors.pop("sink_logit")
    out, alpha = solve(op, p.edge_index, p.nodes, tensors)
    got, got_alpha = solve(op, p.edge_index, p.nodes, {**tensors, "sink_logit": logit})
    part = got_alpha / alpha  # of one target the same for all edges, and for its result
    target = p.edge_index[1]
    shared = torch.zeros(p.nodes, HEADS, dtype=torch.float64)
    shared[target] = part
    torch.testing.assert_close(part, shared[target], **TIGHT)
    torch.testing.assert_close(got, shared.unsqueeze(-1) * out, **TIGHT)
    assert ((part > 0) & (part <= 1)).all()


@every_kernel
@given(p=problems())
def test_renumbering_the_nodes_renumbers_the_result(
    op: str, modifiers: list[str], inputs_of: Function, solve: Function, p: Problem
) -> None:
    tensors, order = p.inputs(inputs_of, op, modifiers), p.permutation(p.nodes)
    number = order.argsort()  # node order[k] becomes k
    out, alpha = solve(op, p.edge_index, p.nodes, tensors)
    moved = change(tensors, "nodes", lambda t: t[order])
    got, got_alpha = solve(op, number[p.edge_index], p.nodes, moved)
    torch.testing.assert_close(got, out[order], **TIGHT)
    torch.testing.assert_close(got_alpha, alpha, **TIGHT)


@every_kernel
@given(p=problems())
def test_the_order_of_edges_does_not_matter(
    op: str, modifiers: list[str], inputs_of: Function, solve: Function, p: Problem
) -> None:
    tensors, order = p.inputs(inputs_of, op, modifiers), p.permutation(p.edge_index.size(1))
    out, alpha = solve(op, p.edge_index, p.nodes, tensors)
    moved = change(tensors, "edges", lambda t: t[order])
    got, got_alpha = solve(op, p.edge_index[:, order], p.nodes, moved)
    torch.testing.assert_close(got, out, **TIGHT)
    torch.testing.assert_close(got_alpha, alpha[order], **TIGHT)


@every_kernel
@given(p=problems(), q=problems())
def test_a_disjoint_union_gives_both_results(
    op: str, modifiers: list[str], inputs_of: Function, solve: Function, p: Problem, q: Problem
) -> None:
    first, second = (problem.inputs(inputs_of, op, modifiers) for problem in (p, q))
    second |= {name: first[name] for name in SHARED_TENSORS if name in first}
    parts = [solve(op, x.edge_index, x.nodes, t) for x, t in ((p, first), (q, second))]
    union = {n: t if n in SHARED_TENSORS else torch.cat([t, second[n]]) for n, t in first.items()}
    got = solve(op, torch.cat([p.edge_index, q.edge_index + p.nodes], dim=1), p.nodes + q.nodes, union)
    for i in range(2):
        assert torch.equal(got[i], torch.cat([parts[0][i], parts[1][i]]))


@every_kernel
@given(p=problems())
def test_an_isolated_node_changes_nothing(
    op: str, modifiers: list[str], inputs_of: Function, solve: Function, p: Problem
) -> None:
    tensors = p.inputs(inputs_of, op, modifiers)
    more = change(tensors, "nodes", lambda t: torch.cat([t, torch.full_like(t[:1], 1e3)]))
    out, alpha = solve(op, p.edge_index, p.nodes, tensors)
    got, got_alpha = solve(op, p.edge_index, p.nodes + 1, more)
    assert torch.equal(got[:-1], out)
    assert torch.equal(got_alpha, alpha)
    assert torch.equal(got[-1], tensors.get("sink_value", torch.zeros_like(got[-1])))


@every_kernel
@given(p=problems(), head=st.integers(0, HEADS - 1))
def test_heads_do_not_see_each_other(
    op: str, modifiers: list[str], inputs_of: Function, solve: Function, p: Problem, head: int
) -> None:
    tensors, only = p.inputs(inputs_of, op, modifiers), slice(head, head + 1)
    by_rows = ("norm_weight", "hop", "att", "sink_value")
    alone = {n: t if n == "distance" else t[only] if n in by_rows else t[:, only] for n, t in tensors.items()}
    out, alpha = solve(op, p.edge_index, p.nodes, tensors)
    got, got_alpha = solve(op, p.edge_index, p.nodes, alone)
    torch.testing.assert_close(got, out[:, only], **TIGHT)
    torch.testing.assert_close(got_alpha, alpha[:, only], **TIGHT)


@every_kernel
@given(p=problems())
def test_a_source_that_is_no_neighbour_has_no_influence(
    op: str, modifiers: list[str], inputs_of: Function, solve: Function, p: Problem
) -> None:
    tensors = p.inputs(inputs_of, op, modifiers)
    out, _ = solve(op, p.edge_index, p.nodes, tensors)
    for name in {"x", "a_src", "x_src", "k", "v", "source_norm"} & tensors.keys():
        tensors[name] = tensors[name].clone()
        tensors[name][0] = float("nan")
    touched = torch.zeros(p.nodes, dtype=torch.bool)
    touched[p.edge_index[1, p.edge_index[0] == 0]] = True
    got, _ = solve(op, p.edge_index, p.nodes, tensors)
    assert torch.equal(got[~touched], out[~touched])
    assert got[touched].isnan().all()


@every_kernel
@given(p=problems())
def test_modifiers_that_change_nothing(
    op: str, modifiers: list[str], inputs_of: Function, solve: Function, p: Problem
) -> None:
    """A divisor of one, a decay of one and a sink far below every score."""
    tensors = p.inputs(inputs_of, op, [])
    ones, one = torch.ones(p.nodes, HEADS, dtype=torch.float64), torch.ones(HEADS, dtype=torch.float64)
    neutral = {"source_norm": ones, "target_norm": 0 * ones, "norm_weight": one, "hop": one, "sink_logit": -900 * ones}
    expected = solve(op, p.edge_index, p.nodes, tensors)
    decay = {**tensors, "distance": torch.ones_like(tensors["distance"])}  # excess 0: gamma to the power of 0
    got = solve(op, p.edge_index, p.nodes, {**decay, **neutral})
    for i in range(2):
        torch.testing.assert_close(got[i], expected[i], rtol=1e-9, atol=1e-10)


@given(p=problems())
def test_out_is_the_average_that_attention_says(inputs_of: Function, solve: Function, p: Problem) -> None:
    for op, name in (("gat", "x"), ("gatv2", "x_src"), ("dot", "v"), ("gt", "v")):
        tensors = p.inputs(inputs_of, op, ["decay"])
        out, alpha = solve(op, p.edge_index, p.nodes, tensors)
        values = tensors[name][p.edge_index[0]] + (tensors["edge"] if op == "dot" else 0.0)
        expected = torch.zeros_like(out).index_add(0, p.edge_index[1], alpha.unsqueeze(-1) * values)
        torch.testing.assert_close(out, expected, **TIGHT)


@given(p=problems(), size=st.floats(-50, 50))
def test_softmax_does_not_see_a_shift_of_a_targets_logits(p: Problem, size: float) -> None:
    """With a sink, if that is shifted too."""
    graph = Graph.from_edge_index(p.edge_index, p.nodes)
    draw = torch.randn(graph.num_edges + 2 * p.nodes, HEADS, generator=p.generator, dtype=torch.float64)
    logits, rest = draw[: graph.num_edges], draw[graph.num_edges :].view(2, p.nodes, HEADS)
    shift = size * rest[0]
    for sinks in ((None, None), (Sink(rest[1]), Sink(rest[1] + shift))):
        expected = ops.edge_softmax(logits, graph, sink=sinks[0], backend="cpu")
        got = ops.edge_softmax(logits + shift[p.edge_index[1]], graph, sink=sinks[1], backend="cpu")
        torch.testing.assert_close(got, expected, **TIGHT)


@given(p=problems(), size=st.floats(0.1, 1e3))
def test_lipschitz_norm_keeps_attention_near_uniform(p: Problem, size: float) -> None:
    """|t / c| <= 1/4 and LeakyReLU's slope of .2 leave two weights of a row at most exp(.3) apart."""
    graph = Graph.from_edge_index(p.edge_index, p.nodes)
    draw = size * torch.randn(p.nodes + 2, HEADS, CHANNELS, generator=p.generator, dtype=torch.float64)
    x, att_src, att_dst = draw[:-2], draw[-2], draw[-1]
    norms = x.norm(dim=-1)
    norm = Lipschitz.gat(norms, norms, 4 * torch.cat([att_src, att_dst], 1).norm(dim=1))
    scores = ((x * att).sum(-1) for att in (att_src, att_dst))
    _, alpha = ops.gat(x, *scores, graph, lipschitz=norm, return_attention=True, backend="cpu")
    uniform = alpha * p.degree[p.edge_index[1]].unsqueeze(1)
    assert (uniform <= math.exp(0.3) + 1e-9).all()
    assert (uniform >= math.exp(-0.3) - 1e-9).all()


@every_kernel
@given(p=problems())
def test_equal_scores_give_equal_weights(
    op: str, modifiers: list[str], inputs_of: Function, solve: Function, p: Problem
) -> None:
    tensors = {n: t.float() if n != "distance" else t for n, t in p.inputs(inputs_of, op, modifiers[:2]).items()}
    for name in {"a_src", "a_dst", "a_edge", "att", "q"} & tensors.keys():
        tensors[name] = torch.zeros_like(tensors[name])
    if op == "gt":
        tensors["edge_weight"] = torch.ones_like(tensors["edge_weight"])
    _, alpha = solve(op, p.edge_index, p.nodes, tensors)
    degree = p.degree[p.edge_index[1]]
    torch.testing.assert_close(alpha, (1.0 / degree).unsqueeze(1).expand_as(alpha), rtol=2e-6, atol=0.0)

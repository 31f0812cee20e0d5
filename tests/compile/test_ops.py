"""The ops under torch.compile: one graph, no break, no recompilation as sizes change, and the eager results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from gattn import Decay, Graph, ops, use_backend

Function = Callable[..., Any]
ATTENTIONS = ["gat", "gatv2", "dot", "gt", "edge_softmax"]
CASES = [(name, modified) for name in ATTENTIONS for modified in (False, True)] + [("gat_layer", False)]
compiled = torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")


@pytest.mark.parametrize(("name", "modified"), CASES)
def test_one_program_for_all_sizes(
    name: str, modified: bool, make_problem: Function, sizes: list[Any], assert_same: Function
) -> None:
    program = compiled(lambda problem: problem.run())
    for i, size in enumerate(sizes):
        problem = make_problem(name, size, modified=modified)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            got = program(problem)
        assert_same(got, problem.run(), list(problem.tensors.values()))


@pytest.mark.parametrize("name", ["gat", "gat_layer", "dot"])
def test_dropout_with_a_seed_is_the_eager_one(
    name: str, make_problem: Function, sizes: list[Any], assert_same: Function
) -> None:
    program = compiled(lambda problem, seed: problem.run(dropout_p=0.5, seed=seed))
    for i, size in enumerate(sizes[:3]):
        problem = make_problem(name, size, modified=False)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            got = program(problem, 10 + i)
        assert_same(got, problem.run(dropout_p=0.5, seed=10 + i), list(problem.tensors.values()))


def test_dropout_without_a_seed_draws_anew(make_problem: Function, sizes: list[Any]) -> None:
    problem = make_problem("edge_softmax", sizes[0], modified=False)
    program = compiled(lambda: problem.run(dropout_p=0.5)[0])
    torch.manual_seed(3)
    first, second = program(), program()
    assert not torch.equal(first == 0, second == 0)
    torch.manual_seed(3)
    assert torch.equal(program(), first)


def test_the_chosen_backend_is_guarded(make_problem: Function, sizes: list[Any]) -> None:
    """A program compiled for one backend is compiled again, not reused, where another is chosen."""
    problem = make_problem("gat", sizes[0], modified=False)
    counter = CompileCounter()
    program = torch.compile(lambda: problem.run()[0], fullgraph=True, backend=counter)
    expected = program()
    before = counter.frame_count
    with use_backend("reference"):
        torch.testing.assert_close(program(), expected)
    assert counter.frame_count == before + 1
    program()
    assert counter.frame_count == before + 1


def test_bad_numbers_raise_while_the_program_runs(make_problem: Function, sizes: list[Any]) -> None:
    problem = make_problem("edge_softmax", sizes[0], modified=True)
    program = compiled(
        lambda distance: ops.edge_softmax(
            problem.tensors["logits"], problem.graph, decay=Decay(distance, torch.ones(2), 0.5)
        )
    )
    distance = problem.options["decay"].distance
    program(distance)
    with pytest.raises(RuntimeError, match="'distance' >= 0"):
        program(distance - 9)


@pytest.mark.parametrize("self_loops", [False, True])
def test_a_graph_made_inside(self_loops: bool, edges_of: Function, assert_same: Function) -> None:
    """With the number of edges unknown to the compiler where self-loops are rewritten."""

    def run(x: Tensor, edge_index: Tensor) -> list[Tensor]:
        graph = Graph.from_edge_index(edge_index, x.shape[0], self_loops=self_loops)
        return list(ops.dot(x, x, x, graph, return_attention=True))

    program = compiled(run)
    for i, (nodes, edges) in enumerate([(11, 19), (7, 30), (40, 8)]):
        x, edge_index = torch.randn(nodes, 2, 3, requires_grad=True), edges_of(nodes, nodes, edges)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            got = program(x, edge_index)
        assert_same(got, run(x, edge_index), [x])

"""``Lipschitz(variant="as-released")``: the authors' program, edge by edge, and where it is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gattn import Graph, Lipschitz, ops

TARGETS, SOURCES, EDGES = 6, 7, 30


@pytest.fixture(name="graph")
def _graph() -> Graph:
    return Graph.from_edge_index(
        torch.stack([torch.randint(SOURCES, (EDGES,)), torch.randint(TARGETS, (EDGES,))]), (SOURCES, TARGETS)
    )


def softmax_by_target(scores: Tensor, graph: Graph) -> Tensor:
    target = graph.edge_index[1]
    rows = [scores[target == int(i)].exp().sum(0) for i in target]
    return scores.exp() / torch.stack(rows)


@pytest.mark.parametrize("heads", [1, 3])
def test_gat(heads: int, graph: Graph) -> None:
    scores, weight = torch.randn(EDGES, heads, dtype=torch.float64), torch.rand(heads, dtype=torch.float64)
    norm, target_norm = (torch.rand(n, heads, dtype=torch.float64) for n in (SOURCES, TARGETS))
    source, target = graph.edge_index
    largest = torch.stack(
        [norm[source[target == i]].amax(0) if (target == i).any() else torch.zeros(heads) for i in range(TARGETS)]
    )
    divisors = [
        weight * (largest.flatten()[i] ** 2 + norm[j] ** 2).sqrt() + 1e-12
        for j, i in zip(source.tolist(), target.tolist(), strict=True)
    ]
    lipschitz = Lipschitz.gat(norm, target_norm, weight, variant="as-released")
    got = ops.edge_softmax(scores, graph, lipschitz=lipschitz, backend="reference")
    torch.testing.assert_close(got, softmax_by_target(scores / torch.stack(divisors), graph))


def test_dot(graph: Graph) -> None:
    scores = torch.randn(EDGES, 2, dtype=torch.float64)
    key, value = (torch.rand(SOURCES, 2, dtype=torch.float64) for _ in range(2))
    query = torch.rand(TARGETS, 2, dtype=torch.float64)
    source, target = graph.edge_index
    u = sum(query[i] ** 2 for i in target.tolist()) ** 0.5  # once for every edge
    divisors = []
    for i in target.tolist():
        v, w = (norm[source[target == i]].amax(0) for norm in (key, value))
        divisors.append(torch.maximum(torch.maximum(u * v, u * w), v * w) + 1e-12)
    lipschitz = Lipschitz.dot(query, key, value, variant="as-released")
    got = ops.edge_softmax(scores, graph, lipschitz=lipschitz, backend="reference")
    torch.testing.assert_close(got, softmax_by_target(scores / torch.stack(divisors), graph))


def test_only_the_reference_has_it(graph: Graph) -> None:
    norm = torch.rand(SOURCES, 1)
    lipschitz = Lipschitz.gat(norm, torch.rand(TARGETS, 1), torch.rand(1), variant="as-released")
    with pytest.raises(ValueError, match="variant 'paper' on backend 'cpu'"):
        ops.edge_softmax(torch.randn(EDGES, 1), graph, lipschitz=lipschitz)


def test_unknown_variant(graph: Graph) -> None:
    lipschitz = Lipschitz.gat(torch.rand(SOURCES, 1), torch.rand(TARGETS, 1), torch.rand(1), variant="other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected Lipschitz variant 'paper' or 'as-released'"):
        ops.edge_softmax(torch.randn(EDGES, 1), graph, lipschitz=lipschitz)

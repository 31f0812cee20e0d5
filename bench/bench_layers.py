"""pytest-benchmark over the layers: ``pytest bench --benchmark-only``.

Small graphs and all layers by default; ``GATTN_BENCH_GRAPHS=cora,uniform`` and ``GATTN_BENCH_LAYERS=gat`` name others.
Contenders are timed one after the other here, so compare revisions of one contender; ``gattn bench`` compares
contenders.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest
import torch
from gattn.bench import gate
from gattn.bench.graphs import CASES
from gattn.bench.layers import LAYERS
from gattn.bench.limits import gather
from gattn.bench.peers import all_peers
from gattn.bench.problem import Problem

from gattn.graph import Graph

GRAPHS = os.environ.get("GATTN_BENCH_GRAPHS", "cora,rmat-small").split(",")
NAMES = os.environ.get("GATTN_BENCH_LAYERS", ",".join(LAYERS)).split(",")
pytestmark = [pytest.mark.parametrize("graph", GRAPHS), pytest.mark.parametrize("layer", NAMES)]


@cache
def _problem(layer: str, graph: str) -> tuple[Problem, gate.Expected]:
    problem = Problem.build(CASES[graph], layer)
    return problem, gate.expected(problem)


@pytest.mark.parametrize("peer", list(all_peers()))
def test_layer(benchmark: Any, layer: str, graph: str, peer: str) -> None:
    """Forward and backward of the layer, after the numerics gate."""
    benchmark.group = f"{layer} layer, {graph}"
    usable, reason = all_peers()[peer].can_run(CASES[graph], layer)
    if not usable:
        pytest.skip(reason)
    problem, want = _problem(layer, graph)
    contender = all_peers()[peer].contender(problem)
    verdict = gate.judge(contender.result(like={"x": problem.x, **problem.parameters}), want)
    assert not verdict.reason
    benchmark(contender.step)


def test_kernel_forward(benchmark: Any, layer: str, graph: str) -> None:
    """The op alone."""
    benchmark.group = f"{layer} kernel, {graph}"
    problem, _ = _problem(layer, graph)
    kernel, adjacency = problem.layer.kernel, _adjacency(problem)
    inputs = kernel.inputs(problem.case, torch.Generator().manual_seed(0))
    benchmark(kernel.call, inputs, adjacency)


def test_kernel_backward(benchmark: Any, layer: str, graph: str) -> None:
    """Its gradients, the graph of autograd kept."""
    benchmark.group = f"{layer} kernel, {graph}"
    problem, _ = _problem(layer, graph)
    inputs = problem.layer.kernel.inputs(problem.case, torch.Generator().manual_seed(0))
    leaves = [tensor.requires_grad_() for tensor in inputs]
    out = problem.layer.kernel.call(leaves, _adjacency(problem))
    benchmark(torch.autograd.grad, out, leaves, torch.ones_like(out), retain_graph=True)


def test_gather_limit(benchmark: Any, layer: str, graph: str) -> None:
    """One row an edge; the op is compared with as many gathers as it must read rows."""
    benchmark.group = f"{layer} kernel, {graph}"
    problem, _ = _problem(layer, graph)
    inputs = problem.layer.kernel.inputs(problem.case, torch.Generator().manual_seed(0))
    benchmark(gather, inputs[0], _adjacency(problem), torch.empty_like(inputs[0]))


def _adjacency(problem: Problem) -> Graph:
    return Graph.from_edge_index(problem.edge_index, problem.case.num_nodes, self_loops=True)

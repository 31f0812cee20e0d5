"""The op alone, forward and backward, against the gather limit of the same graph."""

from __future__ import annotations

from typing import Any

import torch
from gattn.bench import limits, timing
from gattn.bench.problem import Problem

from gattn.graph import Graph


def measure(problem: Problem, rounds: int) -> dict[str, Any]:
    """Summaries of ``forward``, ``backward``, ``gather`` and ``gather_transposed``, taken in turn.

    The gathers read a row of ``[N, H, C]`` once for every edge, of the graph (what the forward must read) and
    of its transpose (what the backward must read).
    """
    case, kernel = problem.case, problem.layer.kernel
    graph = Graph.from_edge_index(problem.edge_index, case.num_nodes, self_loops=True)
    back = limits.transposed(graph)
    generator = torch.Generator().manual_seed(case.seed + 2)
    inputs = kernel.inputs(case, generator)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    out = kernel.call(leaves, graph)
    grad_out = torch.randn(out.shape, generator=generator)
    room = torch.empty_like(inputs[0])
    samples = timing.alternate(
        {
            "forward": lambda: kernel.call(inputs, graph),
            "gather": lambda: limits.gather(inputs[0], graph, room),
            "backward": lambda: torch.autograd.grad(out, leaves, grad_out, retain_graph=True),
            "gather_transposed": lambda: limits.gather(inputs[0], back, room),
        },
        rounds,
    )
    return {name: timing.summary(seconds) for name, seconds in samples.items()}

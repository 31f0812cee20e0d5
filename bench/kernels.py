"""The op alone, forward and backward, against the gather limit of the same graph."""

from __future__ import annotations

from typing import Any

import torch
from gattn.bench import limits, timing
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import Layer
from torch import Tensor

from gattn.graph import Graph


def measure(case: GraphCase, layer: Layer, edge_index: Tensor, rounds: int) -> dict[str, Any]:
    """Summaries of ``forward``, ``backward``, ``gather`` and ``gather_transposed``, taken in turn.

    The gathers read as many rows ``[H, C]`` for every edge, from different tables, as the forward must read (of the
    graph) and the backward (of its transpose): :attr:`~gattn.bench.layers.Kernel.rows`.
    """
    kernel = layer.kernel
    graph = Graph.from_edge_index(edge_index, case.num_nodes, self_loops=True)
    back = limits.transposed(graph)
    generator = torch.Generator().manual_seed(case.seed + 2)
    leaves = [tensor.requires_grad_() for tensor in kernel.inputs(case, generator)]
    out = kernel.call(leaves, graph)
    grad_out = torch.randn(out.shape, generator=generator)
    room = torch.empty_like(grad_out)
    tables = [torch.randn(out.shape, generator=generator) for _ in range(max(kernel.rows))]

    def forward() -> None:
        with torch.no_grad():
            kernel.call(leaves, graph)

    def gather(adjacency: Graph, rows: int) -> None:
        for table in tables[:rows]:
            limits.gather(table, adjacency, room)

    samples = timing.alternate(
        {
            "forward": forward,
            "gather": lambda: gather(graph, kernel.rows[0]),
            "backward": lambda: torch.autograd.grad(out, leaves, grad_out, retain_graph=True),
            "gather_transposed": lambda: gather(back, kernel.rows[1]),
        },
        rounds,
    )
    return {name: timing.summary(seconds) for name, seconds in samples.items()}

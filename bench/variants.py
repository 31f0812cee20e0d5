"""What each modifier and half precision cost: the op's forward and backward, beside the plain op's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gattn.bench import timing
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import Layer
from torch import Tensor

from gattn import Decay, Lipschitz, Sink
from gattn.graph import Graph

PLAIN = "plain"


def modifiers(layer: Layer, case: GraphCase, generator: torch.Generator) -> dict[str, dict[str, Any]]:
    """Keyword arguments of the op by the modifier's name; all their tensors require gradients."""
    nodes, heads = case.num_nodes, case.heads

    def positive(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) + 0.5).requires_grad_()

    norms = positive(nodes, heads), positive(nodes, heads)
    dot = layer.name.startswith("transformer")
    distance = torch.randint(6, (case.num_edges,), generator=generator).to(torch.int16)
    return {
        "dropout": {"dropout_p": 0.5, "seed": 0},
        "lipschitz": {
            "lipschitz": Lipschitz.dot(positive(heads), *norms) if dot else Lipschitz.gat(*norms, positive(heads))
        },
        "decay": {"decay": Decay(distance, positive(heads), 0.6)},
        "sink": {"sink": Sink(positive(nodes, heads), positive(heads, case.channels))},
    }


def leaves_of(options: dict[str, Any]) -> list[Tensor]:
    """The tensors in modifiers that have gradients."""
    found = []
    for value in options.values():
        parts = vars(value).values() if hasattr(value, "__dict__") else ()
        for part in parts:
            found += [t for t in (part if isinstance(part, tuple) else (part,)) if isinstance(t, Tensor)]
    return [tensor for tensor in found if tensor.requires_grad]


def measure(case: GraphCase, layer: Layer, edge_index: Tensor, rounds: int) -> dict[str, Any]:
    """Summaries of ``plain``, of every modifier, and of ``bf16``, taken in turn."""
    graph = Graph.from_edge_index(edge_index, case.num_nodes, self_loops=True)
    generator = torch.Generator().manual_seed(case.seed + 3)
    inputs = layer.kernel.inputs(case, generator)

    def step(dtype: torch.dtype, options: dict[str, Any]) -> Callable[[], object]:
        leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        gradients = [*leaves, *leaves_of(options)]
        grad_out = torch.randn(case.num_nodes, case.heads, case.channels, generator=generator).to(dtype)
        return lambda: torch.autograd.grad(layer.kernel.call(leaves, graph, **options), gradients, grad_out)

    steps = {PLAIN: step(torch.float32, {})}
    steps |= {name: step(torch.float32, options) for name, options in modifiers(layer, case, generator).items()}
    steps["bf16"] = step(torch.bfloat16, {})
    return {name: timing.summary(seconds) for name, seconds in timing.alternate(steps, rounds).items()}


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Each variant's time over the plain op's."""
    return {name: summary["median"] / found[PLAIN]["median"] for name, summary in found.items() if name != PLAIN}

"""What a call costs before any edge is touched: the op on a graph of one node, beside PyTorch's own smallest steps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from gattn.bench import timing
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import Layer
from torch import Tensor

from gattn.graph import Graph


class _Nothing(torch.autograd.Function):
    """An op written in Python that computes nothing, for three inputs."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        return inputs[0].view_as(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return (grad, *ctx.saved_tensors[1:])


def steps(layer: Layer, device: torch.device, backend: str | None = None) -> dict[str, Callable[[], object]]:
    """Forward and backward of ``op``, ``function`` (an empty ``autograd.Function``) and ``native`` (a product of two
    tensors of one element)."""
    case = GraphCase("one", "one node", "uniform", 1, 1, in_channels=1, heads=1, channels=1)
    graph = Graph.from_edge_index(torch.zeros(2, 1, dtype=torch.int64, device=device), 1)
    inputs = layer.kernel.inputs(case, torch.Generator().manual_seed(0))
    leaves = [x.to(device).requires_grad_() for x in inputs]
    three = [torch.ones(1, device=device).requires_grad_() for _ in range(3)]
    forwards = {
        "op": (lambda: layer.kernel.call(leaves, graph, backend=backend), leaves),
        "function": (lambda: _Nothing.apply(*three), three),
        "native": (lambda: three[0] * three[1], three[:2]),
    }

    def run(name: str) -> None:
        forward, inputs = forwards[name]
        out = forward()
        torch.autograd.grad(out, inputs, torch.ones_like(out))

    return {name: functools.partial(run, name) for name in forwards}


def measure(layer: Layer, rounds: int) -> dict[str, Any]:
    """Summaries of :func:`steps` on the CPU, taken in turn."""
    samples = timing.alternate(steps(layer, torch.device("cpu")), rounds)
    return {name: timing.summary(seconds) for name, seconds in samples.items()}

"""What a call costs before any edge is touched: the op on a graph of one node, beside PyTorch's own smallest steps."""

from __future__ import annotations

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


def measure(layer: Layer, rounds: int) -> dict[str, Any]:
    """Summaries of forward and backward of ``op``, ``function`` (an empty ``autograd.Function``) and ``native`` (a
    product of two tensors of one element), taken in turn."""
    case = GraphCase("one", "one node", "uniform", 1, 1, in_channels=1, heads=1, channels=1)
    graph = Graph.from_edge_index(torch.zeros(2, 1, dtype=torch.int64), 1)
    leaves = [x.requires_grad_() for x in layer.kernel.inputs(case, torch.Generator().manual_seed(0))]
    three = [torch.ones(1).requires_grad_() for _ in range(3)]
    steps = {
        "op": (lambda: layer.kernel.call(leaves, graph), leaves),
        "function": (lambda: _Nothing.apply(*three), three),
        "native": (lambda: three[0] * three[1], three[:2]),
    }

    def run(name: str) -> None:
        forward, inputs = steps[name]
        out = forward()
        torch.autograd.grad(out, inputs, torch.ones_like(out))

    samples = timing.alternate({name: lambda name=name: run(name) for name in steps}, rounds)
    return {name: timing.summary(seconds) for name, seconds in samples.items()}

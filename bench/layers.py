"""The layers that are measured: parameters, the fp64 definition, and the op inside.

A row of :data:`LAYERS` is all a new score needs here; peers name the layers they have an adapter for.
Parameters carry the names and shapes of PyTorch Geometric's state dict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from gattn.bench.graphs import GraphCase
from torch import Tensor

from gattn.graph import Graph

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Kernel:
    """An op on tensors of its own, for timing without the layer around it."""

    #: tensors that the op differentiates, from a case and a generator
    inputs: Callable[[GraphCase, torch.Generator], list[Tensor]]
    #: ``call(inputs, graph) -> out [N, H, C]`` on the compiled kernel of the inputs' device
    call: Callable[[list[Tensor], Graph], Tensor]


@dataclass(frozen=True)
class Layer:
    """What every contender of one benchmark computes."""

    name: str
    shapes: Callable[[GraphCase], dict[str, tuple[int, ...]]]
    #: ``reference(x [N, F], parameters, graph with self-loops) -> [N, H*C]``, in the dtype given
    reference: Callable[[Tensor, Parameters, Graph], Tensor]
    kernel: Kernel

    def parameters(self, case: GraphCase, generator: torch.Generator) -> Parameters:
        """Fresh parameters, of the scale that keeps activations near one."""
        return {
            name: torch.randn(shape, generator=generator) / shape[-1] ** 0.5
            for name, shape in self.shapes(case).items()
        }


def _gat_shapes(case: GraphCase) -> dict[str, tuple[int, ...]]:
    heads, channels = case.heads, case.channels
    return {
        "lin.weight": (heads * channels, case.in_channels),
        "att_src": (1, heads, channels),
        "att_dst": (1, heads, channels),
        "bias": (heads * channels,),
    }


def _gat_reference(x: Tensor, parameters: Parameters, graph: Graph) -> Tensor:
    from gattn import reference

    att_src, att_dst = parameters["att_src"], parameters["att_dst"]
    z = (x @ parameters["lin.weight"].T).view(-1, *att_src.shape[1:])
    out = reference.gat(z, (z * att_src).sum(-1), (z * att_dst).sum(-1), graph)
    assert isinstance(out, Tensor)  # a pair only with return_attention
    return out.flatten(1) + parameters["bias"]


def _gat_inputs(case: GraphCase, generator: torch.Generator) -> list[Tensor]:
    nodes, heads = case.num_nodes, case.heads
    return [
        torch.randn(nodes, heads, case.channels, generator=generator),
        torch.randn(nodes, heads, generator=generator),
        torch.randn(nodes, heads, generator=generator),
    ]


def _gat_call(inputs: list[Tensor], graph: Graph) -> Tensor:
    from gattn import ops

    return ops.gat(inputs[0], inputs[1], inputs[2], graph)


LAYERS = {"gat": Layer("gat", _gat_shapes, _gat_reference, Kernel(_gat_inputs, _gat_call))}

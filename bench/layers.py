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

#: Far above fp32's rounding of a logit of size one (1e-6 at worst), far below the spacing of random logits.
KINK_MARGIN = 1e-5


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
    #: ``kink(x, parameters, edge_index) -> [E]``, each edge's distance from a point where the layer has no
    #: derivative; ``None`` for a smooth layer
    kink: Callable[[Tensor, Parameters, Tensor], Tensor] | None
    kernel: Kernel

    def near_kink(self, x: Tensor, parameters: Parameters, edge_index: Tensor) -> Tensor:
        """``[E]`` bool: edges on which fp32 and fp64 may take different sides, and so different gradients."""
        if self.kink is None:
            return torch.zeros(edge_index.size(1), dtype=torch.bool)
        wide = {name: value.double() for name, value in parameters.items()}
        return self.kink(x.double(), wide, edge_index) < KINK_MARGIN

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


def _gat_kink(x: Tensor, parameters: Parameters, edge_index: Tensor) -> Tensor:
    att_src, att_dst = parameters["att_src"], parameters["att_dst"]
    z = (x @ parameters["lin.weight"].T).view(-1, *att_src.shape[1:])
    source, target = edge_index
    return ((z * att_src).sum(-1)[source] + (z * att_dst).sum(-1)[target]).abs().amin(1)


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


LAYERS = {"gat": Layer("gat", _gat_shapes, _gat_reference, _gat_kink, Kernel(_gat_inputs, _gat_call))}

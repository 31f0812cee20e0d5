"""The layers that are measured: parameters, the fp64 definition, and the op inside.

A row of :data:`LAYERS` is all a new score needs here; peers name the layers they have an adapter for.
Parameters carry the names and shapes of PyTorch Geometric's state dict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from gattn.bench.graphs import GraphCase
from torch import Tensor

from gattn import ops, reference
from gattn.graph import Graph

Parameters = dict[str, Tensor]

#: Far above fp32's rounding of a logit of size one (1e-6 at worst), far below the spacing of random logits.
KINK_MARGIN = 1e-5


#: Edge features of the layers that have them.
EDGE_CHANNELS = 16
#: Edges whose features the search for kinks holds at a time.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Kernel:
    """An op on tensors of its own, for timing without the layer around it."""

    #: tensors that the op differentiates, from a case and a generator; the first has a row ``[H, C]`` a source
    inputs: Callable[[GraphCase, torch.Generator], list[Tensor]]
    #: ``call(inputs, graph, **modifiers) -> out [N, H, C]`` on the compiled kernel of the inputs' device
    call: Callable[..., Tensor]
    #: rows ``[H, C]`` that the forward and the backward must read or write for every edge
    rows: tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """What every contender of one benchmark computes."""

    name: str
    shapes: Callable[[GraphCase], dict[str, tuple[int, ...]]]
    #: ``reference(x [N, F], parameters, graph with self-loops, edge_attr [E, D] | None, channels) -> [N, H*C]``
    reference: Callable[[Tensor, Parameters, Graph, Tensor | None, int], Tensor]
    #: ``kink(x, parameters, edge_index, edge_attr) -> [E]``, each edge's distance from a point where the layer has
    #: no derivative; ``None`` for a smooth layer
    kink: Callable[[Tensor, Parameters, Tensor, Tensor | None], Tensor] | None
    kernel: Kernel
    #: whether the layer adds self-loops; if not, it is given a graph that has them, for equal numbers of edges
    adds_loops: bool = True
    #: channels of the edge features, 0 for none
    edge_channels: int = 0
    #: how near a kink is too near: above fp32's rounding of what is compared with 0 there
    margin: float = KINK_MARGIN

    def near_kink(
        self, x: Tensor, parameters: Parameters, edge_index: Tensor, edge_attr: Tensor | None = None
    ) -> Tensor:
        """``[E]`` bool: edges on which fp32 and fp64 may take different sides, and so different gradients."""
        if self.kink is None:
            return torch.zeros(edge_index.size(1), dtype=torch.bool, device=edge_index.device)
        wide = {name: value.double() for name, value in parameters.items()}
        return self.kink(x.double(), wide, edge_index, edge_attr) < self.margin

    def parameters(self, case: GraphCase, generator: torch.Generator) -> Parameters:
        """Fresh parameters, of the scale that keeps activations near one."""
        return {
            name: torch.randn(shape, generator=generator) / shape[-1] ** 0.5
            for name, shape in self.shapes(case).items()
        }


def _linear(case: GraphCase, name: str) -> dict[str, tuple[int, ...]]:
    width = case.heads * case.channels
    return {f"{name}.weight": (width, case.in_channels), f"{name}.bias": (width,)}


def _heads(x: Tensor, parameters: Parameters, name: str, channels: int) -> Tensor:
    """``x`` through a linear map, ``[rows, H, C]``."""
    out = x @ parameters[f"{name}.weight"].T
    if f"{name}.bias" in parameters:
        out = out + parameters[f"{name}.bias"]
    return out.unflatten(1, (-1, channels))


def _edge_heads(edge_attr: Tensor | None, parameters: Parameters, channels: int) -> Tensor | None:
    return None if edge_attr is None else _heads(edge_attr, parameters, "lin_edge", channels)


def _normal(generator: torch.Generator, *shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, generator=generator) for shape in shapes]


def _gat_shapes(case: GraphCase) -> dict[str, tuple[int, ...]]:
    heads, channels = case.heads, case.channels
    return {
        "lin.weight": (heads * channels, case.in_channels),
        "att_src": (1, heads, channels),
        "att_dst": (1, heads, channels),
        "bias": (heads * channels,),
    }


def _gat_reference(x: Tensor, parameters: Parameters, graph: Graph, edge: Tensor | None, channels: int) -> Tensor:
    att_src, att_dst = parameters["att_src"], parameters["att_dst"]
    z = _heads(x, parameters, "lin", channels)
    out: Tensor = reference.gat(z, (z * att_src).sum(-1), (z * att_dst).sum(-1), graph)
    return out.flatten(1) + parameters["bias"]


def _gat_kink(x: Tensor, parameters: Parameters, edge_index: Tensor, edge_attr: Tensor | None) -> Tensor:
    att_src, att_dst = parameters["att_src"], parameters["att_dst"]
    z = _heads(x, parameters, "lin", att_src.size(-1))
    source, target = edge_index
    return ((z * att_src).sum(-1)[source] + (z * att_dst).sum(-1)[target]).abs().amin(1)


def _gat_inputs(case: GraphCase, generator: torch.Generator) -> list[Tensor]:
    nodes, heads = case.num_nodes, case.heads
    return _normal(generator, (nodes, heads, case.channels), (nodes, heads), (nodes, heads))


def _gat_call(inputs: list[Tensor], graph: Graph, **modifiers: Any) -> Tensor:
    out: Tensor = ops.gat(inputs[0], inputs[1], inputs[2], graph, **modifiers)
    return out


def _gatv2_shapes(case: GraphCase) -> dict[str, tuple[int, ...]]:
    width = case.heads * case.channels
    return {
        **_linear(case, "lin_l"),
        **_linear(case, "lin_r"),
        "att": (1, case.heads, case.channels),
        "bias": (width,),
    }


def _gatv2_reference(x: Tensor, parameters: Parameters, graph: Graph, edge: Tensor | None, channels: int) -> Tensor:
    left, right = (_heads(x, parameters, name, channels) for name in ("lin_l", "lin_r"))
    out: Tensor = reference.gatv2(left, right, parameters["att"][0], graph, _edge_heads(edge, parameters, channels))
    return out.flatten(1) + parameters["bias"]


def _gatv2_kink(x: Tensor, parameters: Parameters, edge_index: Tensor, edge_attr: Tensor | None) -> Tensor:
    channels = parameters["att"].size(-1)
    left, right = (_heads(x, parameters, name, channels) for name in ("lin_l", "lin_r"))
    found = []
    for begin in range(0, edge_index.size(1), _CHUNK):
        source, target = edge_index[:, begin : begin + _CHUNK].long()
        z = left[source] + right[target]
        if edge_attr is not None:
            z = z + _heads(edge_attr[begin : begin + _CHUNK].double(), parameters, "lin_edge", channels)
        found.append(z.abs().flatten(1).amin(1))
    return torch.cat(found)


def _gatv2_inputs(case: GraphCase, generator: torch.Generator) -> list[Tensor]:
    nodes, heads, channels = case.num_nodes, case.heads, case.channels
    inputs = _normal(generator, (nodes, heads, channels), (nodes, heads, channels), (heads, channels))
    inputs[2] /= channels**0.5
    return inputs


def _gatv2_call(inputs: list[Tensor], graph: Graph, **modifiers: Any) -> Tensor:
    out: Tensor = ops.gatv2(*inputs[:3], graph, *inputs[3:], **modifiers)
    return out


def _transformer_shapes(case: GraphCase) -> dict[str, tuple[int, ...]]:
    names = ("lin_key", "lin_query", "lin_value", "lin_skip")
    return {name: shape for linear in names for name, shape in _linear(case, linear).items()}


def _transformer_reference(
    x: Tensor, parameters: Parameters, graph: Graph, edge: Tensor | None, channels: int
) -> Tensor:
    query, key, value = (_heads(x, parameters, f"lin_{name}", channels) for name in ("query", "key", "value"))
    out: Tensor = reference.dot(query, key, value, graph, _edge_heads(edge, parameters, channels))
    return out.flatten(1) + _heads(x, parameters, "lin_skip", channels).flatten(1)


def _dot_inputs(case: GraphCase, generator: torch.Generator) -> list[Tensor]:
    return _normal(generator, *[(case.num_nodes, case.heads, case.channels)] * 3)


def _dot_call(inputs: list[Tensor], graph: Graph, **modifiers: Any) -> Tensor:
    out: Tensor = ops.dot(*inputs[:3], graph, *inputs[3:], **modifiers)
    return out


def _with_edges(layer: Layer) -> Layer:
    """The layer with edge features; a row of them is read in either direction, and one of gradients written."""

    def shapes(case: GraphCase) -> dict[str, tuple[int, ...]]:
        return {**layer.shapes(case), "lin_edge.weight": (case.heads * case.channels, EDGE_CHANNELS)}

    def inputs(case: GraphCase, generator: torch.Generator) -> list[Tensor]:
        edge = (case.num_edges, case.heads, case.channels)
        return [*layer.kernel.inputs(case, generator), *_normal(generator, edge)]

    forward, backward = layer.kernel.rows
    kernel = Kernel(inputs, layer.kernel.call, (forward + 1, backward + 2))
    return replace(layer, name=f"{layer.name}-edge", shapes=shapes, kernel=kernel, edge_channels=EDGE_CHANNELS)


_GAT = Layer("gat", _gat_shapes, _gat_reference, _gat_kink, Kernel(_gat_inputs, _gat_call, (1, 1)))
_GATV2 = Layer(
    "gatv2",
    _gatv2_shapes,
    _gatv2_reference,
    _gatv2_kink,
    # Sources' rows; backward by target the same, by source the targets' rows and output gradients.
    Kernel(_gatv2_inputs, _gatv2_call, (1, 3)),
    margin=2e-6,  # a kink for every edge and channel: a wider margin would leave none
)
_TRANSFORMER = Layer(
    "transformer",
    _transformer_shapes,
    _transformer_reference,
    None,
    # Keys and values; backward by target the same, by source queries and output gradients.
    Kernel(_dot_inputs, _dot_call, (2, 4)),
    adds_loops=False,
)
LAYERS = {layer.name: layer for layer in (_GAT, _GATV2, _with_edges(_GATV2), _TRANSFORMER, _with_edges(_TRANSFORMER))}

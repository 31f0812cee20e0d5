"""How layers are seen that compute attention themselves: PyTorch Geometric's, and others that are registered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv
from torch_geometric.utils import is_sparse

from gattn.graph import Graph
from gattn.observers import Attended
from gattn.reference.attention import Inputs, Settings

#: Gets every attention that a layer computes.
Show = Callable[[Attended], None]
#: While the context lasts, shows what the layer computes.
Watch = Callable[[Any, Show], AbstractContextManager[object]]

#: What of a layer's class decides what it computes: a subclass that has its own is another layer.
_COMPUTES = ("forward", "message", "edge_update")


def _gat(conv: Any, given: dict[str, Any], edge: Tensor | None) -> tuple[Inputs, Settings]:
    x_src, x_dst = given["x"]
    a_src = (x_src * conv.att_src).sum(-1)
    a_dst = None if x_dst is None else (x_dst * conv.att_dst).sum(-1)
    a_edge = None if edge is None else (edge * conv.att_edge).sum(-1)
    return Inputs(v=x_src, a_src=a_src, a_dst=a_dst, a_edge=a_edge), Settings("gat", conv.negative_slope)


def _gatv2(conv: Any, given: dict[str, Any], edge: Tensor | None) -> tuple[Inputs, Settings]:
    x_src, x_dst = given["x"]
    att = conv.att.view(conv.heads, conv.out_channels)
    return Inputs(q=x_dst, k=x_src, edge=edge, att=att), Settings("gatv2", conv.negative_slope)


def _transformer(conv: Any, given: dict[str, Any], edge: Tensor | None) -> tuple[Inputs, Settings]:
    settings = Settings("dot", scale=1 / math.sqrt(conv.out_channels))
    return Inputs(q=given["query"], k=given["key"], v=given["value"], edge=edge), settings


_PYG: dict[type, Callable[..., tuple[Inputs, Settings]]] = {
    GATConv: _gat,
    GATv2Conv: _gatv2,
    TransformerConv: _transformer,
}


@contextmanager
def message_passing(conv: Any, show: Show) -> Iterator[None]:
    """Shows what PyTorch Geometric's message passing computes in an attention layer, from its own tensors."""
    inputs_of = next(build for kind, build in _PYG.items() if isinstance(conv, kind))
    projected: list[Tensor] = []  # edge features, which PyG projects on its way
    given: dict[str, Any] = {}

    def begin(*_: Any) -> None:
        projected.clear()
        given.clear()

    def keep(_: Any, arguments: tuple[Any, Any, dict[str, Any]]) -> None:
        given.update(arguments[2], edge_index=arguments[0])

    @torch.no_grad()
    def end(_: Any, __: Any, out: Tensor) -> None:
        edge = projected[-1].view(-1, conv.heads, conv.out_channels) if projected else None
        inputs, settings = inputs_of(conv, given, edge)
        sources = inputs.v if inputs.k is None else inputs.k
        assert sources is not None
        show(Attended(inputs, settings, _graph(given["edge_index"], conv.flow, sources.size(0), out.size(0))))
        begin()

    handles = [
        conv.register_forward_pre_hook(begin),
        conv.register_propagate_forward_pre_hook(keep),
        conv.register_propagate_forward_hook(end),
    ]
    if conv.lin_edge is not None:
        handles.append(conv.lin_edge.register_forward_hook(lambda _, __, out: projected.append(out)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _graph(edge_index: Any, flow: str, num_src: int, num_dst: int) -> Graph:
    if is_sparse(edge_index):
        return Graph.from_adj_t(edge_index)
    indices = edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index
    indices = indices if indices.dtype in (torch.int32, torch.int64) else indices.long()
    return Graph.from_edge_index(indices, (num_src, num_dst), flow=flow)


#: By class. A layer whose attention is no op of gattn's is examined as soon as its class stands here.
WATCHED: dict[type, Watch] = dict.fromkeys(_PYG, message_passing)


def watch_of(layer: nn.Module) -> Watch | None:
    """How to see what ``layer`` computes, if it is of a class in :data:`WATCHED`, or of a subclass that changes
    nothing about it."""
    for kind in type(layer).__mro__:
        if kind in WATCHED:
            changed = any(getattr(type(layer), name, None) is not getattr(kind, name, None) for name in _COMPUTES)
            return None if changed else WATCHED[kind]
    return None

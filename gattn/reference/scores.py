"""The ops of :mod:`gattn.ops` in plain PyTorch; arguments and results as there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.reference.attention import (
    Inputs,
    Results,
    Settings,
    attention,
    edge_divisor,
    with_decay,
    with_modifiers,
)
from gattn.reference.dropout import accumulate_dtype

Attention = bool | str


def _attend(
    settings: Settings,
    inputs: Inputs,
    graph: Graph,
    *,
    lipschitz: Lipschitz | None = None,
    decay: Decay | None = None,
    sink: Sink | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    return_attention: Attention = False,
) -> Results:
    inputs = with_modifiers(inputs, graph, lipschitz, decay, sink)
    undropped = return_attention == "before_dropout"
    settings = with_decay(settings._replace(dropout_p=dropout_p, undropped=undropped), decay)
    return attention(inputs, settings, graph, seed, edge_divisor(lipschitz, graph))


def pick(results: Results, return_attention: Attention, return_edge: bool = False) -> Any:
    """The one tensor, or the tuple ``out, alpha, edge, stats``, that an op returns."""
    alpha, edge = results.alpha if return_attention else None, results.edge if return_edge else None
    wanted = [results.out, alpha, edge, results.stats]
    given = tuple(x for x in wanted if x is not None)
    return given if len(given) > 1 else given[0]


def gat(
    x: Tensor,
    a_src: Tensor,
    a_dst: Tensor | None,
    graph: Graph,
    a_edge: Tensor | None = None,
    *,
    negative_slope: float = 0.2,
    return_attention: Attention = False,
    **common: Any,
) -> Any:
    """:func:`gattn.ops.gat`."""
    inputs = Inputs(v=x, a_src=a_src, a_dst=a_dst, a_edge=a_edge)
    settings = Settings("gat", negative_slope)
    return pick(_attend(settings, inputs, graph, return_attention=return_attention, **common), return_attention)


def node_terms(
    x: Tensor, att_src: Tensor | None, att_dst: Tensor | None, *, norm: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """:func:`gattn.ops.node_terms.node_terms`."""
    wide = x.to(accumulate_dtype(x.dtype))
    a_src, a_dst = (None if att is None else (wide * att.to(wide.dtype)).sum(-1) for att in (att_src, att_dst))
    return a_src, a_dst, torch.linalg.vector_norm(wide, dim=-1) if norm else None


def lipschitz_weight(att_src: Tensor, att_dst: Tensor) -> Tensor:
    """``4 |[att_src, att_dst]|`` ``[H]`` of parameters ``[H, C]``: the weight of :meth:`gattn.Lipschitz.gat`."""
    norm: Tensor = torch.linalg.vector_norm(torch.cat([att_src, att_dst], dim=-1), dim=-1)
    return 4 * norm


def gat_layer(
    x: Tensor,
    att_src: Tensor,
    att_dst: Tensor,
    graph: Graph,
    a_edge: Tensor | None = None,
    *,
    lipschitz: bool = False,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """``(out, alpha)`` of :func:`gattn.ops.gat_layer`."""
    weight = None
    if lipschitz:
        wide = accumulate_dtype(x.dtype)
        weight = lipschitz_weight(att_src.to(wide), att_dst.to(wide))
    return weighted_gat_layer(x, att_src, att_dst, graph, a_edge, weight=weight, **options)


def weighted_gat_layer(
    x: Tensor,
    att_src: Tensor,
    att_dst: Tensor,
    graph: Graph,
    a_edge: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    weight: Tensor | None = None,
    negative_slope: float = 0.2,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`gat_layer` with LipschitzNorm's weight as an input of its own, or ``None`` for no norm."""
    wide = x.to(accumulate_dtype(x.dtype))
    a_src, a_dst, norm = node_terms(x, att_src, att_dst, norm=weight is not None)
    assert a_src is not None
    lipschitz = None if norm is None or weight is None else Lipschitz.gat(norm, norm, weight)
    out, alpha = gat(
        wide,
        a_src,
        a_dst,
        graph,
        a_edge,
        lipschitz=lipschitz,
        negative_slope=negative_slope,
        dropout_p=dropout_p,
        seed=seed,
        return_attention=True,
    )
    if bias is not None:
        out = out + bias.to(wide.dtype).view(x.size(1), x.size(2))
    return out.to(x.dtype), alpha


def gatv2(
    x_src: Tensor,
    x_dst: Tensor,
    att: Tensor,
    graph: Graph,
    x_edge: Tensor | None = None,
    *,
    negative_slope: float = 0.2,
    return_attention: Attention = False,
    **common: Any,
) -> Any:
    """:func:`gattn.ops.gatv2`."""
    inputs = Inputs(q=x_dst, k=x_src, edge=x_edge, att=att)
    settings = Settings("gatv2", negative_slope)
    return pick(_attend(settings, inputs, graph, return_attention=return_attention, **common), return_attention)


def dot(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    graph: Graph,
    edge: Tensor | None = None,
    *,
    scale: float | None = None,
    return_attention: Attention = False,
    **common: Any,
) -> Any:
    """:func:`gattn.ops.dot`."""
    settings = Settings("dot", scale=q.size(-1) ** -0.5 if scale is None else scale)
    results = _attend(settings, Inputs(q, k, v, edge), graph, return_attention=return_attention, **common)
    return pick(results, return_attention)


def gt(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    edge: Tensor,
    graph: Graph,
    *,
    clip: float = 5.0,
    edge_weight: Tensor | None = None,
    return_edge: bool = False,
    return_attention: Attention = False,
    **common: Any,
) -> Any:
    """:func:`gattn.ops.gt`."""
    if edge_weight is not None and edge_weight.dim() == 1:
        edge_weight = edge_weight.unsqueeze(1).expand(-1, q.size(1))
    settings = Settings("gt", scale=q.size(-1) ** -0.5, clip=clip, epsilon=GT_EPSILON)
    inputs = Inputs(q, k, v, edge, edge_weight=edge_weight)
    results = _attend(settings, inputs, graph, return_attention=return_attention, **common)
    return pick(results, return_attention, return_edge)


#: What score ``gt`` adds to the sum of its weights (Dwivedi and Bresson's program).
GT_EPSILON = 1e-6


def edge_softmax(logits: Tensor, graph: Graph, **common: Any) -> Tensor:
    """:func:`gattn.ops.edge_softmax`."""
    return _attend(Settings("edge_softmax"), Inputs(a_edge=logits), graph, **common).alpha.to(logits.dtype)

"""Attention logits of the GAT layer, per node and per edge: every pass the layer makes outside the op."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.dense.linear import Linear

from gattn.nn._fused import has_forward_hooks


def node_scores(
    x_src: Tensor, x_dst: Tensor | None, att_src: Tensor, att_dst: Tensor
) -> tuple[Tensor, Tensor | None]:
    """``<x, att>`` per node and head: ``x_* [N, H, C]``, ``att_* [1, H, C]`` -> ``[N, H]`` each.

    ``x_dst`` may be ``x_src`` itself (one graph) or ``None`` (no target features: no target scores).
    Under autocast ``x`` comes in low precision and the scores leave in the precision of ``att``.
    """
    a_src = (x_src * att_src).sum(-1)
    return a_src, None if x_dst is None else (x_dst * att_dst).sum(-1)


def edge_scores(edge_attr: Tensor, lin_edge: Any, att_edge: Tensor) -> Tensor:
    """``<lin_edge(edge_attr), att_edge>`` per edge and head: ``[E, D]`` or ``[E]`` -> ``[E, H]``.

    A plain ``lin_edge`` is folded with ``att_edge [1, H, C]`` into one ``[H, D]`` matrix, so that nothing of
    size ``E x H x C`` exists; a hooked, replaced or not yet initialised one is called as it stands.
    """
    if edge_attr.dim() == 1:
        edge_attr = edge_attr.view(-1, 1)
    _, heads, channels = att_edge.shape
    if not is_plain(lin_edge):
        projected: Tensor = lin_edge(edge_attr)
        return (projected.view(-1, heads, channels) * att_edge).sum(-1)
    if torch.is_autocast_enabled(edge_attr.device.type):
        # The logits feed a softmax: like the node scores, they are not rounded to low precision.
        with torch.autocast(edge_attr.device.type, enabled=False):
            return F.linear(edge_attr.to(att_edge.dtype), _fold(lin_edge.weight, att_edge))
    return F.linear(edge_attr, _fold(lin_edge.weight, att_edge))


def is_plain(lin: nn.Module) -> bool:
    """Whether ``lin`` is nothing but a product with its weight: PyG's own, without bias or hooks."""
    return type(lin) is Linear and lin.bias is None and not has_forward_hooks(lin)


def _fold(weight: Tensor, att_edge: Tensor) -> Tensor:
    _, heads, channels = att_edge.shape
    return (weight.view(heads, channels, -1) * att_edge.view(heads, channels, 1)).sum(1)

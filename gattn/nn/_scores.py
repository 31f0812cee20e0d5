"""Attention logits that the GAT layer's edge features give."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.typing import OptTensor

from gattn.nn._fused import has_forward_hooks


def edge_scores(edge_attr: Tensor, lin_edge: Any, att_edge: Tensor) -> Tensor:
    """``<lin_edge(edge_attr), att_edge>`` per edge and head: ``[E, D]`` or ``[E]`` -> ``[E, H]``.

    A plain ``lin_edge`` is folded with ``att_edge [1, H, C]`` into one ``[H, D]`` matrix, so that nothing of
    size ``E x H x C`` exists; a hooked, replaced or not yet initialised one is called as it stands.
    """
    edge_attr = as_rows(edge_attr)
    _, heads, channels = att_edge.shape
    if not is_plain(lin_edge):
        projected: Tensor = lin_edge(edge_attr)
        return (projected.view(-1, heads, channels) * att_edge).sum(-1)
    if torch.is_autocast_enabled(edge_attr.device.type):  # as for the nodes
        with torch.autocast(edge_attr.device.type, enabled=False):
            return edge_scores(edge_attr.to(att_edge.dtype), lin_edge, att_edge)
    folded = (lin_edge.weight.view(heads, channels, -1) * att_edge.view(heads, channels, 1)).sum(1)
    return F.linear(edge_attr, folded)


def as_rows(edge_attr: Tensor) -> Tensor:
    """``[E, D]``, also of one number an edge."""
    return edge_attr.view(-1, 1) if edge_attr.dim() == 1 else edge_attr


def same_dtype(*features: OptTensor) -> list[Any]:
    """The features promoted to one dtype, as PyG's sums promote them.

    They differ where linear maps were replaced or hooked by something that autocast treats otherwise.
    """
    dtypes = [x.dtype for x in features if x is not None]
    if all(dtype is dtypes[0] for dtype in dtypes):
        return list(features)
    common = reduce(torch.promote_types, dtypes)
    return [None if x is None else x.to(common) for x in features]


def is_plain(lin: nn.Module) -> bool:
    """Whether ``lin`` is nothing but a product with its weight: PyG's own, without bias or hooks."""
    return type(lin) is Linear and lin.bias is None and not has_forward_hooks(lin)

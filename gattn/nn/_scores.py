"""Attention logits of the GAT layer, per node and per edge: every pass the layer makes outside the op."""

from __future__ import annotations

from collections.abc import Sequence
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
    Under autocast ``x`` comes in low precision; the scores feed a softmax and are not rounded to it.
    """
    if torch.is_autocast_enabled(x_src.device.type):
        with torch.autocast(x_src.device.type, enabled=False):
            wide = x_src.to(att_src.dtype)
            wide_dst = wide if x_dst is x_src or x_dst is None else x_dst.to(att_dst.dtype)
            return node_scores(wide, None if x_dst is None else wide_dst, att_src, att_dst)
    if x_dst is x_src:
        a_src, a_dst = _scores(x_src, att_src, att_dst)
        return a_src, a_dst
    return _scores(x_src, att_src)[0], None if x_dst is None else _scores(x_dst, att_dst)[0]


def _scores(x: Tensor, *att: Tensor) -> tuple[Tensor, ...]:
    scores: tuple[Tensor, ...] = _Scores.apply(x, *att)  # type: ignore[no-untyped-call]
    return scores


class _Scores(torch.autograd.Function):
    """``(x . att).sum(-1)`` for each of several ``att``: one product with a block-diagonal matrix.

    So ``x`` is read once and nothing of its size is stored. Differentiable any number of times.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *att: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *att)
        ctx.blocks = blocks = _block_diagonal(att)
        return tuple(a.contiguous() for a in (x.flatten(1) @ blocks.t()).split(x.size(1), 1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *att = ctx.saved_tensors
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return _Scores.backward(ctx, *grads)
        # Built anew where derivatives of this backward need it to depend on `att`.
        blocks = _block_diagonal(att) if torch.is_grad_enabled() else ctx.blocks
        heads, grad, dx, datt = x.size(1), torch.cat(grads, 1), None, [None] * len(att)
        if ctx.needs_input_grad[0]:
            dx = (grad @ blocks).view_as(x)
        if any(ctx.needs_input_grad[1:]):
            products = (grad.t() @ x.flatten(1)).view(len(att), heads, heads, -1)
            datt = products.diagonal(dim1=1, dim2=2).transpose(1, 2).split(1)
        return dx, *datt


def _block_diagonal(att: Sequence[Tensor]) -> Tensor:
    """``K`` times ``[1, H, C]`` -> ``[K * H, H * C]``, zero wherever the two heads differ."""
    stacked = torch.cat(tuple(att)).unsqueeze(2)
    heads = stacked.size(1)
    eye = torch.eye(heads, dtype=stacked.dtype, device=stacked.device)
    return (stacked * eye.unsqueeze(2)).view(-1, heads * stacked.size(3))


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
    if torch.is_autocast_enabled(edge_attr.device.type):  # as for the nodes
        with torch.autocast(edge_attr.device.type, enabled=False):
            return edge_scores(edge_attr.to(att_edge.dtype), lin_edge, att_edge)
    folded = (lin_edge.weight.view(heads, channels, -1) * att_edge.view(heads, channels, 1)).sum(1)
    return F.linear(edge_attr, folded)


def is_plain(lin: nn.Module) -> bool:
    """Whether ``lin`` is nothing but a product with its weight: PyG's own, without bias or hooks."""
    return type(lin) is Linear and lin.bias is None and not has_forward_hooks(lin)

"""What a node's own features give it, in one pass: scores against parameters, and norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gattn.backends import _C, select_backend
from gattn.exchange import call_core
from gattn.ops.double_backward import differentiate_backward
from gattn.ops.library import register
from gattn.reference.dropout import accumulate_dtype
from gattn.reference.scores import node_terms as reference_terms

#: ``a_src``, ``a_dst`` and ``norm``; ``None`` for what was not asked for.
Terms = tuple[Tensor | None, Tensor | None, Tensor | None]


def node_terms(
    x: Tensor,
    att_src: Tensor | None = None,
    att_dst: Tensor | None = None,
    *,
    norm: bool = False,
    backend: str | None = None,
) -> Terms:
    """``<x, att>`` by node and head for the parameters given, and ``|x|`` if ``norm``; everything in one pass over
    ``x``, and in one more for all gradients.

    Args:
        x: ``[N, H, C]``, float32, float64, bfloat16 or float16.
        att_src: ``[H, C]``, any floating dtype, or ``None``.
        att_dst: ``[H, C]``, any floating dtype, or ``None``.
        norm: Whether to return the norms, whose gradient at 0 is 0.
        backend: As of every op.

    Returns:
        ``(a_src, a_dst, norm)``, ``[N, H]`` each in the accumulate dtype (float32; float64 for float64): half precision
        cannot hold the square of 256, and scores feed a softmax.
    """
    wide = accumulate_dtype(x.dtype)
    att_src, att_dst = (None if att is None else att.to(wide).contiguous() for att in (att_src, att_dst))
    if select_backend(backend, x.device) != "cpu":
        return reference_terms(x, att_src, att_dst, norm=norm)
    found: Terms = _node_terms(x.contiguous(), att_src, att_dst, norm)
    return found


def node_norms(x: Tensor, *, backend: str | None = None) -> Tensor:
    """The norms ``[N, H]`` alone."""
    norm = node_terms(x, norm=True, backend=backend)[2]
    assert norm is not None
    return norm


def _forward_cpu(x: Tensor, att_src: Tensor | None, att_dst: Tensor | None, norm: bool) -> Terms:
    outputs = _forward_fake(x, att_src, att_dst, norm)
    call_core(_C.node_terms, x, att_src, att_dst, *outputs, torch.get_num_threads())
    return outputs


def _forward_fake(x: Tensor, att_src: Tensor | None, att_dst: Tensor | None, norm: bool) -> Terms:
    a_src, a_dst, norms = (
        x.new_empty(x.shape[:2], dtype=accumulate_dtype(x.dtype)) if wanted else None
        for wanted in (att_src is not None, att_dst is not None, norm)
    )
    return a_src, a_dst, norms


def _setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: Terms) -> None:
    ctx.save_for_backward(*inputs[:3], outputs[2])


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    x, att_src, att_dst, norm = ctx.saved_tensors
    like = x.new_empty(0, dtype=accumulate_dtype(x.dtype))
    given = (
        None if term is None else like.new_zeros(x.shape[:2]) if grad is None else grad.contiguous()
        for term, grad in zip((att_src, att_dst, norm), grads, strict=True)
    )
    return *_node_terms_backward(x, att_src, att_dst, norm, *given), None


def _backward_cpu(
    x: Tensor, att_src: Tensor | None, att_dst: Tensor | None, norm: Tensor | None, *grads: Tensor | None
) -> tuple[Tensor | None, ...]:
    results = _backward_fake(x, att_src, att_dst)
    call_core(_C.node_terms_backward, x, att_src, att_dst, norm, *grads, *results, torch.get_num_threads())
    return results


def _backward_fake(x: Tensor, att_src: Tensor | None, att_dst: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    return tuple(None if t is None else torch.empty_like(t) for t in (x, att_src, att_dst))


def _setup_double(ctx: Any, inputs: tuple[Any, ...], _: Any) -> None:
    ctx.save_for_backward(*inputs)


def _double_backward(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
    x, att_src, att_dst, norm, *grads = ctx.saved_tensors

    def forward(x: Tensor, att_src: Tensor | None, att_dst: Tensor | None) -> tuple[Tensor, ...]:
        # An output that was not asked for has no gradient and is not looked at.
        return tuple(x if t is None else t for t in reference_terms(x, att_src, att_dst, norm=norm is not None))

    found = differentiate_backward(forward, (x, att_src, att_dst), grads, grad_grads)
    return (*found[:3], None, *found[3:])


_node_terms_backward = register(
    "node_terms_backward(Tensor x, Tensor? att_src, Tensor? att_dst, Tensor? norm, Tensor? grad_a_src, "
    "Tensor? grad_a_dst, Tensor? grad_norm) -> (Tensor, Tensor, Tensor)",
    cpu=_backward_cpu,
    fake=_backward_fake,
    setup_context=_setup_double,
    backward=_double_backward,
)
_node_terms = register(
    "node_terms(Tensor x, Tensor? att_src, Tensor? att_dst, bool norm) -> (Tensor, Tensor, Tensor)",
    cpu=_forward_cpu,
    fake=_forward_fake,
    setup_context=_setup_context,
    backward=_backward,
)

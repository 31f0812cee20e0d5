"""Gradients of the backward ops, through the differentiable reference.

Second derivatives are rare (force training, gradient penalties, Hessian products) and their fused form would double
the kernels, so they trade the reference's memory for exactness: ``E * H * C`` numbers while they are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gattn.backends import _C
from gattn.graph import Graph


def unpack_graph(packed: Tensor, num_dst: int, *, num_src: int | None = None, num_edges: int | None = None) -> Graph:
    """The Graph whose packed adjacency an op was given; of ``num_src`` and ``num_edges`` one tells the other."""
    rest = packed.numel() - _C.GRAPH_HEADER - num_dst - 2
    if num_edges is None:
        assert num_src is not None
        num_edges = (rest - num_src) // 5
    return Graph._make(packed, rest - 5 * num_edges, num_dst, num_edges, 0)


def differentiate_backward(
    forward: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    grad_grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradient of ``(inputs, grads) -> vector-Jacobian product of forward`` along ``grad_grads``.

    Args:
        forward: The reference, ``forward(*inputs)``, giving one tensor for each of ``grads``.
        inputs: The op's inputs.
        grads: Gradients of the op's outputs; ``None`` for an output without one.
        grad_grads: Gradients of the gradients of ``inputs``.

    Returns:
        Gradients for ``inputs`` and then ``grads``; differentiable again where autograd records.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [t if t is None or t.requires_grad else t.detach().requires_grad_() for t in [*inputs, *grads]]
        outputs = forward(*leaves[: len(inputs)])
        pairs = [(out, grad) for out, grad in zip(outputs, leaves[len(inputs) :], strict=True) if grad is not None]
        wanted = [(t, gg) for t, gg in zip(leaves, grad_grads, strict=False) if t is not None and gg is not None]
        if not wanted or not pairs:
            return [None] * len(leaves)
        first = torch.autograd.grad(
            [out for out, _ in pairs],
            [t for t, _ in wanted],
            [grad for _, grad in pairs],
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        product = torch.stack([(g * gg).sum() for g, (_, gg) in zip(first, wanted, strict=True)]).sum()
        present = [t for t in leaves if t is not None]
        if not product.requires_grad:
            return [None] * len(leaves)
        found = iter(torch.autograd.grad(product, present, create_graph=again, allow_unused=True))
    return [None if t is None else next(found) for t in leaves]

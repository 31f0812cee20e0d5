"""Softmax of given logits over the in-edges of each target."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gattn import reference
from gattn.backends import _C, select_backend
from gattn.graph import Graph
from gattn.ops.double_backward import differentiate_backward, unpack_graph
from gattn.ops.library import capsule, register, seed_tensor, seed_value
from gattn.ops.validation import FLOATING, check_dropout, check_dtype_and_device, check_graph
from gattn.reference.softmax import accumulate_dtype


def edge_softmax(
    logits: Tensor,
    graph: Graph,
    *,
    dropout_p: float = 0.0,
    seed: int | None = None,
    backend: str | None = None,
) -> Tensor:
    """Softmax over the in-edges of each target, then dropout.

    Args:
        logits: ``[E, H]`` in the caller's edge order; float32, float64, bfloat16 or float16 (computed in float32).
        graph: The adjacency.
        dropout_p: Probability to drop a weight; kept ones grow by ``1 / (1 - p)``.
        seed: Dropout seed; ``None`` draws one from torch's generator.
        backend: ``"reference"``, ``"cpu"`` or ``None`` for the fastest usable.

    Returns:
        ``[E, H]`` in ``logits``'s dtype; the weights of one target and head sum to 1 (without dropout).

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape, a device or an argument does not fit.
    """
    check_graph(graph)
    if logits.dim() != 2 or logits.size(0) != graph.num_edges or logits.size(1) < 1:
        raise ValueError(
            f"Expected 'logits' to have shape [{graph.num_edges}, heads], one row an edge of the graph (got "
            f"{list(logits.shape)})."
        )
    check_dtype_and_device("logits", logits, FLOATING, graph)
    check_dropout(dropout_p)
    if select_backend(backend, logits.device) == "reference":
        return reference.edge_softmax(logits, graph, dropout_p=dropout_p, seed=seed)
    wide = logits.to(accumulate_dtype(logits.dtype)).contiguous()
    alpha, _ = _edge_softmax(wide, graph.data, seed_tensor(dropout_p, seed), graph.num_dst, dropout_p)
    result: Tensor = alpha.to(logits.dtype)
    return result


def _forward_cpu(
    logits: Tensor, graph: Tensor, seed: Tensor | None, num_dst: int, dropout_p: float
) -> tuple[Tensor, Tensor]:
    alpha, row_stats = _forward_fake(logits, graph, seed, num_dst, dropout_p)
    _C.edge_softmax_forward(
        capsule(graph),
        capsule(logits),
        dropout_p,
        seed_value(seed),
        capsule(row_stats),
        capsule(alpha),
        torch.get_num_threads(),
    )
    return alpha, row_stats


def _forward_fake(
    logits: Tensor, graph: Tensor, seed: Tensor | None, num_dst: int, dropout_p: float
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(logits), logits.new_empty(num_dst, 2, logits.shape[1])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, graph, seed, _, ctx.dropout_p = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(logits, graph, seed, *output)


def _backward(ctx: Any, grad_alpha: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if grad_alpha is None:
        return None, None, None, None, None
    logits, graph, seed, alpha, row_stats = ctx.saved_tensors
    grad = _edge_softmax_backward(grad_alpha.contiguous(), logits, graph, seed, alpha, row_stats, ctx.dropout_p)
    return grad, None, None, None, None


def _backward_cpu(
    grad_alpha: Tensor,
    logits: Tensor,
    graph: Tensor,
    seed: Tensor | None,
    alpha: Tensor,
    row_stats: Tensor,
    dropout_p: float,
) -> Tensor:
    grad_logits = torch.empty_like(logits)
    _C.edge_softmax_backward(
        capsule(graph),
        capsule(logits),
        dropout_p,
        seed_value(seed),
        capsule(row_stats),
        capsule(alpha),
        capsule(grad_alpha),
        capsule(grad_logits),
        torch.get_num_threads(),
    )
    return grad_logits


def _backward_fake(grad_alpha: Tensor, logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


def _setup_double(ctx: Any, inputs: tuple[Any, ...], _: Any) -> None:
    grad_alpha, logits, graph, seed, _, row_stats, ctx.dropout_p = inputs
    ctx.num_dst = row_stats.shape[0]
    ctx.save_for_backward(grad_alpha, logits, graph, seed)


def _double_backward(ctx: Any, grad_grad: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_alpha, logits, packed, seed = ctx.saved_tensors
    graph = unpack_graph(packed, ctx.num_dst, num_edges=logits.size(0))

    def forward(logits: Tensor) -> tuple[Tensor]:
        return (reference.edge_softmax(logits, graph, dropout_p=ctx.dropout_p, seed=seed),)

    grads = differentiate_backward(forward, (logits,), (grad_alpha,), (grad_grad,))
    return grads[1], grads[0], None, None, None, None, None


_edge_softmax_backward = register(
    "edge_softmax_backward(Tensor grad_alpha, Tensor logits, Tensor graph, Tensor? seed, Tensor alpha, "
    "Tensor row_stats, float dropout_p) -> Tensor",
    cpu=_backward_cpu,
    fake=_backward_fake,
    setup_context=_setup_double,
    backward=_double_backward,
)
_edge_softmax = register(
    "edge_softmax(Tensor logits, Tensor graph, Tensor? seed, SymInt num_dst, float dropout_p) -> (Tensor, Tensor)",
    cpu=_forward_cpu,
    fake=_forward_fake,
    setup_context=_setup_context,
    backward=_backward,
)

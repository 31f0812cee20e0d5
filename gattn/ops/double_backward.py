"""Gradients of the backward ops, through the differentiable reference.

Second derivatives are rare (force training, gradient penalties, Hessian products) and their fused form would double
the kernels, so they trade the reference's memory for exactness: ``E * H * C`` numbers while they are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.func import vjp

from gattn import packed as layout
from gattn.graph import Graph


def unpack_graph(packed: Tensor, num_dst: int, *, num_src: int | None = None, num_edges: int | None = None) -> Graph:
    """The Graph whose packed adjacency an op was given; of ``num_src`` and ``num_edges`` one tells the other."""
    rest = packed.numel() - layout.numel(0, num_dst, 0)
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
    present = [i for i, t in enumerate([*inputs, *grads]) if t is not None]
    wanted = [i for i, gg in enumerate(grad_grads) if gg is not None and inputs[i] is not None]
    outputs = [i for i, grad in enumerate(grads) if grad is not None]

    def product(*tensors: Tensor) -> tuple[Tensor, ...]:
        leaves = dict(zip(present, tensors, strict=True))

        def some(*given: Tensor) -> tuple[Tensor, ...]:
            known = {**leaves, **dict(zip(wanted, given, strict=True))}
            results = forward(*(known.get(i) for i in range(len(inputs))))
            return tuple(results[i] for i in outputs)

        _, pull = vjp(some, *(leaves[i] for i in wanted))  # type: ignore[misc]  # of two or three, by has_aux
        found: tuple[Tensor, ...] = pull(tuple(leaves[len(inputs) + i] for i in outputs))
        return found

    result: list[Tensor | None] = [None] * (len(inputs) + len(grads))
    if wanted and outputs:
        _, pull = vjp(product, *(t for t in (*inputs, *grads) if t is not None))  # type: ignore[misc]
        for i, found in zip(present, pull(tuple(grad_grads[i] for i in wanted)), strict=True):
            result[i] = found
    return result

"""All-pairs attention within every graph of a batch, without padding (Gradformer's, Liu et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gattn import reference
from gattn.backends import _C, select_backend
from gattn.exchange import call_core
from gattn.ops.double_backward import differentiate_backward
from gattn.ops.library import register, seed_tensor, seed_value
from gattn.ops.ragged_checks import check_distance, check_negative, check_numbers, check_ptr, check_queries
from gattn.ops.ragged_sparse import NearPairs, check_method, find_near, sparse_attention
from gattn.ops.validation import check_dropout
from gattn.reference.dropout import accumulate_dtype

#: Backends that compute the op.
BACKENDS = ("reference", "cpu", "triton")


def ragged_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ptr: Tensor,
    *,
    distance: Tensor | None = None,
    hop: Tensor | None = None,
    gamma: float = 1.0,
    slope: float = 0.0,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    method: Literal["dense", "sparse"] = "dense",
    tolerance: float | None = None,
    near: NearPairs | None = None,
    backend: str | None = None,
) -> Tensor:
    r"""Attention of every node to all nodes of its own graph, fused: nothing of size ``n * n * H`` is stored.

    .. math::
        s_{ij} = scale \; q_i \cdot k_j \; \gamma^{\rho(\psi_{ij} - hop)}, \quad
        \alpha_{ij} = \mathrm{softmax}_j(s_{ij}), \quad out_i = \sum_j \mathrm{drop}(\alpha_{ij}) \, v_j

    over all ``j`` of the graph of ``i``, with ``rho`` a LeakyReLU: the exponential decay of Liu et al., *Gradformer:
    graph transformer with exponential decay*, IJCAI 2024, arXiv 2404.15729, equations 5 and 6. The decay takes a score
    towards 0 and not to minus infinity: pairs far apart keep the weight of ``e**0``.

    Graphs lie one after the other: nodes ``ptr[b]`` up to ``ptr[b + 1]`` are graph ``b``, which may be empty.

    Args:
        q: ``[N, H, C]``, float32, float64, bfloat16 or float16 (computed in float32), like ``k`` and ``v``.
        k: ``[N, H, C]``.
        v: ``[N, H, C]``.
        ptr: ``[B + 1]``, int32 or int64, from 0 to ``N``, never going down.
        distance: ``psi``, ``[sum of n * n]``, int8, int16 or int32, not negative: the graphs' blocks of ``n * n``
            numbers one after the other, each row by row, a row for a query. ``None`` for no decay.
        hop: ``[H]`` in ``q``'s dtype, or float32 for half precision; may require a gradient. Goes with ``distance``.
        gamma: Base of the decay, in (0, 1].
        slope: Of ``rho`` below 0; the paper has 0.
        scale: Of the scores; by default ``C ** -0.5``.
        dropout_p: Probability to drop an attention weight; kept ones grow by ``1 / (1 - p)``. The mask is a function of
            the seed, the pair's place in ``distance`` and the head.
        seed: Dropout seed; ``None`` draws one from torch's generator.
        method: ``"sparse"`` computes pairs whose decay is above ``tolerance`` one by one, and all others, whose weight
            is that of a score of 0, together: the same result but for what a tolerance means, for far fewer products
            where graphs are large and decay is quick. It stores numbers for every near pair and head, and takes no
            dropout. It is slower unless few pairs are near: see docs/gradformer.md.
        tolerance: Of ``method="sparse"``: decays up to it count as 0; by default half an ulp of 1.
        near: The pairs to take one by one (:func:`gattn.ops.near_pairs`), where they are used more than once; else they
            are looked for at every call. Goes with ``method="sparse"``, as ``tolerance`` does.
        backend: ``"reference"``, ``"cpu"``, ``"triton"`` or ``None`` for the fastest usable.

    Returns:
        ``[N, H, C]`` in ``q``'s dtype.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape, a device, ``ptr`` or a number does not fit.
    """
    check_queries(q, k, v)
    check_dropout(dropout_p)
    scale = q.shape[2] ** -0.5 if scale is None else float(scale)
    check_numbers(gamma, slope, scale)
    hop = check_distance(distance, hop, q)
    check_ptr(ptr, q, distance)
    check_negative(distance)
    check_method(method, distance, dropout_p, tolerance, near)
    if method == "sparse":
        assert distance is not None
        assert hop is not None
        near = find_near(distance, ptr, hop, gamma, tolerance, near)
        return sparse_attention(
            q, k, v, ptr, hop, near, gamma=float(gamma), slope=float(slope), scale=scale, backend=backend
        )
    chosen = select_backend(backend, q.device, among=BACKENDS)
    numbers = _Numbers(scale, float(gamma), float(slope), float(dropout_p))
    if chosen == "reference":
        return _reference(q, k, v, hop, ptr, distance, seed, numbers)
    out, *_ = _ragged(
        *(x if x is None or x.is_contiguous() else x.contiguous() for x in (q, k, v, hop, ptr, distance)),
        seed_tensor(dropout_p, seed, q.device),
        *numbers,
        chosen,
    )
    return out  # type: ignore[no-any-return]


class _Numbers(NamedTuple):
    """The op's numbers, in the order of its schema."""

    scale: float
    gamma: float
    slope: float
    dropout_p: float


def _reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    hop: Tensor | None,
    ptr: Tensor,
    distance: Tensor | None,
    seed: int | Tensor | None,
    numbers: _Numbers,
) -> Tensor:
    return reference.ragged_attention(q, k, v, ptr, distance=distance, hop=hop, seed=seed, **numbers._asdict())


# Both ops take the differentiable inputs, what is not differentiable, (the backward) what the forward has left and the
# gradient of out, then numbers and the backend.
_INPUTS = ("q", "k", "v", "hop")
_SEED = 6
_NUMBERS_AT = _SEED + 4  # in the backward


def _forward_kernel(*flat: Any) -> tuple[Tensor | None, ...]:
    outputs = _forward_fake(*flat)
    numbers = tuple(flat[_SEED + 1 : _SEED + 5])
    if flat[-1] == "triton":
        from gattn.kernels import ragged as triton  # not before it is asked for: it imports Triton

        triton.forward(triton.Inputs(*flat[: _SEED + 1]), triton.Numbers(*numbers), *outputs)
        return outputs
    q, k, v, hop, ptr, distance, seed = flat[: _SEED + 1]
    threads = torch.get_num_threads()
    call_core(_C.ragged_forward, q, k, v, ptr, distance, hop, numbers, seed_value(seed), *outputs[:2], threads)
    return outputs


def _forward_fake(q: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
    """Room for ``out``, for row statistics ``[N, 2, H]``, the largest score and the sum of exponentials above it, and
    for ``out`` before it is rounded, which gradients are taken from; ``None`` where it is not, or not needed."""
    wide = accumulate_dtype(q.dtype)
    unrounded = q.new_empty(q.shape, dtype=wide) if rest[-1] == "triton" and q.dtype != wide else None
    return q.new_empty(q.shape), q.new_empty(q.shape[0], 2, q.shape[1], dtype=wide), unrounded


def _setup_context(ctx: Any, flat: tuple[Any, ...], outputs: tuple[Tensor | None, ...]) -> None:
    ctx.arguments = flat[_SEED + 1 :]
    out, row_stats, unrounded = outputs
    ctx.mark_non_differentiable(*(x for x in (row_stats, unrounded) if x is not None))
    exact = out if unrounded is None and flat[-1] == "triton" else unrounded
    ctx.save_for_backward(*flat[: _SEED + 1], row_stats, exact)


def _backward(ctx: Any, grad_out: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    arguments = _SEED + 1 + len(ctx.arguments)
    if grad_out is None:
        return (None,) * arguments
    needs = ctx.needs_input_grad[: len(_INPUTS)]
    found = _ragged_backward(*ctx.saved_tensors, grad_out.contiguous(), *ctx.arguments, list(needs))
    return *found, *[None] * (arguments - len(_INPUTS))


def _backward_fake(*flat: Any) -> tuple[Tensor | None, ...]:
    """Room for the gradients, ``None`` for those not asked for."""
    needs: Sequence[bool] = flat[-1]
    inputs = flat[: len(_INPUTS)]
    return tuple(torch.empty_like(x) if x is not None and need else None for x, need in zip(inputs, needs, strict=True))


def _backward_kernel(*flat: Any) -> tuple[Tensor | None, ...]:
    gradients = _backward_fake(*flat)
    saved, numbers = flat[_SEED + 1 : _NUMBERS_AT], tuple(flat[_NUMBERS_AT : _NUMBERS_AT + 4])
    if flat[-2] == "triton":
        from gattn.kernels import ragged as triton

        inputs = triton.Inputs(*flat[: _SEED + 1])
        triton.backward(inputs, triton.Numbers(*numbers), triton.Saved(*saved), *gradients)
        return gradients
    q, k, v, hop, ptr, distance, seed = flat[: _SEED + 1]
    row_stats, *_, grad_out = saved
    call_core(
        _C.ragged_backward,
        *(q, k, v, ptr, distance, hop, numbers, seed_value(seed), row_stats, grad_out),
        *(*gradients, torch.get_num_threads()),
    )
    return gradients


def _setup_double(ctx: Any, flat: tuple[Any, ...], _: Any) -> None:
    ctx.numbers = _Numbers(*flat[_NUMBERS_AT : _NUMBERS_AT + 4])
    ctx.arguments = len(flat)
    ctx.save_for_backward(*flat[: _SEED + 1], flat[_NUMBERS_AT - 1])


def _double_backward(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, ptr, distance, seed, grad_out = ctx.saved_tensors

    def forward(q: Tensor, k: Tensor, v: Tensor, hop: Tensor | None) -> list[Tensor]:
        return [_reference(q, k, v, hop, ptr, distance, seed, ctx.numbers)]

    *found, by_grad_out = differentiate_backward(forward, inputs, [grad_out], grad_grads)
    result = [*found, *[None] * (_NUMBERS_AT - 1 - len(found)), by_grad_out]
    return (*result, *[None] * (ctx.arguments - len(result)))


_TENSORS = "Tensor q, Tensor k, Tensor v, Tensor? hop, Tensor ptr, Tensor? distance, Tensor? seed"
_NUMBERS = "float scale, float gamma, float slope, float dropout_p, str backend"
_ragged_backward = register(
    f"ragged_attention_backward({_TENSORS}, Tensor row_stats, Tensor? out, Tensor grad_out, {_NUMBERS}, "
    f"bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)",
    cpu=_backward_kernel,
    cuda=True,
    fake=_backward_fake,
    setup_context=_setup_double,
    backward=_double_backward,
)
_ragged = register(
    f"ragged_attention({_TENSORS}, {_NUMBERS}) -> (Tensor, Tensor, Tensor)",
    cpu=_forward_kernel,
    cuda=True,
    fake=_forward_fake,
    setup_context=_setup_context,
    backward=_backward,
)

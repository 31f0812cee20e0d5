"""All-pairs attention within every graph of a batch, without padding (Gradformer's, Liu et al. 2024)."""

from __future__ import annotations

from torch import Tensor

from gattn import reference
from gattn.backends import select_backend
from gattn.ops.ragged_checks import check_distance, check_negative, check_numbers, check_ptr, check_queries
from gattn.ops.validation import check_dropout

#: Backends that compute the op.
BACKENDS = ("reference",)


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
        backend: ``"reference"``, ``"cpu"`` or ``None`` for the fastest usable.

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
    select_backend(backend, q.device, among=BACKENDS)
    return reference.ragged_attention(
        q,
        k,
        v,
        ptr,
        distance=distance,
        hop=hop,
        gamma=gamma,
        slope=slope,
        scale=scale,
        dropout_p=dropout_p,
        seed=seed,
    )

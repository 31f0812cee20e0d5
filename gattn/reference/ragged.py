"""All-pairs attention within the graphs of a batch, in plain PyTorch: the definition of the numbers."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from gattn.reference.attention import decay_mask
from gattn.reference.dropout import accumulate_dtype, draw_seed, keep_mask


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
    seed: int | Tensor | None = None,
) -> Tensor:
    """:func:`gattn.ops.ragged_attention`, one graph after the other; holds ``n * n * H`` numbers of each.

    Everything between the inputs and the rounding of the result happens in the accumulate dtype. Not for compiled
    programs: it reads ``ptr``.
    """
    wide, heads = accumulate_dtype(q.dtype), q.size(1)
    scale = q.size(-1) ** -0.5 if scale is None else scale
    if dropout_p and seed is None:
        seed = draw_seed(q.device)
    queries, keys, values = (x.to(wide) for x in (q, k, v))
    hop = None if hop is None else hop.to(wide)
    bounds: list[int] = ptr.tolist()
    nothing = (queries * keys * values)[:0]  # part of the graph of gradients even without a node
    outs, first = [nothing if hop is None else nothing * hop.unsqueeze(1)], 0
    for begin, end in pairwise(bounds):
        n, rows = end - begin, slice(begin, end)
        score = torch.einsum("ihc,jhc->hij", queries[rows], keys[rows]) * scale
        if distance is not None and hop is not None:
            mask = decay_mask(distance[first : first + n * n], hop, gamma, slope)
            score = score * mask.view(n, n, heads).permute(2, 0, 1)
        alpha = score.softmax(-1)
        if dropout_p:
            assert seed is not None
            kept = keep_mask(torch.arange(first, first + n * n, device=q.device), heads, dropout_p, seed)
            grown = alpha * (1.0 / (1.0 - dropout_p) if dropout_p < 1.0 else 0.0)
            alpha = torch.where(kept.view(n, n, heads).permute(2, 0, 1), grown, 0.0)
        outs.append(torch.einsum("hij,jhc->ihc", alpha, values[rows]))
        first += n * n
    return torch.cat(outs).to(q.dtype)

"""LipschitzNorm for the layers: the norms that the divisor of their scores is made of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor

from gattn.modifiers import Lipschitz
from gattn.reference.dropout import accumulate_dtype


def check_norm(norm: str | None) -> str | None:
    """Raises ValueError for anything but ``None`` and ``"lipschitz"``."""
    if norm not in (None, "lipschitz"):
        raise ValueError(f"Expected 'norm' to be None or 'lipschitz' (got {norm!r}).")
    return norm


def gat_lipschitz(x_src: Tensor, x_dst: OptTensor, att_src: Tensor, att_dst: Tensor, num_dst: int) -> Lipschitz:
    """From projected features ``[N, H, C]`` (targets without any have norm 0) and ``att_* [1, H, C]``."""
    source_norm = _norm(x_src)
    if x_dst is None:
        target_norm = source_norm.new_zeros(num_dst, x_src.size(1))
    else:
        target_norm = source_norm if x_dst is x_src else _norm(x_dst)
    return Lipschitz.gat(source_norm, target_norm, 4 * _norm(torch.cat([att_src, att_dst], dim=-1)).view(-1))


def dot_lipschitz(query: Tensor, key: Tensor, value: Tensor) -> Lipschitz:
    """From queries, keys and values ``[N, H, C]``; queries enter by each head's Frobenius norm."""
    return Lipschitz.dot(_norm(query, (0, 2)), _norm(key), _norm(value))


def _norm(x: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    # In the dtype of the scores: float16 cannot hold the square of 256.
    norm: Tensor = torch.linalg.vector_norm(x, dim=dim, dtype=accumulate_dtype(x.dtype))
    return norm

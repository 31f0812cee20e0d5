"""LipschitzNorm for the layers: the norms that the divisor of their scores is made of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor

from gattn.modifiers import Lipschitz
from gattn.ops.node_terms import node_norms
from gattn.reference.scores import lipschitz_weight


def check_norm(norm: str | None) -> str | None:
    """Raises ValueError for anything but ``None`` and ``"lipschitz"``."""
    if norm not in (None, "lipschitz"):
        raise ValueError(f"Expected 'norm' to be None or 'lipschitz' (got {norm!r}).")
    return norm


def gat_lipschitz(source_norm: Tensor, target_norm: OptTensor, att: tuple[Tensor, Tensor], num_dst: int) -> Lipschitz:
    """From the norms of projected features, ``[N, H]`` (targets without any have norm 0), and ``att_* [1, H, C]``."""
    if target_norm is None:
        target_norm = source_norm.new_zeros(num_dst, source_norm.size(1))
    att_src, att_dst = (a.view(a.shape[1:]).to(source_norm.dtype) for a in att)
    return Lipschitz.gat(source_norm, target_norm, lipschitz_weight(att_src, att_dst))


def dot_lipschitz(query: Tensor, key: Tensor, value: Tensor, backend: str | None) -> Lipschitz:
    """From queries, keys and values ``[N, H, C]``; queries enter by each head's Frobenius norm."""
    of_query, of_key, of_value = (node_norms(x, backend=backend) for x in (query, key, value))
    return Lipschitz.dot(torch.linalg.vector_norm(of_query, dim=0), of_key, of_value)

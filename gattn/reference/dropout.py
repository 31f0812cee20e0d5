"""The dropout every backend shares, and the dtype that numbers accumulate in."""

from __future__ import annotations

import torch
from torch import Tensor

from gattn.graph import Graph

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype numbers accumulate in: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def draw_seed(device: torch.device | None = None) -> Tensor:
    """A dropout seed from the device's default generator, so that ``torch.manual_seed`` reproduces the masks."""
    return torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=device)


def philox(seed: int | Tensor, edge_id: Tensor, head_group: int) -> list[Tensor]:
    """Philox4x32-10 (Salmon et al., SC 2011): four words of 32 random bits an edge, as int64 tensors.

    The counter is ``(edge_id low, edge_id high, head_group, 0)``, the key the seed's two halves.
    """
    counter = [edge_id & _LOW, (edge_id >> 32) & _LOW, torch.full_like(edge_id, head_group), torch.zeros_like(edge_id)]
    key = [seed & _LOW, (seed >> 32) & _LOW]
    for _ in range(10):
        # A product of two 32-bit numbers wraps in int64 without losing bits; the shift's sign is masked off.
        products = [counter[0] * _MULTIPLIERS[0], counter[2] * _MULTIPLIERS[1]]
        high = [(product >> 32) & _LOW for product in products]
        low = [product & _LOW for product in products]
        counter = [high[1] ^ counter[1] ^ key[0], low[1], high[0] ^ counter[3] ^ key[1], low[0]]
        key = [(k + weyl) & _LOW for k, weyl in zip(key, _WEYL, strict=True)]
    return counter


def keep_mask(edge_id: Tensor, heads: int, p: float, seed: int | Tensor) -> Tensor:
    """Which attention weights dropout keeps: ``[..., heads]`` bool for the edges of these numbers, int64."""
    words = [word for group in range((heads + 3) // 4) for word in philox(seed, edge_id, group)]
    threshold = int(p * 2.0**32 + 0.5)
    return torch.stack(words[:heads], dim=-1) >= threshold


def dropout_mask(graph: Graph, heads: int, p: float, seed: int | Tensor) -> Tensor:
    """Which attention weights dropout keeps: ``[E, heads]`` bool in the caller's edge order.

    The mask is a function of ``(seed, edge number, head)`` and ``p`` alone, the same on every backend.
    """
    return keep_mask(torch.arange(graph.num_edges, device=graph.device), heads, p, seed)


def apply_dropout(alpha: Tensor, graph: Graph, p: float, seed: int | Tensor | None) -> Tensor:
    """Zeroes dropped weights and scales the others by ``1 / (1 - p)``; ``seed=None`` draws one."""
    if p == 0.0:
        return alpha
    kept = dropout_mask(graph, alpha.size(1), p, draw_seed() if seed is None else seed)
    return torch.where(kept, alpha * (1.0 / (1.0 - p) if p < 1.0 else 0.0), torch.zeros_like(alpha))

"""Hop counts between all pairs of nodes, by products with the adjacency matrix."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def shortest_path(edge_index: Tensor, ptr: Tensor, *, unreachable: int = 510) -> Tensor:
    """See :func:`gattn.ops.shortest_path`; without its checks."""
    blocks = [_all_pairs(edge_index, first, last, unreachable).flatten() for first, last in pairwise(ptr.tolist())]
    return torch.cat([*blocks, edge_index.new_empty(0, dtype=torch.int16)])


def _all_pairs(edge_index: Tensor, first: int, last: int, unreachable: int) -> Tensor:
    """``[n, n]`` int16 of the graph whose nodes are ``first .. last - 1``."""
    inside = (edge_index[0] >= first) & (edge_index[0] < last)
    source, target = edge_index[:, inside] - first
    nodes = last - first
    adjacency = torch.zeros(nodes, nodes, device=edge_index.device)
    adjacency[source, target] = 1
    seen = front = torch.eye(nodes, dtype=torch.bool, device=edge_index.device)
    distance = torch.full((nodes, nodes), unreachable, dtype=torch.int16, device=edge_index.device)
    distance[seen] = 0
    for hop in range(1, unreachable):
        front = (front.float() @ adjacency > 0) & ~seen
        if not front.any():
            break
        distance[front] = hop
        seen = seen | front
    return distance

"""Maxima over neighbourhoods, for LipschitzNorm."""

from __future__ import annotations

import torch
from torch import Tensor

from gattn.backends import _C
from gattn.graph import Graph
from gattn.ops.library import capsule, define


def neighbourhood_maximum(values: Tensor, graph: Graph) -> Tensor:
    """``[N_dst, H]``: the largest of ``values`` ``[N_src, H]`` over each target's in-edges, 0 without any.

    The gradient goes to the first edge, in the caller's order, that has it. Computes on the CPU backend.
    """
    if graph.num_edges == 0:
        return values.new_zeros(graph.num_dst, values.shape[1])
    first = _first_largest(values.detach().contiguous(), graph.data, graph.num_dst)
    found = values.gather(0, first.clamp(min=0))
    return torch.where(first < 0, 0, found)


def _first_largest_cpu(values: Tensor, graph: Tensor, num_dst: int) -> Tensor:
    first = _first_largest_fake(values, graph, num_dst)
    _C.first_largest(capsule(graph), capsule(values), capsule(first), torch.get_num_threads())
    return first


def _first_largest_fake(values: Tensor, graph: Tensor, num_dst: int) -> Tensor:
    return values.new_empty(num_dst, values.shape[1], dtype=torch.int64)


_first_largest = define(
    "first_largest(Tensor values, Tensor graph, SymInt num_dst) -> Tensor",
    cpu=_first_largest_cpu,
    fake=_first_largest_fake,
)

"""Maxima over neighbourhoods, for LipschitzNorm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gattn.backends import _C, GROUPED
from gattn.exchange import call_core
from gattn.graph import Graph
from gattn.ops import cuda
from gattn.ops.library import define


def neighbourhood_maximum(values: Tensor, graph: Graph, backend: str = "cpu") -> Tensor:
    """``[N_dst, H]``: the largest of ``values`` ``[N_src, H]`` over each target's in-edges, 0 without any.

    The gradient goes to the first edge, in the caller's order, that has it.
    """
    if graph.num_edges == 0:
        return values.new_zeros(graph.num_dst, values.shape[1])
    groups, sizes = (graph.groups.data, graph.groups.sizes) if backend in GROUPED else (None, ())
    first = _first_largest(
        values.detach().contiguous(), graph.data, groups, graph.num_edges, graph.num_dst, sizes, backend
    )
    found = values.gather(0, first.clamp(min=0))
    return torch.where(first < 0, 0, found)


def _first_largest_kernel(
    values: Tensor,
    graph: Tensor,
    groups: Tensor | None,
    num_edges: int,
    num_dst: int,
    group_sizes: Sequence[int],
    backend: str,
) -> Tensor:
    first = values.new_empty(num_dst, values.shape[1], dtype=torch.int64)
    if backend == "triton":
        from gattn.kernels.attention import first_largest

        first_largest(values, graph, groups, group_sizes, num_edges, first)
    elif backend == "cuda":
        assert groups is not None
        launch = cuda.Launch(graph, groups, group_sizes, num_dst, num_edges)
        cuda.run("cuda_first_largest", launch, values, first)
    else:
        call_core(_C.first_largest, graph, values, first, torch.get_num_threads())
    return first


def _first_largest_fake(
    values: Tensor,
    graph: Tensor,
    groups: Tensor | None,
    num_edges: int,
    num_dst: int,
    group_sizes: Sequence[int],
    backend: str,
) -> Tensor:
    return values.new_empty(num_dst, values.shape[1], dtype=torch.int64)


_first_largest = define(
    "first_largest(Tensor values, Tensor graph, Tensor? groups, SymInt num_edges, SymInt num_dst, "
    "SymInt[] group_sizes, str backend) -> Tensor",
    cpu=_first_largest_kernel,
    fake=_first_largest_fake,
    cuda=True,
)

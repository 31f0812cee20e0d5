"""Calls of the compiled CUDA kernels that walk a graph, with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from gattn import cuda_core
from gattn.groups import numel as groups_numel
from gattn.groups import sides
from gattn.packed import numel as packed_numel


class Launch(NamedTuple):
    """What every kernel walks: packed graph and groups, and the sizes that tell what is where in them."""

    graph: Tensor
    groups: Tensor
    group_sizes: Sequence[int]
    num_dst: int
    num_edges: int


def run(name: str, launch: Launch, *arguments: Any) -> None:
    """Calls the core's function ``name`` for the graph on its device's current stream.

    Raises:
        ValueError: Sizes and packed tensors do not fit each other; what is in them, ``gattn.Graph`` has checked.
    """
    graph, groups, group_sizes, num_dst, num_edges = launch
    num_src = graph.shape[0] - packed_numel(0, num_dst, num_edges)
    if num_src < 0 or groups.shape[0] != groups_numel(num_src, num_dst, num_edges) or len(group_sizes) != 8:
        raise ValueError(
            f"Expected the packed adjacency and groups of a gattn.Graph with {num_dst} targets and {num_edges} edges "
            f"(got {graph.shape[0]} and {groups.shape[0]} numbers and {len(group_sizes)} sizes of groups)."
        )
    rows, columns = sides(group_sizes, num_src, num_dst, num_edges)
    cuda_core.call(name, graph.device, graph, groups, (num_src, num_dst, num_edges), rows, columns, *arguments)

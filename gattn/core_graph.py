"""A graph built on the CPU, in the compiled core and on several threads."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from gattn.backends import _C
from gattn.device_graph import Built
from gattn.exchange import call_core


def build(edge_index: Tensor, num_src: int, num_dst: int, *, swap: bool, self_loops: bool, wide: bool) -> Built:
    """What :func:`gattn.device_graph.build` does, without degree groups.

    Raises:
        RuntimeError: The compiled core is missing.
    """
    if _C is None:
        raise RuntimeError("Building a graph needs the compiled core gattn._C; run 'pip install .'")
    capsule, num_src, num_dst, num_edges = call_core(
        _C.build_graph, edge_index.contiguous(), num_src, num_dst, swap, self_loops, wide, torch.get_num_threads()
    )
    return Built(from_dlpack(capsule), num_src, num_dst, num_edges, None)

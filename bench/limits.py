"""What the machine itself allows: copying memory in order, and gathering rows as a graph asks for them."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from gattn.exchange import call_core
from gattn.graph import Graph


def copy_bandwidth(megabytes: int = 256, repeats: int = 5) -> float:
    """Bytes read plus written a second by a plain copy of arrays larger than any cache; best of a few."""
    source = torch.ones(megabytes << 18)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(repeats + 1):  # the first faults the pages in
        start = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - start)
    return 2 * source.nbytes / min(seconds[1:])


def transposed(graph: Graph) -> Graph:
    """The graph with every edge turned round: its gather reads what the backward pass must read."""
    return Graph.from_csr(graph.colptr, graph.row, graph.num_dst)


def gather(x: Tensor, graph: Graph, out: Tensor) -> Tensor:
    """Sums ``x[j]`` over the in-edges of ``i`` into ``out[i]``, each row ``[H, C]`` read once, prefetched.

    ``out`` is given, so that the limit holds no time for allocation.
    """
    from gattn import _C

    call_core(_C.gather_limit, graph.data, x, out, torch.get_num_threads())
    return out

"""Hop counts of shortest paths between all pairs of nodes, for attention that decays with distance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from gattn.adjacency import check_edge_index
from gattn.backends import _C
from gattn.exchange import call_core
from gattn.ops.library import define

#: The largest hop count of the result's dtype, int16.
LARGEST = torch.iinfo(torch.int16).max


def shortest_path(edge_index: Tensor, ptr: Tensor, *, unreachable: int = 510) -> Tensor:
    r"""Hops of the shortest directed path between every two nodes of each graph of a batch.

    The :math:`\psi(i, j)` of Liu et al., *Gradformer: graph transformer with exponential decay*, IJCAI 2024 (arXiv
    2404.15729), where pairs without a path have 510. Paths of ``unreachable`` hops or more are cut off there too, as
    in the program of Graphormer, where that number comes from: the result is ``min(hops, unreachable)``. With 32767
    no path is cut off, and it is ``scipy.sparse.csgraph.shortest_path(adjacency, unweighted=True)`` where
    ``adjacency[row 0, row 1] = 1``.

    A breadth-first search in the compiled core that advances many nodes of a graph at once, a bit each, on
    ``torch.get_num_threads()`` threads. Tensors on a GPU are copied to the host and the result back: compute it once
    a data set, say with :class:`gattn.transforms.ShortestPath`. There is no gradient.

    Args:
        edge_index: ``[2, E]``, int32 or int64; paths run from row 0 to row 1. Make it symmetric for an undirected
            graph. The order of edges, self-loops and duplicates do not matter.
        ptr: ``[B + 1]``, int32 or int64: graph ``b`` has nodes ``ptr[b] .. ptr[b + 1] - 1``, at most 32768. It begins
            with 0 and does not decrease.
        unreachable: Stands for pairs without a path, in ``[0, 32767]``.

    Returns:
        int16, one row-major ``[n_b, n_b]`` block a graph, one after the other: entry ``(i, j)`` of graph ``b`` is at
        ``sum(n_c ** 2 for c < b) + i * n_b + j``, and tells the hops from node ``i`` to node ``j``; 0 for ``i == j``.

    Raises:
        TypeError: ``ptr`` or ``unreachable`` is of another type.
        ValueError: A dtype, shape or device does not fit; ``ptr`` does not begin with 0, or decreases; a graph has
            more than 32768 nodes, whose hops may not fit int16; ``unreachable`` is out of range; an edge joins two
            graphs.
        IndexError: A negative or too large index.
    """
    for name, tensor in (("edge_index", edge_index), ("ptr", ptr)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"Expected '{name}' to be a tensor (got '{type(tensor).__name__}').")
    check_edge_index(edge_index)
    if ptr.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"Expected 'ptr' to be of dtype int32 or int64 (got {ptr.dtype}). Convert it with .long().")
    if ptr.dim() != 1 or ptr.shape[0] < 1:
        raise ValueError(f"Expected 'ptr' to have shape [num_graphs + 1] (got {list(ptr.shape)}).")
    if ptr.device != edge_index.device:
        raise ValueError(
            f"Expected 'ptr' on the device of 'edge_index', '{edge_index.device}' (got '{ptr.device}'). Move one of "
            f"them."
        )
    check_unreachable(unreachable)
    distance: Tensor = _shortest_path(edge_index, ptr, unreachable)
    return distance


def check_unreachable(unreachable: int) -> None:
    """Raises TypeError unless it is an int, ValueError unless int16 holds it as a distance."""
    if not isinstance(unreachable, int) or isinstance(unreachable, bool):
        raise TypeError(f"Expected 'unreachable' to be an int (got '{type(unreachable).__name__}').")
    if not 0 <= unreachable <= LARGEST:
        raise ValueError(f"Expected 'unreachable' in [0, {LARGEST}], which int16 holds (got {unreachable}).")


def _kernel(edge_index: Tensor, ptr: Tensor, unreachable: int) -> Tensor:
    if _C is None:
        raise RuntimeError("Shortest paths need the compiled core gattn._C; run 'pip install .'")
    edges, first = edge_index.cpu().contiguous(), ptr.cpu().contiguous()
    capsule = call_core(_C.shortest_path, edges, first, unreachable, torch.get_num_threads())
    return from_dlpack(capsule).to(edge_index.device)


def _fake(edge_index: Tensor, ptr: Tensor, unreachable: int) -> Tensor:
    return edge_index.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int16)


_shortest_path = define(
    "shortest_path(Tensor edge_index, Tensor ptr, SymInt unreachable) -> Tensor", cpu=_kernel, fake=_fake, cuda=True
)

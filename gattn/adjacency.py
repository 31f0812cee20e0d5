"""The forms in which an adjacency is given: edge lists, CSR, sparse tensors. Checks, and what is read off them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor


def check_edge_index(edge_index: Tensor) -> None:
    """Raises ValueError for another dtype or shape than an edge list's."""
    if edge_index.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"Expected 'edge_index' to be of integer type (got '{edge_index.dtype}'). Use int64 or int32.")
    if edge_index.dim() != 2:
        raise ValueError(f"Expected 'edge_index' to be two-dimensional (got {edge_index.dim()} dimensions)")
    if edge_index.size(0) != 2:
        raise ValueError(f"Expected 'edge_index' to have size '2' in the first dimension (got '{edge_index.size(0)}')")


def node_counts(num_nodes: Any) -> tuple[int, int]:
    """``(num_src, num_dst)`` of a user's ``num_nodes``; -1 for a number to be read off the indices."""
    if num_nodes is None:
        return -1, -1
    sizes = num_nodes if isinstance(num_nodes, Sequence) else (num_nodes, num_nodes)
    if len(sizes) != 2 or not all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 0 for n in sizes):
        raise ValueError(f"Expected 'num_nodes' to be an int >= 0, (num_src, num_dst) or None (got {num_nodes!r}).")
    return int(sizes[0]), int(sizes[1])


def csr_degrees(rowptr: Tensor, col: Tensor) -> Tensor:
    """Edges of every row of a CSR; raises ValueError unless ``rowptr`` and ``col`` make one."""
    if rowptr.dim() != 1 or rowptr.numel() < 1 or col.dim() != 1:
        raise ValueError(
            f"Expected 'rowptr' of shape [num_dst + 1] and 'col' of shape [E] (got {list(rowptr.shape)} and "
            f"{list(col.shape)})."
        )
    if rowptr.dtype not in (torch.int32, torch.int64) or col.dtype != rowptr.dtype:
        raise ValueError(f"Expected int32 or int64 'rowptr' and 'col' (got '{rowptr.dtype}' and '{col.dtype}').")
    if rowptr.device != col.device:
        raise ValueError(f"Expected one device (got 'rowptr' on '{rowptr.device}', 'col' on '{col.device}').")
    degree = rowptr.diff()
    smallest = degree.amin() if degree.numel() else degree.new_zeros(())
    first, last, step = torch.stack([rowptr[0], rowptr[-1], smallest]).tolist()  # one synchronisation
    if first != 0 or last != col.numel() or step < 0:
        raise ValueError(
            f"Expected 'rowptr' to rise from 0 to E = {col.numel()} (got a first entry of {first}, a last entry of "
            f"{last}, smallest step {step})."
        )
    return degree


def sparse_coordinates(adj_t: Any) -> tuple[Tensor, Tensor]:
    """Row (target) and column (source) of every stored element, in the layout's own order."""
    if not isinstance(adj_t, Tensor):
        if hasattr(adj_t, "coo"):  # torch_sparse.SparseTensor
            row, col, _ = adj_t.coo()
            return row, col
    elif adj_t.layout != torch.strided and adj_t.dim() - adj_t.dense_dim() == 2:  # values may be edge features
        if adj_t.layout == torch.sparse_coo:
            row, col = adj_t.coalesce().indices()
            return row, col
        if adj_t.layout == torch.sparse_csr:
            return _expand(adj_t.crow_indices()), adj_t.col_indices()
        if adj_t.layout == torch.sparse_csc:
            return adj_t.row_indices(), _expand(adj_t.ccol_indices())
    what = f"a tensor of layout {adj_t.layout}" if isinstance(adj_t, Tensor) else f"'{type(adj_t).__name__}'"
    raise ValueError(
        f"Expected 'adj_t' to be a two-dimensional sparse tensor (COO, CSR or CSC) or a SparseTensor (got {what})."
    )


def _expand(pointer: Tensor) -> Tensor:
    nodes = torch.arange(pointer.numel() - 1, dtype=pointer.dtype, device=pointer.device)
    return torch.repeat_interleave(nodes, pointer.diff())

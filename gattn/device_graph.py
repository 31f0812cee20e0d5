"""A graph built where its ``edge_index`` lies, with PyTorch's operations and one sort or another: bit for bit what the
C++ core builds on the CPU.

Nothing is copied to the host but a dozen numbers, in one synchronisation: the range of the indices, checked before
anything is indexed with them, and the sizes of what is to be allocated.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gattn import device_sort, packed
from gattn import groups as degree_groups

#: Facts of an edge list, read back together.
_FACTS = ("lowest source", "highest source", "lowest target", "highest target", "self-loops")


class Built(NamedTuple):
    """A packed graph, its sizes and its degree groups if they are known yet."""

    data: Tensor
    num_src: int
    num_dst: int
    num_edges: int
    groups: degree_groups.Groups | None


class _Order(NamedTuple):
    """Edges sorted either way. Those that self-loop rewriting drops have come last, in both."""

    col: Tensor  #: [.] sources in CSR order
    target: Tensor  #: [.] targets in CSR order
    edge_id: Tensor  #: [.] numbers in CSR order
    slots: Tensor  #: [.] CSR slots in transposed order
    rowptr: Tensor
    colptr: Tensor


def build(
    edge_index: Tensor,
    num_src: int,
    num_dst: int,
    *,
    swap: bool,
    self_loops: bool,
    wide: bool,
    sort: str | None = None,
) -> Built:
    """Packs a checked ``[2, E]`` integer tensor of any device.

    Args:
        edge_index: int32 or int64.
        num_src: Number of sources, or -1 (then so is ``num_dst``) for the largest index plus one, which takes a
            synchronisation more.
        num_dst: Number of targets.
        swap: Whether row 0 holds the targets.
        self_loops: Whether to rewrite self-loops as PyTorch Geometric does.
        wide: Whether to pack in int64 in any case.
        sort: What to sort with, one of :data:`gattn.gpu_choice.SORTS`; by default what was measured to be faster.

    Raises:
        ValueError: Too many nodes, or an unknown ``sort``.
        IndexError: An index out of range.
        RuntimeError: ``sort`` is CUB and the compiled core cannot run it there.
    """
    source, target = edge_index.flip(0) if swap else edge_index
    facts = _facts(source, target)
    if num_src < 0:
        _, high_source, _, high_target, _ = _read(facts)
        num_src = num_dst = max(high_source, high_target, -1) + 1
    _check_sizes(num_src, num_dst)
    sort = device_sort.choose(sort, edge_index.device, max(num_src, num_dst), edge_index.shape[1])
    order = _sort(source, target, num_src, num_dst, self_loops, sort)
    classes = degree_groups.classify(order.rowptr, order.colptr)
    found = _read(torch.cat([facts, *(side.counts for side in classes)]))
    low_source, high_source, low_target, high_target, dropped = found[: len(_FACTS)]
    edges = edge_index.shape[1]
    if edges:
        _check_range(low_source, high_source, num_src, "source")
        _check_range(low_target, high_target, num_dst, "target")
    if self_loops:
        edges += min(num_src, num_dst) - dropped
    wide = wide or max(num_src, num_dst, edges) >= packed.NARROW
    data = _pack(order, edges, torch.int64 if wide else torch.int32)
    return Built(
        data,
        num_src,
        num_dst,
        edges,
        degree_groups.Groups(degree_groups.pack(classes, edges, data.dtype), tuple(found[len(_FACTS) :])),
    )


def kept_edges(edge_index: Tensor, count: int) -> Tensor:
    """int64 numbers of the ``count`` edges that are no self-loops, in order; asks the device for nothing."""
    kept = edge_index[0] != edge_index[1]
    if kept.is_cpu:
        return kept.nonzero().view(-1)
    return torch.searchsorted(kept.cumsum(0), torch.arange(1, count + 1, device=kept.device))


def _read(numbers: Tensor) -> list[int]:
    """The synchronisation."""
    values: list[int] = numbers.tolist()
    return values


def _facts(source: Tensor, target: Tensor) -> Tensor:
    """:data:`_FACTS`; of no edges all of them 0 but the highest, -1."""
    if source.numel() == 0:
        zero = source.new_zeros(1, dtype=torch.int64)
        return torch.cat([zero, zero - 1, zero, zero - 1, zero])
    ends = [*source.aminmax(), *target.aminmax()]
    return torch.stack([*(end.long() for end in ends), (source == target).sum()])


def _sort(source: Tensor, target: Tensor, num_src: int, num_dst: int, self_loops: bool, sort: str) -> _Order:
    """Sorts the edges as they are: an index out of range is only compared, and found out afterwards."""
    # Sorting takes time by the byte. An index that a narrow key cannot hold is out of range.
    key = torch.int32 if max(num_src, num_dst) <= packed.NARROW else torch.int64
    device = source.device
    number = torch.arange(source.shape[0], device=device)
    if self_loops:
        loops = torch.arange(min(num_src, num_dst), device=device)
        kept = source != target
        count = kept.cumsum(0)
        number = torch.cat([count - 1, kept.sum() + loops])
        source = torch.cat([torch.where(kept, source, num_src).to(key), loops.to(key)])
        target = torch.cat([torch.where(kept, target, num_dst).to(key), loops.to(key)])
    # What is dropped has the number after the last node's.
    target, order = device_sort.stable_sort(target.to(key), num_dst, sort)
    col = source.to(key)[order]
    sorted_col, slots = device_sort.stable_sort(col, num_src, sort)
    return _Order(col, target, number[order], slots, _pointer(target, num_dst), _pointer(sorted_col, num_src))


def _pointer(sorted_keys: Tensor, nodes: int) -> Tensor:
    """``[nodes + 1]`` int64: how many keys are smaller than each node's number, and than ``nodes``."""
    numbers = torch.arange(nodes + 1, device=sorted_keys.device, dtype=sorted_keys.dtype)
    return torch.searchsorted(sorted_keys, numbers)


def _pack(order: _Order, edges: int, dtype: torch.dtype) -> Tensor:
    num_src, num_dst = order.colptr.shape[0] - 1, order.rowptr.shape[0] - 1
    data = order.slots.new_empty(packed.numel(num_src, num_dst, edges), dtype=dtype)
    data[: packed.HEADER].zero_()
    for i, value in enumerate((packed.MAGIC, num_src, num_dst, edges)):
        data[i].fill_(value)
    slots = order.slots[:edges]
    sections = {
        "rowptr": order.rowptr,
        "col": order.col[:edges],
        "edge_id": order.edge_id[:edges],
        "colptr": order.colptr,
        "row": order.target[slots],
        "edge_id_t": order.edge_id[slots],
    }
    begins = packed.offsets(num_src, num_dst, edges)
    for name, values in sections.items():
        begin: int = getattr(begins, name)
        data[begin : begin + values.shape[0]].copy_(values)
    data[begins.csr_to_csc :].scatter_(0, slots.long(), torch.arange(edges, device=data.device, dtype=dtype))
    return data


def _check_sizes(num_src: int, num_dst: int) -> None:
    if max(num_src, num_dst) > packed.MAX_NODES:
        raise ValueError(f"Expected at most 2^40 nodes (got {max(num_src, num_dst)}). Check the indices and num_nodes.")


def _check_range(low: int, high: int, size: int, side: str) -> None:
    """Raises in the words of PyTorch Geometric, and of csrc/cpu/graph.cpp."""
    if low >= 0 and high < size:
        return
    found = (
        f"negative indices in 'edge_index' (got {low}"
        if low < 0
        else (f"indices in 'edge_index' that are larger than {size - 1} (got {high}")
    )
    raise IndexError(
        f"Found {found} in the {side} row). Please ensure that all indices in 'edge_index' point to valid indices in "
        f"the interval [0, {size}) in your node feature matrix and try again."
    )

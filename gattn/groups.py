"""Nodes sorted into degree groups, so that GPU programs get equal shares of work.

Small rows share a program, a middle row has one to itself, and hubs are split into chunks of edges that a second
kernel merges. A group depends on the degrees alone: the same graph always gets the same ones. Both directions
(targets by in-degree, sources by out-degree) lie in one integer tensor, whose length the graph's sizes tell:

    counts[4]  order[nodes]  chunk_ptr[hub_bound + 1]  chunk_hub[chunk_bound]        first of rows, then of columns
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: Nodes of fewer edges are small; a power of two, as the other bounds.
SMALL_DEGREE = 32
#: Smallest number of edges a chunk; a node of twice a chunk's edges is a hub.
MIN_CHUNK = 512
#: Chunks grow with the graph, so that full ones are never more than this.
MAX_CHUNKS = 8192
_COUNTS = 4


class Groups(NamedTuple):
    """The degree groups of a graph."""

    data: Tensor  #: packed, of the graph's integer type
    #: hubs, chunks, middle and small of the rows, then of the columns: for launch grids. Exact numbers, or upper
    #: bounds in a program that is compiled; kernels read the exact ones from ``counts``.
    sizes: tuple[int, ...]


class Side(NamedTuple):
    """One direction's groups, for a launch."""

    # Offsets into Groups.data, not views: a view's alignment changes with the sizes, and Triton compiles for each.
    counts: int  #: [4] exact numbers of hubs, chunks, middle and small nodes
    order: int  #: [nodes] hubs, then middle, then small nodes, in each by descending bit length of the degree
    chunk_ptr: int  #: [hub_bound + 1] hub ``order[h]`` has chunks ``chunk_ptr[h] .. chunk_ptr[h + 1]``
    chunk_hub: int  #: [chunk_bound] the hub ``h`` of every chunk
    hubs: int
    chunks: int
    middle: int
    small: int
    chunk: int  #: edges a chunk


def chunk_size(num_edges: int) -> int:
    """Edges in a hub's chunk, a power of two."""
    return max(MIN_CHUNK, 1 << (-(-num_edges // MAX_CHUNKS) - 1).bit_length())


def _bounds(nodes: int, num_edges: int) -> tuple[int, int]:
    """The most hubs and chunks that there can be."""
    hubs = torch.sym_min(nodes, torch.sym_min(num_edges // (2 * MIN_CHUNK), MAX_CHUNKS // 2))
    return hubs, hubs + torch.sym_min(num_edges // MIN_CHUNK, MAX_CHUNKS)


def _numel(nodes: int, num_edges: int) -> int:
    hubs, chunks = _bounds(nodes, num_edges)
    return _COUNTS + nodes + hubs + 1 + chunks


def numel(num_src: int, num_dst: int, num_edges: int) -> int:
    """Length of :attr:`Groups.data`."""
    return _numel(num_dst, num_edges) + _numel(num_src, num_edges)


def upper_bounds(num_src: int, num_dst: int, num_edges: int) -> tuple[int, ...]:
    """:attr:`Groups.sizes` where the exact ones are not known on the host."""
    sizes: list[int] = []
    for nodes in (num_dst, num_src):
        sizes += [*_bounds(nodes, num_edges), torch.sym_min(nodes, num_edges // SMALL_DEGREE), nodes]
    return tuple(sizes)


def sides(sizes: Sequence[int], num_src: int, num_dst: int, num_edges: int) -> tuple[Side, Side]:
    """What launches over rows (targets) and over columns (sources) need, from :attr:`Groups.sizes`."""
    found, begin, chunk = [], 0, chunk_size(num_edges)
    for i, nodes in enumerate((num_dst, num_src)):
        hubs, chunks, middle, small = sizes[_COUNTS * i : _COUNTS * (i + 1)]
        order = begin + _COUNTS
        chunk_ptr = order + nodes
        chunk_hub = chunk_ptr + _bounds(nodes, num_edges)[0] + 1
        found.append(Side(begin, order, chunk_ptr, chunk_hub, hubs, chunks, middle, small, chunk))
        begin += _numel(nodes, num_edges)
    return found[0], found[1]


class Classes(NamedTuple):
    """One direction's nodes, told apart by degree; found without knowing any number on the host."""

    order: Tensor  #: [nodes]
    chunks_of: Tensor  #: [nodes] chunks of a hub, 0 for others
    counts: Tensor  #: [4]


def classify(rowptr: Tensor, colptr: Tensor) -> tuple[Classes, Classes]:
    """Both directions' classes, from the pointers ``[nodes + 1]``."""
    rowptr, colptr = rowptr.long(), colptr.long()
    chunk = _chunk_size(rowptr[-1])
    return _classify(rowptr, chunk), _classify(colptr, chunk)


def _chunk_size(num_edges: Tensor) -> Tensor:
    """:func:`chunk_size` on the device."""
    sizes = MIN_CHUNK << torch.arange(40, device=num_edges.device)
    return sizes.take(torch.searchsorted(sizes, (num_edges + (MAX_CHUNKS - 1)) // MAX_CHUNKS))


def _classify(pointer: Tensor, chunk: Tensor) -> Classes:
    degree = pointer.diff()
    powers = 1 << torch.arange(62, device=degree.device)
    bit_length = torch.bucketize(degree, powers, right=True).to(torch.int8)
    order = torch.sort(bit_length, stable=True, descending=True).indices
    is_hub = degree >= 2 * chunk
    chunks_of = torch.where(is_hub, (degree + (chunk - 1)) // chunk, 0)
    hubs, large = is_hub.sum(), (degree >= SMALL_DEGREE).sum()
    counts = torch.stack([hubs, chunks_of.sum(), large - hubs, degree.shape[0] - large])
    return Classes(order, chunks_of, counts)


def pack(classes: tuple[Classes, Classes], num_edges: int, dtype: torch.dtype) -> Tensor:
    """:attr:`Groups.data`; asks the device for nothing."""
    parts: list[Tensor] = []
    for side in classes:
        hubs, chunks = _bounds(side.order.shape[0], num_edges)
        chunk_ptr = torch.nn.functional.pad(side.chunks_of[side.order[:hubs]].cumsum(0), (1, 0))
        numbers = torch.arange(chunks, device=side.order.device)
        parts += [side.counts, side.order, chunk_ptr, torch.searchsorted(chunk_ptr[1:], numbers, right=True)]
    return torch.cat([part.to(dtype) for part in parts])

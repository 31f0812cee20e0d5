"""The packed adjacency that every kernel reads: one integer tensor, laid out as ``csrc/common/graph_layout.h`` says.

header[8] (magic, num_src, num_dst, num_edges, then zeros), then the sections of :class:`Offsets` in their order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

HEADER = 8
MAGIC = 0x6774  # "gt"
#: Sizes from here on are packed in int64.
NARROW = 2**31 - 1
MAX_NODES = 2**40


class Offsets(NamedTuple):
    """Where each section begins."""

    rowptr: int  #: [num_dst + 1]
    col: int  #: [E] sources in CSR order
    edge_id: int  #: [E]
    colptr: int  #: [num_src + 1]
    row: int  #: [E] targets in transposed order
    edge_id_t: int  #: [E]
    csr_to_csc: int  #: [E]


def offsets(num_src: int, num_dst: int, num_edges: int) -> Offsets:
    """The offsets of a graph of these sizes, in numbers from the tensor's start."""
    colptr = HEADER + num_dst + 1 + 2 * num_edges
    row = colptr + num_src + 1
    return Offsets(
        HEADER,
        HEADER + num_dst + 1,
        HEADER + num_dst + 1 + num_edges,
        colptr,
        row,
        row + num_edges,
        row + 2 * num_edges,
    )


def numel(num_src: int, num_dst: int, num_edges: int) -> int:
    """Length of the packed tensor."""
    return HEADER + num_src + num_dst + 2 + 5 * num_edges


class PackedGraph:
    """Sizes of an adjacency and views of its packed tensor :attr:`data`."""

    __slots__ = ("data", "num_dst", "num_edges", "num_src")

    num_src: int
    num_dst: int
    num_edges: int
    data: Tensor

    @property
    def device(self) -> torch.device:
        return self.data.device

    def _section(self, name: str, size: int) -> Tensor:
        begin: int = getattr(offsets(self.num_src, self.num_dst, self.num_edges), name)
        return self.data[begin : begin + size]

    @property
    def rowptr(self) -> Tensor:
        """``[num_dst + 1]``: the slots of target ``i`` are ``rowptr[i] .. rowptr[i + 1]``."""
        return self._section("rowptr", self.num_dst + 1)

    @property
    def col(self) -> Tensor:
        """``[E]``: the source of every CSR slot."""
        return self._section("col", self.num_edges)

    @property
    def edge_id(self) -> Tensor:
        """``[E]``: the caller's number of the edge in every CSR slot."""
        return self._section("edge_id", self.num_edges)

    @property
    def colptr(self) -> Tensor:
        """``[num_src + 1]``: the transposed slots of source ``j`` are ``colptr[j] .. colptr[j + 1]``."""
        return self._section("colptr", self.num_src + 1)

    @property
    def row(self) -> Tensor:
        """``[E]``: the target of every transposed slot."""
        return self._section("row", self.num_edges)

    @property
    def edge_id_t(self) -> Tensor:
        """``[E]``: the caller's number of the edge in every transposed slot."""
        return self._section("edge_id_t", self.num_edges)

    @property
    def csr_to_csc(self) -> Tensor:
        """``[E]``: the transposed slot of the edge in every CSR slot."""
        return self._section("csr_to_csc", self.num_edges)

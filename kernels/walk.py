"""The graph as launches need it: either direction, in the packed tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from gattn.groups import Side, sides
from gattn.groups import numel as groups_numel
from gattn.packed import numel as packed_numel
from gattn.packed import offsets


class Walk(NamedTuple):
    """One direction of the graph, as launches need it."""

    graph: Tensor
    groups: Tensor
    side: Side
    sections: dict[str, int]  # offsets of pointer, nodes and edge numbers
    transposed_at: int  # of the slots' places in the other direction, which rows have

    def integers(self) -> dict[str, int]:
        side = self.side
        return {
            **self.sections,
            "counts_at": side.counts,
            "order_at": side.order,
            "chunk_ptr_at": side.chunk_ptr,
            "chunk_hub_at": side.chunk_hub,
            "chunk": side.chunk,
        }

    def present(self, *groups: str) -> list[str]:
        """Those of the groups that have rows."""
        return [group for group in groups if self._count(group) > 0]

    def programs(self, group: str, rows: int) -> int:
        """For so many rows a program."""
        return -(-self._count(group) // rows)

    def _count(self, group: str) -> int:
        side = self.side
        return {"small": side.small, "middle": side.middle, "chunk": side.chunks, "hub": side.hubs}[group]


def walks(graph: Tensor, groups: Tensor, sizes: Sequence[int], num_dst: int, num_edges: int) -> tuple[Walk, Walk]:
    """Over target rows, and over source rows.

    Raises:
        ValueError: Sizes and packed tensors do not fit each other; what is in them, ``gattn.Graph`` has checked.
    """
    num_src = graph.shape[0] - packed_numel(0, num_dst, num_edges)
    if num_src < 0 or groups.shape[0] != groups_numel(num_src, num_dst, num_edges) or len(sizes) != 8:
        raise ValueError(
            f"Expected the packed adjacency and groups of a gattn.Graph with {num_dst} targets and {num_edges} edges "
            f"(got {graph.shape[0]} and {groups.shape[0]} numbers and {len(sizes)} sizes of groups)."
        )
    at = offsets(num_src, num_dst, num_edges)
    rows, columns = sides(sizes, num_src, num_dst, num_edges)
    return (
        Walk(graph, groups, rows, {"ptr_at": at.rowptr, "node_at": at.col, "edge_at": at.edge_id}, at.csr_to_csc),
        Walk(graph, groups, columns, {"ptr_at": at.colptr, "node_at": at.row, "edge_at": at.edge_id_t}, 0),
    )

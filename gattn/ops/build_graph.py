"""The making of a :class:`gattn.Graph` as an op, for programs that are compiled or exported."""

from __future__ import annotations

import torch
from torch import Tensor

from gattn.backends import _C
from gattn.graph import Graph
from gattn.ops.library import library

_NARROW = 2**31 - 1  # sizes from here on are packed in int64


def _is_wide(edge_index: Tensor, num_src: int, num_dst: int, self_loops: bool) -> bool:
    """Whether to pack in int64; from what is known before any self-loop is counted."""
    edges = edge_index.shape[1]
    if self_loops:
        edges = edges + torch.sym_min(num_src, num_dst)
    return bool(torch.sym_max(edges, torch.sym_max(num_src, num_dst)) >= _NARROW)


def _build(edge_index: Tensor, num_src: int, num_dst: int, swap_rows: bool, self_loops: bool) -> tuple[Tensor, Tensor]:
    """``Graph.data`` and ``Graph.kept_edges`` (empty without self-loops), through the cache of graphs.

    Copies: the results of an op are the program's to overwrite, what the cache holds is not.
    """
    flow = "target_to_source" if swap_rows else "source_to_target"
    wide = _is_wide(edge_index, num_src, num_dst, self_loops)
    graph = Graph._find(edge_index, ((num_src, num_dst), flow, self_loops), wide=wide)
    kept = graph.kept_edges
    return graph.data.clone(), _nothing(edge_index) if kept is None else kept.clone()


def _build_fake(
    edge_index: Tensor, num_src: int, num_dst: int, swap_rows: bool, self_loops: bool
) -> tuple[Tensor, Tensor]:
    edges, kept = edge_index.shape[1], _nothing(edge_index)
    if self_loops:
        num_kept = torch.library.get_ctx().new_dynamic_size()
        edges = num_kept + torch.sym_min(num_src, num_dst)
        kept = edge_index.new_empty(num_kept, dtype=torch.int64)
    wide = _is_wide(edge_index, num_src, num_dst, self_loops)
    numel = _C.GRAPH_HEADER + num_src + num_dst + 2 + 5 * edges
    return edge_index.new_empty(numel, dtype=torch.int64 if wide else torch.int32), kept


def _nothing(like: Tensor) -> Tensor:
    return like.new_empty(0, dtype=torch.int64)


library.define(
    "build_graph(Tensor edge_index, SymInt num_src, SymInt num_dst, bool swap_rows, bool self_loops) "
    "-> (Tensor, Tensor)"
)
library.impl("build_graph", _build, "CompositeExplicitAutograd")
torch.library.register_fake("gattn::build_graph", _build_fake, lib=library)

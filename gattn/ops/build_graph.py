"""The making of a :class:`gattn.Graph` and of its groups as ops, for programs that are compiled or exported."""

from __future__ import annotations

import torch
from torch import Tensor

from gattn import groups, packed
from gattn.graph import Graph
from gattn.ops.library import library


def _is_wide(edge_index: Tensor, num_src: int, num_dst: int, self_loops: bool) -> bool:
    """Whether to pack in int64; from what is known before any self-loop is counted."""
    edges = edge_index.shape[1]
    if self_loops:
        edges = edges + torch.sym_min(num_src, num_dst)
    return bool(torch.sym_max(edges, torch.sym_max(num_src, num_dst)) >= packed.NARROW)


def _build(
    edge_index: Tensor, num_src: int, num_dst: int, swap_rows: bool, self_loops: bool, grouped: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """``Graph.data``, ``Graph.kept_edges`` (empty without self-loops) and ``Graph.groups.data`` (empty unless asked
    for), through the cache of graphs.

    Copies: the results of an op are the program's to overwrite, what the cache holds is not.
    """
    flow = "target_to_source" if swap_rows else "source_to_target"
    wide = _is_wide(edge_index, num_src, num_dst, self_loops)
    graph = Graph._find(edge_index, ((num_src, num_dst), flow, self_loops), wide=wide)
    kept = graph.kept_edges
    return (
        graph.data.clone(),
        _nothing(edge_index) if kept is None else kept.clone(),
        graph.groups.data.clone() if grouped else graph.data.new_empty(0),
    )


def _build_fake(
    edge_index: Tensor, num_src: int, num_dst: int, swap_rows: bool, self_loops: bool, grouped: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    edges, kept = edge_index.shape[1], _nothing(edge_index)
    if self_loops:
        num_kept = torch.library.get_ctx().new_dynamic_size()
        edges = num_kept + torch.sym_min(num_src, num_dst)
        kept = edge_index.new_empty(num_kept, dtype=torch.int64)
    dtype = torch.int64 if _is_wide(edge_index, num_src, num_dst, self_loops) else torch.int32
    lengths = packed.numel(num_src, num_dst, edges), groups.numel(num_src, num_dst, edges) if grouped else 0
    data, nodes = (edge_index.new_empty(length, dtype=dtype) for length in lengths)
    return data, kept, nodes


def _nothing(like: Tensor) -> Tensor:
    return like.new_empty(0, dtype=torch.int64)


def _group(data: Tensor, num_src: int, num_dst: int, num_edges: int) -> Tensor:
    """``Graph.groups.data`` of ``Graph.data``."""
    begin = packed.offsets(num_src, num_dst, num_edges)
    pointers = data[begin.rowptr : begin.col], data[begin.colptr : begin.row]
    return groups.pack(groups.classify(*pointers), num_edges, data.dtype)


def _group_fake(data: Tensor, num_src: int, num_dst: int, num_edges: int) -> Tensor:
    return data.new_empty(groups.numel(num_src, num_dst, num_edges))


library.define("group_nodes(Tensor graph, SymInt num_src, SymInt num_dst, SymInt num_edges) -> Tensor")
library.impl("group_nodes", _group, "CompositeExplicitAutograd")
torch.library.register_fake("gattn::group_nodes", _group_fake, lib=library)
library.define(
    "build_graph(Tensor edge_index, SymInt num_src, SymInt num_dst, bool swap_rows, bool self_loops, "
    "bool grouped=False) -> (Tensor, Tensor, Tensor)"
)
library.impl("build_graph", _build, "CompositeExplicitAutograd")
torch.library.register_fake("gattn::build_graph", _build_fake, lib=library)

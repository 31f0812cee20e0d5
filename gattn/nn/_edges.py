"""PyG's ways of passing a graph to a layer, turned into the one the kernels read."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary
from torch_geometric import EdgeIndex
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.typing import Adj, OptTensor, Size, SparseTensor, torch_sparse
from torch_geometric.utils import add_self_loops, is_sparse, remove_self_loops
from torch_geometric.utils.loop import compute_loop_attr
from torch_geometric.utils.sparse import set_sparse_value

from gattn.graph import Graph

FillValue = float | Tensor | str | None

_NARROW = (torch.uint8, torch.int8, torch.int16)

# Sparse adjacency -> its patterns, by whether self-loops were asked for: sorting costs more than the layer.
_patterns: MutableMapping[Any, dict[bool, _Pattern]] = WeakIdKeyDictionary()


class Edges(NamedTuple):
    """A layer's edges: what the kernels read, and what the caller knows them by."""

    graph: Graph
    adj: Adj  # as the caller passed it; a sparse one in its rewritten form
    edge_attr: OptTensor  # the caller's, or what a sparse adjacency holds; self-loops still missing


def read_edges(
    conv: MessagePassing,
    adj: Adj,
    edge_attr: OptTensor,
    size: Size,
    x_src: Tensor,
    x_dst: OptTensor,
    *,
    self_loops: bool,
) -> Edges:
    """Read ``adj`` in any form PyG takes: ``[2, E]`` tensor, EdgeIndex, torch sparse, SparseTensor.

    ``x_src [N_src, ...]`` and ``x_dst [N_dst, ...]`` give the node counts. Without ``x_dst`` they come from
    the adjacency's own shape, else from ``size``, else ``N_dst = N_src``. ``self_loops`` asks for PyG's
    rewriting: those present dropped, one appended for each of the first ``min(N_src, N_dst)`` nodes.

    Raises:
        ValueError, IndexError, NotImplementedError, AssertionError: as PyG, in PyG's words.
    """
    if not isinstance(adj, EdgeIndex):
        if not isinstance(adj, Tensor) or adj.layout is not torch.strided:
            return _read_sparse(conv, adj, edge_attr, x_src, x_dst, self_loops)
    else:
        # What an EdgeIndex knows of its shape goes before `size`; appended self-loops may enlarge it.
        loops = min(x_src.size(0), x_src.size(0) if x_dst is None else x_dst.size(0)) if self_loops else 0
        size = tuple(None if n is None else max(n, loops) for n in adj.sparse_size())
        size = size if conv.flow == "source_to_target" else size[::-1]
    num_src = x_src.size(0)
    num_dst = num_src if x_dst is None else x_dst.size(0)
    if size is not None:
        num_dst = _check_size(conv, size, x_src, x_dst)
    indices = adj.as_tensor() if isinstance(adj, EdgeIndex) else adj
    if indices.dtype in _NARROW:
        indices = indices.long()
    graph = Graph.from_edge_index(indices, (num_src, num_dst), flow=conv.flow, self_loops=self_loops)
    return Edges(graph, adj, edge_attr)


def with_loop_attr(edge_attr: Tensor, edges: Edges, fill_value: FillValue, flow: str) -> Tensor:
    """The caller's ``edge_attr [E, ...]`` in the order of the rewritten edges, self-loops filled as PyG does.

    Returned as it is where nothing remains to be filled: for edges read without self-loops, and for a sparse adjacency.

    Raises:
        IndexError: ``edge_attr`` does not have one row an edge.
        AttributeError: no valid ``fill_value``.
    """
    graph, num_edges = edges.graph, edges.adj.size(1)
    if graph.kept_edges is None:
        return edge_attr
    if edge_attr.size(0) != num_edges:
        raise IndexError(
            f"Expected 'edge_attr' to have one row for each of the {num_edges} edges in 'edge_index' "
            f"(got {edge_attr.size(0)} rows)"
        )
    kept = graph.kept_edges
    assert kept is not None
    if torch.compiler.is_compiling() or kept.numel() != num_edges:  # their number is not known to a compiler
        edge_attr = edge_attr.index_select(0, kept)
    # PyG reduces over the second row of the caller's edge_index, whichever way messages flow.
    edge_index = graph.edge_index[:, : kept.numel()]
    edge_index = edge_index if flow == "source_to_target" else edge_index.flip(0)
    loops = compute_loop_attr(edge_index, edge_attr, graph.num_loops, False, fill_value)
    return torch.cat([edge_attr, loops])


def unmapped_features(lin_edge: Any, adj: Adj, edge_attr: OptTensor) -> str | None:
    """Why PyG's path has to deal with edge features that the layer was not built for; ``None`` without any."""
    if lin_edge is None and (edge_attr is not None or (is_sparse(adj) and _has_features(adj))):
        return "edge features are given, though edge_dim is None"
    return None


def attention_result(out: Tensor, alpha: Tensor, edges: Edges, *, flow: str, self_loops: bool) -> Any:
    """What PyG returns for ``return_attention_weights=True``; ``alpha [E, H]`` is in the rewritten order."""
    graph, adj, _ = edges
    if isinstance(adj, SparseTensor):
        return out, adj.set_value(alpha, layout="coo")
    if adj.layout is not torch.strided:
        return out, (set_sparse_value(adj, alpha), alpha)
    if not self_loops:
        return out, (adj, alpha)
    if isinstance(adj, EdgeIndex):  # it stays one, with what it knows of itself
        return out, (add_self_loops(remove_self_loops(adj)[0], num_nodes=graph.num_loops)[0], alpha)
    # A copy, the caller's to change.
    return out, (graph.edge_index.clone() if flow == "source_to_target" else graph.edge_index.flip(0), alpha)


def _check_size(conv: MessagePassing, size: Any, x_src: Tensor, x_dst: OptTensor) -> int:
    """Check the node counts against ``size`` in PyG's words; the number of target nodes."""
    expected = list(size)
    conv._set_size(expected, 0, x_src)
    if x_dst is not None:
        conv._set_size(expected, 1, x_dst)
    return x_src.size(0) if expected[1] is None else int(expected[1])


class _Pattern(NamedTuple):
    version: int
    looped: Adj | None  # rewritten with self-loops, where that was asked for; its values mean nothing
    graph: Graph


def _read_sparse(conv: Any, adj: Adj, edge_attr: OptTensor, x_src: Tensor, x_dst: OptTensor, self_loops: bool) -> Edges:
    _check_size(conv, conv._check_input(adj, None), x_src, x_dst)
    if self_loops and conv.edge_dim is not None and isinstance(adj, SparseTensor):
        raise NotImplementedError(
            "The usage of 'edge_attr' and 'add_self_loops' simultaneously is currently not yet supported for "
            "'edge_index' in a 'SparseTensor' form"
        )
    if self_loops and edge_attr is not None and not isinstance(adj, SparseTensor):
        raise AssertionError("Expected the edge features in the values of a sparse 'edge_index' with self-loops to add")
    pattern = _pattern(adj, self_loops)
    if edge_attr is None and conv.edge_dim is not None and _has_features(adj):
        adj = _append_loops(adj, conv.fill_value) if self_loops else adj
        edge_attr = adj.storage.value() if isinstance(adj, SparseTensor) else adj.values()
    elif pattern.looped is not None:
        adj = pattern.looped
    return Edges(pattern.graph, adj, edge_attr)


def _pattern(adj: Adj, self_loops: bool) -> _Pattern:
    key, version = (adj.storage, 0) if isinstance(adj, SparseTensor) else (adj, adj._version)
    known = _patterns.setdefault(key, {})
    pattern = known.get(self_loops)
    if pattern is None or pattern.version != version:
        if not self_loops and not isinstance(adj, SparseTensor) and adj.layout is torch.sparse_coo:
            adj.indices()  # raises for an uncoalesced one, whose edges have no agreed order
        with torch.no_grad():
            looped = _append_loops(adj, 1.0) if self_loops else None
        pattern = known[self_loops] = _Pattern(version, looped, Graph.from_adj_t(adj if looped is None else looped))
    return pattern


def _append_loops(adj: Adj, fill_value: FillValue) -> Adj:
    if isinstance(adj, SparseTensor):
        return torch_sparse.set_diag(adj)
    return add_self_loops(*remove_self_loops(adj), fill_value=fill_value)[0]


def _has_features(adj: Adj) -> bool:
    """Whether the values are edge features: rows of numbers. One number an edge is a weight, and ignored."""
    if isinstance(adj, SparseTensor):
        value = adj.storage.value()
        return value is not None and bool(value.dim() > 1)
    return bool(adj.dense_dim() > 0)

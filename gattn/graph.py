"""The adjacency every kernel reads: validated once, sorted once, cached for as long as its ``edge_index`` lives."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from gattn import core_graph, device_graph
from gattn import groups as degree_groups
from gattn.adjacency import check_edge_index, csr_degrees, node_counts, sparse_coordinates
from gattn.packed import PackedGraph

Size = int | tuple[int, int] | None

# id(edge_index) -> (weak reference, version, graphs by build arguments). The reference's callback drops the entry
# with the tensor, so neither a freed tensor's id nor its memory can be mistaken for a new one's.
_cache: dict[int, tuple[weakref.ref[Tensor], int, dict[tuple[Any, ...], Graph]]] = {}


class Graph(PackedGraph):
    """A validated, immutable adjacency: target-major CSR, its transpose and the edge permutation.

    Build it with :meth:`from_edge_index`, :meth:`from_csr` or :meth:`from_adj_t`; it is built on the device of the
    indices. All index tensors are views of the one packed integer tensor :attr:`data` (int32, or int64 where 2**31
    nodes or edges ask for it), whose layout ``csrc/common/graph_layout.h`` describes.

    Attributes:
        num_src: Number of source nodes.
        num_dst: Number of target nodes.
        num_edges: Number of edges, after self-loop rewriting if that was asked for.
        num_loops: Number of self-loops that the rewriting appended, edges ``num_edges - num_loops ..``.
        data: The packed adjacency.
    """

    __slots__ = ("__weakref__", "_edge_index", "_edges", "_groups", "_kept", "num_loops")

    num_loops: int
    _edge_index: Tensor | None
    _kept: Tensor | None
    _edges: tuple[Tensor, int | None] | None
    _groups: degree_groups.Groups | None

    def __init__(self) -> None:
        raise TypeError("Build a Graph with Graph.from_edge_index, Graph.from_csr or Graph.from_adj_t.")

    @classmethod
    def _make(cls, data: Tensor, num_src: int, num_dst: int, num_edges: int, num_loops: int) -> Graph:
        self = object.__new__(cls)
        self.data = data
        self.num_src, self.num_dst, self.num_edges, self.num_loops = num_src, num_dst, num_edges, num_loops
        self._edge_index = self._kept = self._edges = self._groups = None
        return self

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_nodes: Size = None,
        *,
        flow: str = "source_to_target",
        self_loops: bool = False,
    ) -> Graph:
        """Builds, or finds in the cache, the graph of an edge list.

        The result is cached against the tensor's identity and version: a network of ten layers sorts once, an
        in-place change of ``edge_index`` sorts again, and the cache entry dies with the tensor. (Changes that bypass
        PyTorch's version counter, through ``.data`` or shared NumPy memory, cannot be seen.)

        Args:
            edge_index: ``[2, E]``, int32 or int64; row 0 holds the sources, row 1 the targets.
            num_nodes: One number for both sides, ``(num_src, num_dst)``, or ``None`` for the largest index plus one.
            flow: ``"target_to_source"`` swaps the two rows' roles.
            self_loops: Rewrites as PyTorch Geometric does: drops all existing self-loops, then appends
                ``i -> i`` for ``i < min(num_src, num_dst)`` in that order.

        Raises:
            ValueError: Wrong dtype, shape, sizes or flow.
            IndexError: A negative or too large index. Nothing has been written then.
        """
        if not isinstance(edge_index, Tensor):
            raise ValueError(
                f"Expected 'edge_index' to be a tensor of shape [2, num_edges] (got '{type(edge_index).__name__}')."
            )
        if flow not in ("source_to_target", "target_to_source"):
            raise ValueError(f"Expected 'flow' to be 'source_to_target' or 'target_to_source' (got '{flow}')")
        if torch.compiler.is_compiling():
            return cls._trace(edge_index, num_nodes, flow, self_loops)
        key = (num_nodes if num_nodes is None or type(num_nodes) is int else node_counts(num_nodes), flow, self_loops)
        return cls._find(edge_index, key)

    @classmethod
    def _find(cls, edge_index: Tensor, key: tuple[Any, ...], *, wide: bool = False) -> Graph:
        """The graph from the cache, built if it is not there."""
        if edge_index.is_inference():  # keeps no version: a change in place could not be seen
            return cls._build(edge_index, key, wide=wide)
        if wide:
            key = (*key, wide)
        version = edge_index._version
        entry = _cache.get(id(edge_index))
        if entry is None or entry[1] != version or entry[0]() is not edge_index:
            graph = cls._build(edge_index, key[:3], wide=wide)
            name = id(edge_index)
            _cache[name] = (weakref.ref(edge_index, lambda _: _cache.pop(name, None)), version, {key: graph})
            return graph
        found = entry[2].get(key)
        if found is None:
            found = entry[2][key] = cls._build(edge_index, key[:3], wide=wide)
        return found

    @classmethod
    def _trace(cls, edge_index: Tensor, num_nodes: Size, flow: str, self_loops: bool) -> Graph:
        """What :meth:`from_edge_index` does in a program that is compiled: the graph is an op's result, its sizes
        are symbols."""
        check_edge_index(edge_index)
        if num_nodes is None:
            raise ValueError("Expected 'num_nodes' (got None): a compiled program cannot read it off the indices.")
        num_src, num_dst = num_nodes if isinstance(num_nodes, (tuple, list)) else (num_nodes, num_nodes)
        swap = flow == "target_to_source"
        grouped = edge_index.device.type != "cpu"
        data, kept, nodes = torch.ops.gattn.build_graph(edge_index, num_src, num_dst, swap, self_loops, grouped)
        loops = torch.sym_min(num_src, num_dst) if self_loops else 0
        edges = kept.shape[0] + loops if self_loops else edge_index.shape[1]
        self = cls._make(data, num_src, num_dst, edges, loops)
        if self_loops:
            self._kept = kept
        if grouped:
            self._groups = degree_groups.Groups(nodes, degree_groups.upper_bounds(num_src, num_dst, edges))
        return self

    @classmethod
    def _build(cls, edge_index: Tensor, key: tuple[Any, ...], *, wide: bool = False) -> Graph:
        num_nodes, flow, self_loops = key
        check_edge_index(edge_index)
        num_src, num_dst = node_counts(num_nodes)
        if torch._C._functorch.is_functorch_wrapped_tensor(edge_index):
            raise NotImplementedError(
                "Expected an 'edge_index' that no torch.func transform maps or differentiates. Build one graph outside."
            )
        with outside_transforms():  # the graph outlives them
            edges = edge_index.detach()
            if type(edges) is not Tensor:  # PyG's EdgeIndex
                edges = edges.as_subclass(Tensor)
            build = core_graph.build if edges.is_cpu else device_graph.build
            built = build(edges, num_src, num_dst, swap=flow == "target_to_source", self_loops=self_loops, wide=wide)
        loops = min(built.num_src, built.num_dst) if self_loops else 0
        self = cls._make(built.data, built.num_src, built.num_dst, built.num_edges, loops)
        self._groups = built.groups
        if self_loops:
            self._edges = (edges, None if edges.is_inference() else edges._version)
        return self

    @classmethod
    def from_csr(cls, rowptr: Tensor, col: Tensor, num_src: int | None = None) -> Graph:
        """Builds the graph of a target-major CSR; edge ``k`` is slot ``k``.

        Args:
            rowptr: ``[num_dst + 1]``, int32 or int64.
            col: ``[E]``, the sources, of the same dtype.
            num_src: Number of sources; by default as many as targets, or the largest source plus one if larger.

        Raises:
            ValueError: ``rowptr`` does not start at 0, does not rise, or does not end at ``E``.
            IndexError: A source out of range.
        """
        degree = csr_degrees(rowptr, col)
        num_dst = rowptr.numel() - 1
        if num_src is None:
            num_src = max(num_dst, int(col.max()) + 1 if col.numel() else 0)
        nodes = torch.arange(num_dst, dtype=col.dtype, device=col.device)
        row = torch.repeat_interleave(nodes, degree, output_size=col.numel())
        return cls._build(torch.stack([col, row]), ((num_src, num_dst), "source_to_target", False))

    @classmethod
    def from_adj_t(cls, adj_t: Any, *, self_loops: bool = False) -> Graph:
        """Builds the graph of a transposed sparse adjacency, rows targets: torch COO, CSR, CSC or a ``SparseTensor``.

        Edge ``k`` is the ``k``-th stored element in the layout's own order (row-major for COO, which is coalesced
        first, and CSR; column-major for CSC).

        Raises:
            ValueError: Neither a two-dimensional sparse tensor nor a ``torch_sparse.SparseTensor``.
        """
        row, col = sparse_coordinates(adj_t)
        num_dst, num_src = int(adj_t.size(0)), int(adj_t.size(1))
        return cls._build(torch.stack([col, row]), ((num_src, num_dst), "source_to_target", self_loops))

    def to(self, device: torch.device | str) -> Graph:
        """The same graph on another device."""
        device = torch.device(device)
        if device == self.data.device:
            return self
        moved = Graph._make(self.data.to(device), self.num_src, self.num_dst, self.num_edges, self.num_loops)
        kept = self.kept_edges
        moved._kept = None if kept is None else kept.to(device)
        return moved

    @property
    def groups(self) -> degree_groups.Groups:
        """The nodes by degree, as GPU kernels share them out; sorted when first asked for."""
        if self._groups is not None:
            return self._groups
        counts = self.num_src, self.num_dst, self.num_edges
        if torch.compiler.is_compiling():
            data = torch.ops.gattn.group_nodes(self.data, *counts)
            return degree_groups.Groups(data, degree_groups.upper_bounds(*counts))
        with outside_transforms():
            classes = degree_groups.classify(self.rowptr, self.colptr)
            sizes = torch.cat([side.counts for side in classes]).tolist()
            data = degree_groups.pack(classes, self.num_edges, self.data.dtype)
        self._groups = degree_groups.Groups(data, tuple(sizes))
        return self._groups

    @property
    def edge_index(self) -> Tensor:
        """``[2, E]`` int64: sources and targets in the caller's edge order, after flow and self-loop rewriting."""
        if self._edge_index is not None:
            return self._edge_index
        with outside_transforms():
            edge_index = self._list_edges()
        if not torch.compiler.is_compiling():  # a tracer's tensors are not for keeping
            self._edge_index = edge_index
        return edge_index

    def _list_edges(self) -> Tensor:
        nodes = torch.arange(self.num_dst, device=self.device)
        target = torch.repeat_interleave(nodes, self.rowptr.diff(), output_size=self.num_edges)
        edge_index = torch.empty(2, self.num_edges, dtype=torch.int64, device=self.device)
        edge_index[:, self.edge_id.long()] = torch.stack([self.col.long(), target])
        return edge_index

    @property
    def kept_edges(self) -> Tensor | None:
        """int64 numbers of the caller's edges that self-loop rewriting kept, in order; ``None`` without rewriting.

        Raises:
            RuntimeError: ``edge_index`` has been changed in place since the graph was built.
        """
        if self._kept is not None or self._edges is None:
            return self._kept
        edges, version = self._edges
        if version is not None and edges._version != version:
            raise RuntimeError("'edge_index' was changed in place after this graph was built. Build it again.")
        with outside_transforms():
            kept = device_graph.kept_edges(edges, self.num_edges - self.num_loops)
        if not torch.compiler.is_compiling():
            self._kept, self._edges = kept, None
        return kept

    def __repr__(self) -> str:
        return (
            f"Graph(num_src={self.num_src}, num_dst={self.num_dst}, num_edges={self.num_edges}, "
            f"dtype={self.data.dtype}, device='{self.device}')"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.data, self.num_src, self.num_dst, self.num_edges, self.num_loops, self.kept_edges)


def _restore(data: Tensor, num_src: int, num_dst: int, num_edges: int, num_loops: int, kept: Tensor | None) -> Graph:
    graph = Graph._make(data, num_src, num_dst, num_edges, num_loops)
    graph._kept = kept
    return graph


def outside_transforms() -> contextlib.AbstractContextManager[None]:
    """Where what is kept is computed: no tensors of a ``torch.func`` transform, nor of inference mode, with which a
    training step afterwards could do nothing."""
    return contextlib.nullcontext() if torch.compiler.is_compiling() else _outside_transforms()


@contextlib.contextmanager
def _outside_transforms() -> Iterator[None]:
    with temporarily_clear_interpreter_stack(), torch.inference_mode(False):
        yield

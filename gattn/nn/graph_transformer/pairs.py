"""Graphs whose edges are of two kinds, real ones and added pairs."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from gattn.graph import Graph

T = TypeVar("T")

#: Flag of real edges -> its version, and what was made of it: the layers of a network make the same.
_made: MutableMapping[Tensor, tuple[int, dict[Any, Any]]] = WeakTensorKeyDictionary()


def as_graph(edges: Tensor | Graph, num_nodes: int) -> Graph:
    """The graph of ``edges``, or ``edges`` if they are one.

    Raises:
        ValueError: It has other numbers of nodes; and whatever :meth:`gattn.Graph.from_edge_index` raises.
    """
    if not isinstance(edges, Graph):
        return Graph.from_edge_index(edges, num_nodes)
    if edges.num_src != num_nodes or edges.num_dst != num_nodes:
        raise ValueError(
            f"Expected a graph of {num_nodes} nodes, the rows of 'x' (got {edges.num_src} sources, {edges.num_dst} "
            f"targets)."
        )
    return edges


def as_graph_of_kinds(edges: Tensor | Graph, real: Tensor, num_nodes: int) -> Graph:
    """The graph with ``2 * num_nodes`` sources that ``GTAttention(kinds=2)`` reads: real edges are of kind 0."""

    def build() -> tuple[Any, Graph]:
        # No index out of range comes into it: 2 j and 2 j + 1 are in range where j is.
        source, target = edges.edge_index if isinstance(edges, Graph) else edges.long()
        typed = torch.stack([2 * source + real.logical_not(), target])
        return edges, Graph.from_edge_index(typed, (2 * num_nodes, num_nodes))

    if torch.compiler.is_compiling():
        return build()[1]
    if isinstance(edges, Graph):
        as_graph(edges, num_nodes)
        version = None
    elif edges.is_inference():
        return build()[1]
    else:
        version = edges._version
    try:  # kept with `edges`, so that nothing else gets their id
        return remembered(real, (id(edges), version, num_nodes), build)[1]
    except IndexError:
        as_graph(edges, num_nodes)  # raises too, and names the caller's own index
        raise


def remembered(tensor: Tensor, key: Any, make: Callable[[], T]) -> T:
    """What ``make`` gives, kept under ``key`` for as long as ``tensor`` lives and is not changed."""
    if torch.compiler.is_compiling() or tensor.is_inference():  # which keeps no version
        return make()
    version, made = _made.get(tensor, (None, {}))
    if version != tensor._version:
        made = {}
        _made[tensor] = (tensor._version, made)
    if key not in made:
        made[key] = make()
    found: T = made[key]
    return found


def check_real(real: Tensor | None, num_edges: int) -> Tensor:
    """Raises ValueError unless ``real`` is a flag for every edge."""
    if real is None:
        raise ValueError(
            "Expected 'real', which tells real edges from added pairs (got None). Add gattn.transforms.FullGraph() to "
            "the transforms of the data set and pass data.edge_real."
        )
    if real.dtype != torch.bool or real.shape != (num_edges,):
        raise ValueError(
            f"Expected 'real' of shape [{num_edges}] and dtype torch.bool (got {list(real.shape)}, {real.dtype})."
        )
    return real

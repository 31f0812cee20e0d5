"""All pairs of a graph's nodes as edges, and the random-walk kernel between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from gattn.adjacency import check_edge_index


class FullGraph(BaseTransform):  # type: ignore[misc]  # PyG has no types
    """Adds all pairs of nodes that no edge joins to ``data.edge_index``, and tells which ones are edges.

    The edges come first, as they are (self-loops and duplicates too), the added pairs after them, sorted; both
    directions of a pair count. ``data.edge_real`` ``[num_edges]`` is True for edges and False for added pairs. The
    other attributes of edges, which have ``edge`` in their name (``edge_attr``, ``edge_weight``, ...), get rows of
    zeros for the added pairs: a category that no edge has in ZINC, and elsewhere no feature at all. It is what
    :class:`gattn.nn.SANLayer` and :class:`gattn.nn.GraphiTLayer` read with ``full_graph=True``.

    The number of pairs is the square of the number of nodes: for graphs of up to some hundred nodes. Batches of such
    graphs, made by a ``DataLoader``, join no two graphs. As a ``pre_transform`` it runs once a data set. Apply it after
    whatever changes edges or nodes.

    Args:
        self_loops: Whether the pairs of a node and itself are added too.

    Raises:
        TypeError: The data are not a ``torch_geometric.data.Data``.
        ValueError: The data have no ``edge_index``, have been made full already, or hold a kernel of their edges; a
            ``Batch`` was not made by ``Batch.from_data_list``.
        IndexError: ``edge_index`` names nodes that the data do not have.
    """

    def __init__(self, self_loops: bool = False) -> None:
        self.self_loops = self_loops

    def forward(self, data: Any) -> Any:
        if isinstance(data, Batch):
            return _of_every_graph(self, data)
        edge_index, nodes = _edges_of(data)
        if "edge_real" in data:
            raise ValueError("Expected data without 'edge_real' (got one: pairs have been added). Apply it once.")
        if "edge_kernel" in data:
            raise ValueError("Expected data without 'edge_kernel' (got one). Apply RandomWalkKernel after FullGraph.")
        joined = torch.zeros(nodes, nodes, dtype=torch.bool, device=edge_index.device)
        joined[edge_index[0], edge_index[1]] = True
        if not self.self_loops:
            joined.fill_diagonal_(True)
        added = joined.logical_not().nonzero().t().to(edge_index.dtype)
        edges, pairs = edge_index.size(1), added.size(1)
        for name, values in list(data):
            if _is_of_edges(name, values, edges):
                data[name] = torch.cat([values, values.new_zeros(pairs, *values.shape[1:])])
        data.edge_index = torch.cat([edge_index, added], dim=1)
        data.edge_real = torch.arange(edges + pairs, device=edge_index.device) < edges
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(self_loops={self.self_loops})"


class RandomWalkKernel(BaseTransform):  # type: ignore[misc]  # PyG has no types
    r"""Stores GraphiT's random-walk kernel of every edge or pair as ``data.edge_kernel``: float32, ``[num_edges]``.

    .. math:: K = (I - \gamma L)^p, \quad L = I - D^{-1/2} A D^{-1/2}

    of Mialon et al., *GraphiT: encoding graph structure in transformers*, 2021, arXiv 2106.05667. :math:`A` holds the
    number of edges from row to column, without the pairs that :class:`FullGraph` added, and :math:`D` the number of
    in-edges, at least 1, as in the LSPE program. No entry is negative, and pairs more than ``steps`` hops apart have 0.
    Use ``torch_geometric.transforms.ToUndirected`` before it for graphs with edges in one direction. ::

        transform = Compose([gattn.transforms.FullGraph(), gattn.transforms.RandomWalkKernel()])

    :math:`K` is computed densely in float64, ``log2(steps)`` products of matrices. A ``Batch`` gets the kernels of all
    its graphs.

    Args:
        steps: ``p``, 1 or more.
        gamma: In (0, 1].

    Raises:
        TypeError: ``steps`` is no int; the data are not a ``torch_geometric.data.Data``.
        ValueError: ``steps`` or ``gamma`` is out of range; the data have no ``edge_index``; a ``Batch`` was not made by
            ``Batch.from_data_list``.
        IndexError: ``edge_index`` names nodes that the data do not have.
    """

    def __init__(self, steps: int = 16, gamma: float = 0.25) -> None:
        if not isinstance(steps, int) or isinstance(steps, bool):
            raise TypeError(f"Expected 'steps' to be an int (got '{type(steps).__name__}').")
        if steps < 1:
            raise ValueError(f"Expected 'steps' >= 1 (got {steps}).")
        if not 0.0 < gamma <= 1.0:
            raise ValueError(f"Expected 'gamma' in (0, 1] (got {gamma}).")
        self.steps, self.gamma = steps, gamma

    def forward(self, data: Any) -> Any:
        if isinstance(data, Batch):
            return _of_every_graph(self, data)
        edge_index, nodes = _edges_of(data)
        source, target = edge_index[:, data.edge_real] if "edge_real" in data else edge_index
        adjacency = torch.zeros(nodes, nodes, dtype=torch.float64, device=edge_index.device)
        adjacency.index_put_((source, target), adjacency.new_ones(()), accumulate=True)
        root = adjacency.sum(0).clamp(min=1).rsqrt()
        walk = self.gamma * root[:, None] * adjacency * root
        walk.diagonal().add_(1 - self.gamma)
        kernel = torch.linalg.matrix_power(walk, self.steps)
        data.edge_kernel = kernel[edge_index[0], edge_index[1]].float()
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(steps={self.steps}, gamma={self.gamma})"


def _is_of_edges(name: str, values: Any, edges: int) -> bool:
    """Whether it is a row an edge, by its name too: data.is_edge_attr also takes whatever is as long by chance."""
    others = ("index", "label")  # edges that are not messages'
    named = "edge" in name and not any(other in name for other in others)
    return named and isinstance(values, Tensor) and values.dim() > 0 and values.size(0) == edges


def _edges_of(data: Any) -> tuple[Tensor, int]:
    """``edge_index`` and the number of nodes of one graph, checked."""
    if not isinstance(data, Data):
        raise TypeError(
            f"Expected a torch_geometric.data.Data (got '{type(data).__name__}'). Convert heterogeneous data with "
            f".to_homogeneous()."
        )
    edge_index, nodes = data.edge_index, data.num_nodes
    if edge_index is None:
        raise ValueError(
            "Expected data with an 'edge_index' (got none). Apply this transform before ToSparseTensor, or set it."
        )
    check_edge_index(edge_index)
    if edge_index.numel():
        least, most = int(edge_index.min()), int(edge_index.max())
        if least < 0 or most >= nodes:
            raise IndexError(f"Expected 'edge_index' in [0, {nodes}), the data's nodes (got {least} to {most}).")
    return edge_index, nodes


def _of_every_graph(transform: BaseTransform, batch: Any) -> Any:
    """A batch of its graphs, transformed."""
    if not hasattr(batch, "_slice_dict"):
        raise ValueError("Expected a Batch made by Batch.from_data_list (got one that knows no graphs).")
    return Batch.from_data_list([transform(graph) for graph in batch.to_data_list()])

"""Distances between all nodes of a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from gattn.ops.shortest_path import check_unreachable, shortest_path


class ShortestPath(BaseTransform):  # type: ignore[misc]  # PyG has no types
    """Stores hop counts between all pairs of nodes as ``data.distance``: int16, ``[num_nodes * num_nodes]``, row-major.

    Batches of such graphs, made by ``Batch.from_data_list`` or a ``DataLoader``, hold the blocks one after the other,
    as :func:`gattn.ops.shortest_path` of the batch gives them. As a ``pre_transform`` it runs once a data set, and the
    result is stored with it:

    .. code-block:: python

        dataset = TUDataset(root, "NCI1", pre_transform=gattn.transforms.ShortestPath())

    Apply it after whatever changes edges or nodes. Directed graphs have directed distances; use
    ``torch_geometric.transforms.ToUndirected`` before it for others. A ``Batch`` gets the blocks of all its graphs.

    Args:
        unreachable: Stands for pairs without a path, and for longer paths, in ``[0, 32767]``.

    Raises:
        TypeError: ``unreachable`` is no int; the data are not a ``torch_geometric.data.Data``.
        ValueError: ``unreachable`` is out of range; the data have no ``edge_index``; a graph has more than 32768
            nodes; a ``Batch`` was not made by ``Batch.from_data_list``.
        IndexError: ``edge_index`` names nodes that the data do not have.
    """

    def __init__(self, unreachable: int = 510) -> None:
        check_unreachable(unreachable)
        self.unreachable = unreachable

    def forward(self, data: Any) -> Any:
        if not isinstance(data, Data):
            raise TypeError(
                f"Expected a torch_geometric.data.Data (got '{type(data).__name__}'). Convert heterogeneous data with "
                f".to_homogeneous()."
            )
        edge_index = data.edge_index
        if edge_index is None:
            raise ValueError(
                "Expected data with an 'edge_index' (got none). Apply this transform before ToSparseTensor, or set it."
            )
        if isinstance(data, Batch):
            if not hasattr(data, "_slice_dict"):
                raise ValueError("Expected a Batch made by Batch.from_data_list (got one that knows no graphs).")
            data.distance = shortest_path(edge_index, data.ptr, unreachable=self.unreachable)
            _remember_slices(data, data.ptr)
        else:
            ptr = torch.tensor([0, data.num_nodes], device=edge_index.device)
            data.distance = shortest_path(edge_index, ptr, unreachable=self.unreachable)
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(unreachable={self.unreachable})"


def _remember_slices(batch: Any, ptr: Tensor) -> None:
    """Lets ``Batch.to_data_list`` take the blocks apart, as it does what was there when the batch was made."""
    ends = ptr.cpu().long().diff().square().cumsum(0)
    batch._slice_dict = {**batch._slice_dict, "distance": torch.cat([ends.new_zeros(1), ends])}
    batch._inc_dict = {**batch._inc_dict, "distance": torch.zeros_like(ends)}

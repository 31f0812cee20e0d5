"""GatedGCN's message passing with normalised gates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn.conv import MessagePassing


class GatedGCNConv(MessagePassing):  # type: ignore[misc]  # torch_geometric has no types
    r"""The GatedGCN layer of Dwivedi et al., *Benchmarking graph neural networks*, JMLR 2023, arXiv 2003.00982.

    .. math::
        \eta_{ij} = \sigma(D x_i + E x_j + C e_{ij}), \quad
        x'_i = x_i + \mathrm{drop}\left(\mathrm{ReLU}\left(\mathrm{BN}\left(A x_i +
        \frac{\sum_j \eta_{ij} \odot B x_j}{\sum_j \eta_{ij} + 10^{-6}}\right)\right)\right)

    It is what GraphGPS and Gradformer call GatedGCN. PyG's :class:`~torch_geometric.nn.ResGatedGraphConv` leaves out
    the division by the sum of the gates, the normalisation and the residual connection. Edge features are not updated.

    Args:
        channels: Width of nodes, in and out.
        edge_dim: Width of edge features; ``None``: there are none.
        dropout: Before the residual connection.
    """

    def __init__(self, channels: int, edge_dim: int | None = None, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(aggr="add", **kwargs)
        self.channels, self.edge_dim, self.dropout = channels, edge_dim, dropout
        self.lin_root, self.lin_value, self.lin_target, self.lin_source = (
            nn.Linear(channels, channels) for _ in range(4)
        )
        self.lin_edge = None if edge_dim is None else nn.Linear(edge_dim, channels)
        self.norm = nn.BatchNorm1d(channels)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for part in (self.lin_root, self.lin_value, self.lin_target, self.lin_source, self.lin_edge, self.norm):
            if part is not None:
                part.reset_parameters()

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        """Applies the layer.

        Args:
            x: ``[N, channels]``.
            edge_index: ``[2, E]``, row 0 sources.
            edge_attr: ``[E, edge_dim]``.

        Returns:
            ``[N, channels]``.

        Raises:
            ValueError: Edge features are missing, or there are some and ``edge_dim`` is ``None``.
        """
        if (edge_attr is None) != (self.lin_edge is None):
            got, wanted = "none" if edge_attr is None else list(edge_attr.shape), self.edge_dim or "none"
            raise ValueError(f"Expected edge features of width {wanted}, as edge_dim says (got {got}).")
        edge = None if self.lin_edge is None else self.lin_edge(edge_attr)
        both: Tensor = self.propagate(
            edge_index, target=self.lin_target(x), source=self.lin_source(x), value=self.lin_value(x), edge=edge
        )
        weighted, gates = both.chunk(2, dim=1)
        update = self.norm(self.lin_root(x) + weighted / (gates + 1e-6)).relu()
        return x + F.dropout(update, self.dropout, self.training)

    def message(self, target_i: Tensor, source_j: Tensor, value_j: Tensor, edge: Tensor | None) -> Tensor:
        gate = target_i + source_j if edge is None else target_i + source_j + edge
        gate = gate.sigmoid()
        return torch.cat([gate * value_j, gate], dim=1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels}, edge_dim={self.edge_dim})"

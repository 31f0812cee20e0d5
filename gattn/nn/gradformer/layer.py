"""The block that Gradformer and GraphGPS stack: message passing beside attention, then an MLP."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn.inits import reset

from gattn.nn.gradformer.attention import GradformerAttention


class GradformerLayer(nn.Module):
    """Message passing and attention side by side (Gradformer, equations 8 to 11).

    ``h1 = BN(drop(conv(x)) + x)``, ``h2 = BN(drop(attention(x)) + x)``, ``out = h1 + h2``, ``BN(out + MLP(out))``
    with an MLP from ``channels`` to twice as many and back.

    Liu et al., *Gradformer: graph transformer with exponential decay*, IJCAI 2024, arXiv 2404.15729. With
    ``attention="plain"`` it is the layer of GraphGPS (Rampášek et al., NeurIPS 2022, arXiv 2205.12454).

    Args:
        channels: Width of nodes, in and out.
        conv: Message passing layer of the same width, called as ``conv(x, edge_index)`` or, where there are edge
            features, ``conv(x, edge_index, edge_attr=edge_attr)``. ``None``: attention alone.
        heads: Attention heads.
        dropout: After message passing, attention, and both maps of the MLP.
        attention_dropout: Of attention weights.
        **attention: Further arguments of :class:`GradformerAttention`.
    """

    def __init__(
        self,
        channels: int,
        conv: nn.Module | None = None,
        heads: int = 4,
        *,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        **attention: Any,
    ) -> None:
        super().__init__()
        self.channels, self.dropout = channels, dropout
        self.conv = conv
        self.attention = GradformerAttention(channels, heads, dropout=attention_dropout, **attention)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels, channels),
            nn.Dropout(dropout),
        )
        self.norm_conv = nn.BatchNorm1d(channels) if conv is not None else None
        self.norm_attention = nn.BatchNorm1d(channels)
        self.norm_out = nn.BatchNorm1d(channels)

    def reset_parameters(self) -> None:
        """As for a new layer."""
        for part in self.children():
            reset(part)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        ptr: Tensor | None = None,
        distance: Tensor | None = None,
        *,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        """Applies the block.

        Args:
            x: ``[N, channels]``.
            edge_index: ``[2, E]``, for ``conv``.
            ptr: As for :class:`GradformerAttention`.
            distance: As for :class:`GradformerAttention`.
            edge_attr: ``[E, ...]``, for ``conv``.
            batch: As for :class:`GradformerAttention`.

        Returns:
            ``[N, channels]``.
        """
        out: Tensor = self.norm_attention(self._drop(self.attention(x, ptr, distance, batch=batch)) + x)
        if self.conv is not None and self.norm_conv is not None:
            edges = {} if edge_attr is None else {"edge_attr": edge_attr}
            out = out + self.norm_conv(self._drop(self.conv(x, edge_index, **edges)) + x)
        out = self.norm_out(out + self.mlp(out))
        return out

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

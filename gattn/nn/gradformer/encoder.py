"""From what the data hold of nodes and edges to the width of the blocks."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

#: Features through a linear map, or one category each through a table.
Kind = Literal["linear", "embedding"]
KINDS: tuple[Kind, ...] = ("linear", "embedding")


class FeatureEncoder(nn.Module):
    """``[rows, width]`` from features ``[rows, channels]`` or from categories ``[rows]`` or ``[rows, 1]``.

    Args:
        kind: ``"linear"`` or ``"embedding"``.
        channels: Features, or number of categories.
        width: Of the result.
        what: The attribute, for messages.
    """

    def __init__(self, kind: Kind, channels: int, width: int, what: str) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"Expected an encoder of data.{what} out of {KINDS} (got {kind!r}).")
        self.what, self.channels = what, channels
        self.map = nn.Linear(channels, width) if kind == "linear" else nn.Embedding(channels, width)

    def reset_parameters(self) -> None:
        self.map.reset_parameters()

    def forward(self, features: Tensor | None) -> Tensor:
        """Encodes ``data.x`` or ``data.edge_attr``."""
        if features is None:
            raise ValueError(f"Expected data.{self.what} (got None). {self._advice()}")
        if isinstance(self.map, nn.Embedding):
            if features.dim() == 2 and features.size(1) == 1:
                features = features.squeeze(1)
            if features.dim() != 1 or features.is_floating_point():
                raise ValueError(
                    f"Expected one category each in data.{self.what}, an integer out of 0 to {self.channels - 1} (got "
                    f"{list(features.shape)}, {features.dtype}). Choose the encoder 'linear' for features."
                )
        elif features.dim() != 2 or features.size(1) != self.channels:
            raise ValueError(
                f"Expected data.{self.what} of shape [rows, {self.channels}] (got {list(features.shape)}). Choose the "
                f"encoder 'embedding' for categories."
            )
        out: Tensor = self.map(features)
        return out

    def _advice(self) -> str:
        if self.what == "x":
            return "Add torch_geometric.transforms.OneHotDegree or Constant to the transforms of the data set."
        return "Leave edge_channels out for graphs without edge features."


class NodeEncoder(nn.Module):
    """Features of nodes with their positional or structural encodings; arguments as of :class:`gattn.nn.Gradformer`."""

    def __init__(
        self,
        kind: Kind,
        in_channels: int,
        channels: int,
        encoding: str,
        encoding_channels: int,
        encoding_width: int | None,
        encoding_norm: bool,
    ) -> None:
        super().__init__()
        own = encoding_width or 0
        if not 0 <= own < channels or (own and not encoding_channels):
            raise ValueError(
                f"Expected encoding_width below the {channels} channels, and encoding_channels above 0 with it (got "
                f"encoding_width {encoding_width}, encoding_channels {encoding_channels})."
            )
        self.encoding, self.encoding_channels, self.concatenates = encoding, encoding_channels, own > 0
        self.features = FeatureEncoder(kind, in_channels, channels - own, "x")
        self.norm = nn.BatchNorm1d(encoding_channels) if encoding_channels and encoding_norm else None
        self.encodings = nn.Linear(encoding_channels, own or channels) if encoding_channels else None

    def reset_parameters(self) -> None:
        for part in (self.features, self.norm, self.encodings):
            if part is not None:
                part.reset_parameters()

    def forward(self, data: Data) -> Tensor:
        """``[N, channels]``."""
        x: Tensor = self.features(data.x)
        if self.encodings is None:
            return x
        found = getattr(data, self.encoding, None)
        if found is None or found.dim() != 2 or found.size(1) != self.encoding_channels:
            got = "none" if found is None else list(found.shape)
            raise ValueError(
                f"Expected encodings of shape [nodes, {self.encoding_channels}] in data.{self.encoding} (got {got}). "
                f"Add torch_geometric.transforms.AddRandomWalkPE({self.encoding_channels}), or what else makes them, "
                f"to the transforms of the data set."
            )
        encodings = self.encodings(found if self.norm is None else self.norm(found))
        return torch.cat([x, encodings], dim=1) if self.concatenates else x + encodings

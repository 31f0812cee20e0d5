"""What follows the attention, for nodes and for edges."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

#: Of the channels over all rows, or of a row.
Norm = Literal["batch", "layer"]
NORMS: tuple[Norm, ...] = ("batch", "layer")


class Block(nn.Module):
    """``h = norm(x + out(drop(attended)))``, then ``norm(h + feed_forward(h))``.

    Args:
        channels: Width of what the attention gives.
        width: Of ``x`` and of the result.
        dropout: Before ``out``, and within the feed-forward network (``width`` to twice as many and back, ReLU).
        norm: ``"batch"``, ``"layer"`` or ``None``.
        residual: Whether ``x`` and ``h`` are added.
    """

    def __init__(self, channels: int, width: int, *, dropout: float, norm: Norm | None, residual: bool) -> None:
        super().__init__()
        if norm is not None and norm not in NORMS:
            raise ValueError(f"Expected norm out of {(None, *NORMS)} (got {norm!r}).")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"Expected dropout in [0, 1] (got {dropout}).")
        self.dropout, self.residual = dropout, residual
        self.out = nn.Linear(channels, width)
        self.norm_attention, self.norm_out = _norm(norm, width), _norm(norm, width)
        first, second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.feed_forward = nn.Sequential(first, nn.ReLU(), nn.Dropout(dropout), second)

    def reset_parameters(self) -> None:
        for part in (self.out, *self.feed_forward, self.norm_attention, self.norm_out):
            if isinstance(part, (nn.Linear, nn.BatchNorm1d, nn.LayerNorm)):
                part.reset_parameters()

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """``[rows, width]`` from ``x`` ``[rows, width]`` and ``attended`` ``[rows, channels]``."""
        h = self.out(F.dropout(attended, self.dropout, self.training))
        h = _apply(self.norm_attention, x + h if self.residual else h)
        out = self.feed_forward(h)
        return _apply(self.norm_out, h + out if self.residual else out)


def _norm(norm: Norm | None, width: int) -> nn.BatchNorm1d | nn.LayerNorm | None:
    if norm is None:
        return None
    return nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width)


def _apply(norm: nn.Module | None, x: Tensor) -> Tensor:
    if norm is None or x.size(0) == 0:  # BatchNorm refuses to train on no rows: graphs without edges
        return x
    out: Tensor = norm(x)
    return out

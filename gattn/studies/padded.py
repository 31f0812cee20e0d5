"""Gradformer in plain PyTorch as others write it: graphs padded to the largest, attention a dense tensor of pairs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.utils import to_dense_batch

from gattn.nn import Gradformer, GradformerAttention

#: Distance of pairs without a path, and of padding, as in Gradformer's program.
_FAR = 510


class Pairs(NamedTuple):
    """``batch`` ``[N]``, ``graphs`` and the nodes ``n`` of the largest; ``distance`` ``[B, 1, n, n]``.

    ``decay`` ``[B, H, n, n]`` of all blocks, ``None`` where each has its own.
    """

    batch: Tensor
    graphs: int
    largest: int
    distance: Tensor | None = None
    decay: Tensor | None = None


class PaddedAttention(GradformerAttention):
    """:class:`gattn.nn.GradformerAttention` on padded graphs; takes :class:`Pairs` for ``distance``."""

    def forward(
        self, x: Tensor, ptr: Tensor | None = None, distance: Any = None, *, batch: Tensor | None = None
    ) -> Tensor:
        padded, there = to_dense_batch(x, distance.batch, 0.0, distance.largest, distance.graphs)
        shape = (distance.graphs, distance.largest, self.heads, self.channels // self.heads)
        q, k, v = (linear(padded).view(shape).transpose(1, 2) for linear in (self.query, self.key, self.value))
        mask, dropped = there[:, None, None], self.dropout if self.training else 0.0
        if distance.distance is None:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropped)
        else:
            decay = self.decay(distance.distance) if distance.decay is None else distance.decay
            score = q @ k.transpose(2, 3) * q.size(3) ** -0.5 * decay
            alpha = score.masked_fill(~mask, float("-inf")).softmax(3)
            mixed = F.dropout(alpha, dropped) @ v
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out[there]

    def decay(self, distance: Tensor) -> Tensor:
        """``[B, H, n, n]``."""
        assert self.hop is not None
        return torch.pow(self.gamma, F.leaky_relu(distance - self.hop[:, None, None], self.slope))


class PaddedGradformer(Gradformer):
    """The same network, parameters and results as :class:`gattn.nn.Gradformer`, up to rounding and dropout's mask."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if type(module) is GradformerAttention:
                module.__class__ = PaddedAttention

    def distances(self, data: Data, ptr: Tensor) -> Any:
        """The padding, and the decay once for all blocks if they share their hops."""
        sizes = ptr.diff()
        graphs, largest = sizes.numel(), int(sizes.max())
        batch = torch.arange(graphs, device=ptr.device).repeat_interleave(sizes)
        if self.attention == "plain":
            return Pairs(batch, graphs, largest)
        there = torch.arange(largest, device=ptr.device) < sizes[:, None]
        pairs = there[:, :, None] & there[:, None]
        dtype = next(self.parameters()).dtype
        far = torch.full(pairs.shape, _FAR, device=ptr.device, dtype=dtype)
        distance = far.masked_scatter(pairs, data.distance.to(dtype)).unsqueeze(1)
        first: Any = self.layers[0]
        return Pairs(batch, graphs, largest, distance, first.attention.decay(distance) if self.share_hops else None)

"""Gradformer in plain PyTorch as others write it: graphs padded to the largest, attention a dense tensor of pairs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data

from gattn.nn import Gradformer, GradformerAttention

#: Distance of pairs with padding, as in Gradformer's program.
_FAR = 510


class Pairs(NamedTuple):
    """Where the nodes of ``B`` graphs are when each is padded to ``n``, and how far apart.

    Attributes:
        place: ``[N]``, of every node in ``B * n``.
        there: ``[B, n]`` bool, whether it is a node.
        distance: ``[B, 1, n, n]``, floating; ``None`` without decay.
        decay: ``[B, H, n, n]`` of all blocks, ``None`` where each has its own.
    """

    place: Tensor
    there: Tensor
    distance: Tensor | None = None
    decay: Tensor | None = None


def pad(ptr: Tensor, distance: Tensor | None, dtype: torch.dtype) -> Pairs:
    """The padding of graphs with offsets ``ptr`` and, where given, packed distances."""
    sizes = ptr.diff()
    largest = int(sizes.max())
    there = torch.arange(largest, device=ptr.device) < sizes[:, None]
    place = there.flatten().nonzero().flatten()
    if distance is None:
        return Pairs(place, there)
    pairs = there[:, :, None] & there[:, None]
    far = torch.full(pairs.shape, _FAR, device=ptr.device, dtype=dtype)
    return Pairs(place, there, far.masked_scatter(pairs, distance.to(dtype)).unsqueeze(1))


class PaddedAttention(GradformerAttention):
    """:class:`gattn.nn.GradformerAttention` on padded graphs; takes :class:`Pairs` for ``distance``."""

    def forward(
        self, x: Tensor, ptr: Tensor | None = None, distance: Any = None, *, batch: Tensor | None = None
    ) -> Tensor:
        pairs: Pairs = distance
        graphs, largest = pairs.there.shape
        padded = x.new_zeros(graphs * largest, self.channels).index_copy(0, pairs.place, x)
        shape = (graphs, largest, self.heads, self.channels // self.heads)
        q, k, v = (linear(padded).view(shape).transpose(1, 2) for linear in (self.query, self.key, self.value))
        mask, dropped = pairs.there[:, None, None], self.dropout if self.training else 0.0
        if pairs.distance is None:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropped)
        else:
            decay = self.decay(pairs.distance) if pairs.decay is None else pairs.decay
            score = q @ k.transpose(2, 3) * q.size(3) ** -0.5 * decay
            alpha = score.masked_fill(~mask, float("-inf")).softmax(3)
            mixed = F.dropout(alpha, dropped) @ v
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out.flatten(0, 1)[pairs.place]

    def decay(self, distance: Tensor) -> Tensor:
        """``[B, H, n, n]``."""
        assert self.hop is not None
        return torch.pow(self.gamma, F.leaky_relu(distance - self.hop[:, None, None], self.slope))


def use_padding(module: torch.nn.Module) -> None:
    """Makes every attention in ``module`` a padded one, in place, with the parameters that it has."""
    for each in module.modules():
        if type(each) is GradformerAttention:
            each.__class__ = PaddedAttention


class PaddedGradformer(Gradformer):
    """The same network, parameters and results as :class:`gattn.nn.Gradformer`, up to rounding and dropout's mask."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        use_padding(self)

    def distances(self, data: Data, ptr: Tensor) -> Any:
        """The padding, and the decay once for all blocks if they share their hops."""
        decays = self.attention == "decay"
        pairs = pad(ptr, data.distance if decays else None, next(self.parameters()).dtype)
        if pairs.distance is None or not self.share_hops:
            return pairs
        first: Any = self.layers[0]
        return pairs._replace(decay=first.attention.decay(pairs.distance))

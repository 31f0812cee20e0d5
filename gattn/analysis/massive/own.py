"""Layers that have an op compute more than they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from gattn.nn import GTAttention
from gattn.observers import Attended
from gattn.reference.dropout import accumulate_dtype


class Own(NamedTuple):
    """What is a layer's own in what it has the op compute, where the op gets more channels or other sources.

    Attributes:
        channels: Of a head of the layer.
        kinds: What kinds of edges there are; as many sources of the graph, one after the other, stand for one node.
        narrow: ``[e, H, C]`` from what the op computes for some edges, and the edges' sources and targets.
    """

    channels: int
    kinds: tuple[str, ...]
    narrow: Callable[[Tensor, Tensor, Tensor], Tensor]


def wide(x: Tensor) -> Tensor:
    """In the accumulate dtype."""
    found: Tensor = x.to(accumulate_dtype(x.dtype))
    return found


def _gt_attention(layer: GTAttention, attended: Attended) -> Own | None:
    """Of :class:`gattn.nn.graph_transformer.GTAttention`, which widens what the op reads for a second kind of edges and
    for the explicit bias term ``(q_i . k' / sqrt(C)) e'``."""
    q, key, kinds, channels = attended.inputs.q, layer.bias_key, layer.kinds, layer.head_channels
    assert q is not None
    heads, width = q.size(1), q.size(2) // kinds
    if q.size(2) == channels:
        return None
    shift, to_edge = None, None
    if layer.bias_edge is not None and key is not None:
        own = wide(q).unflatten(-1, (kinds, width))[..., :channels] * (channels / q.size(2)) ** 0.5
        to_edge = wide(layer.bias_edge).view(heads, kinds, channels).transpose(0, 1)
        shift = (own * wide(key).view(heads, kinds, channels)).sum(-1) * channels**-0.5

    def narrow(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        kind = source % kinds
        w: Tensor = x.unflatten(-1, (kinds, width))[..., :channels].sum(-2)  # of the other kinds there are zeros
        if shift is not None and to_edge is not None:
            w = w + shift[target, :, kind].unsqueeze(-1) * to_edge[kind]
        return w

    return Own(channels, ("edges", "added pairs")[:kinds], narrow)


#: By class of the layer that calls the op; ``None`` where the op computes what the layer means.
OWN: dict[type, Callable[[Any, Attended], Own | None]] = {GTAttention: _gt_attention}

"""The activations of an attention that are examined, a few edges at a time; its logits and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor

from gattn.analysis.massive.own import Own, wide
from gattn.observers import Attended
from gattn.reference.attention import Inputs, Settings, logits_of, softmax

#: Numbers of a chunk, all heads and channels of its edges together: what exists at a time of an ``[E, H * C]`` tensor.
CHUNK = 2**20

#: Activations ``[e, H, C]``, or ``[e, H]``, of ``e`` edges from the inputs with the tensors of these edges alone, and
#: the edges' sources and targets.
Examined = Callable[[Inputs, Settings, Tensor, Tensor], Tensor]


def _gt(t: Inputs, settings: Settings, source: Tensor, target: Tensor) -> Tensor:
    return _rows(t.q, target) * _rows(t.k, source) * settings.scale * _wide(t.edge)


def _dot(t: Inputs, settings: Settings, source: Tensor, target: Tensor) -> Tensor:
    key = _rows(t.k, source)
    if t.edge is not None:
        key = key + _wide(t.edge)
    return _rows(t.q, target) * key * settings.scale


def _gatv2(t: Inputs, settings: Settings, source: Tensor, target: Tensor) -> Tensor:
    z = _rows(t.k, source) + _rows(t.q, target)
    if t.edge is not None:
        z = z + _wide(t.edge)
    return _wide(t.att) * F.leaky_relu(z, settings.negative_slope)


def _gat(t: Inputs, settings: Settings, source: Tensor, target: Tensor) -> Tensor:
    score = _wide(t.a_edge) if t.a_src is None else _rows(t.a_src, source)
    if t.a_dst is not None:
        score = score + _rows(t.a_dst, target)
    return score if t.a_src is None or t.a_edge is None else score + _wide(t.a_edge)


#: By score. A score of one's own (:class:`gattn.reference.attention.Settings`) is examined as soon as it stands here.
EXAMINED: dict[str, Examined] = {"gt": _gt, "dot": _dot, "gatv2": _gatv2, "gat": _gat, "edge_softmax": _gat}


def _wide(x: Tensor | None) -> Tensor:
    assert x is not None
    return wide(x)


def _rows(x: Tensor | None, index: Tensor) -> Tensor:
    assert x is not None
    return _wide(x.index_select(0, index))


def shape(attended: Attended, own: Own | None) -> tuple[int, int]:
    """Heads, and activations of an edge in each: one where the score is made of a number a head."""
    inputs = attended.inputs
    if inputs.q is not None:
        return inputs.q.shape[1], inputs.q.shape[2] if own is None else own.channels
    first = next(x for x in inputs if x is not None)
    return first.shape[1], 1


def chunks(attended: Attended, own: Own | None, numbers: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Which edges, their activations ``[e, H, C]`` and their raw scores ``[e, H]``, in the accumulate dtype; ``C`` is 1
    for a number a head.

    Raises:
        NotImplementedError: A score that :data:`EXAMINED` does not know.
    """
    inputs, settings, graph, _ = attended
    if settings.score not in EXAMINED:
        raise NotImplementedError(
            f"Expected a score whose activations are defined, one of {', '.join(EXAMINED)} (got {settings.score!r}). "
            f"Add it to gattn.analysis.massive.EXAMINED."
        )
    heads, channels = shape(attended, None)
    source, target = graph.edge_index
    step = max(1, numbers // (heads * channels))
    for start in range(0, max(1, graph.num_edges), step):  # a graph without edges has one chunk too
        edges = slice(start, min(start + step, graph.num_edges))
        cut = inputs._replace(**{name: _cut(getattr(inputs, name), edges) for name in ("edge", "a_edge")})
        x = EXAMINED[settings.score](cut, settings, source[edges], target[edges]).view(-1, heads, channels)
        yield edges, x if own is None else own.narrow(x, source[edges], target[edges]), x.sum(-1)


def _cut(x: Tensor | None, edges: slice) -> Tensor | None:
    return None if x is None else x[edges]


def logits(attended: Attended, scores: Tensor) -> Tensor:
    """``s`` ``[E, H]``, what the softmax gets, from the raw ``scores``: after divisor, LeakyReLU or clip, and decay."""
    inputs, settings, graph, by_edge = attended
    return logits_of(scores, inputs, graph.edge_index[1], settings, by_edge)


def weights(attended: Attended, s: Tensor) -> Tensor:
    """``alpha`` ``[E, H]`` of these logits, before dropout."""
    inputs, settings, graph, _ = attended
    return softmax(s, inputs, graph.edge_index[1], graph.num_dst, settings.epsilon)[0]

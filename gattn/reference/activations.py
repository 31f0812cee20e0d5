"""The activations of an attention that are examined for massive ones, in plain PyTorch: what its scores are sums of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor

from gattn.graph import Graph
from gattn.reference.attention import Inputs, Settings
from gattn.reference.dropout import accumulate_dtype

#: Numbers of a slice of edges, all heads and channels together: what exists at a time of an ``[E, H * C]`` tensor.
CHUNK = 2**20

#: Activations ``[e, H, C]``, or ``[e, H]``, of ``e`` edges from the inputs with the tensors of these edges alone, and
#: the edges' sources and targets.
Examined = Callable[[Inputs, Settings, Tensor, Tensor], Tensor]


def _gt(t: Inputs, settings: Settings, source: Tensor, target: Tensor) -> Tensor:
    return _rows(t.q, target) * _rows(t.k, source) * settings.scale * _accumulated(t.edge)


def _dot(t: Inputs, settings: Settings, source: Tensor, target: Tensor) -> Tensor:
    key = _rows(t.k, source)
    if t.edge is not None:
        key = key + _accumulated(t.edge)
    return _rows(t.q, target) * key * settings.scale


def _gatv2(t: Inputs, settings: Settings, source: Tensor, target: Tensor) -> Tensor:
    z = _rows(t.k, source) + _rows(t.q, target)
    if t.edge is not None:
        z = z + _accumulated(t.edge)
    return _accumulated(t.att) * F.leaky_relu(z, settings.negative_slope)


def _gat(t: Inputs, settings: Settings, source: Tensor, target: Tensor) -> Tensor:
    score = _accumulated(t.a_edge) if t.a_src is None else _rows(t.a_src, source)
    if t.a_dst is not None:
        score = score + _rows(t.a_dst, target)
    return score if t.a_src is None or t.a_edge is None else score + _accumulated(t.a_edge)


#: By score. A score of one's own (:class:`gattn.reference.attention.Settings`) is examined as soon as it stands here.
EXAMINED: dict[str, Examined] = {"gt": _gt, "dot": _dot, "gatv2": _gatv2, "gat": _gat, "edge_softmax": _gat}


def _accumulated(x: Tensor | None) -> Tensor:
    assert x is not None
    found: Tensor = x.to(accumulate_dtype(x.dtype))
    return found


def _rows(x: Tensor | None, index: Tensor) -> Tensor:
    assert x is not None
    return _accumulated(x.index_select(0, index))


def edge_slices(num_edges: int, width: int, numbers: int) -> Iterator[slice]:
    """All edges in order, so many at a time that ``width`` numbers of each are ``numbers`` at the most, or one edge; a
    graph without edges has one slice too."""
    step = max(1, numbers // max(1, width))
    for start in range(0, max(1, num_edges), step):
        yield slice(start, min(start + step, num_edges))


def examined(inputs: Inputs, settings: Settings, graph: Graph, edges: Tensor | slice) -> Tensor:
    """The activations ``[e, H, C]`` of ``edges``, or ``[e, H]``, in the accumulate dtype.

    Raises:
        NotImplementedError: A score that :data:`EXAMINED` does not know.
    """
    if settings.score not in EXAMINED:
        raise NotImplementedError(
            f"Expected a score whose activations are defined, one of {', '.join(EXAMINED)} (got {settings.score!r}). "
            f"Add it to gattn.analysis.massive.EXAMINED."
        )
    source, target = graph.edge_index
    given = {name: getattr(inputs, name) for name in ("edge", "a_edge")}
    cut = inputs._replace(**{name: None if x is None else x[edges] for name, x in given.items()})
    return EXAMINED[settings.score](cut, settings, source[edges], target[edges])

"""The attention that all scores share, in plain PyTorch: the definition of the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gattn.graph import Graph
from gattn.modifiers import Decay, Lipschitz, Sink
from gattn.reference.dropout import accumulate_dtype, apply_dropout

if TYPE_CHECKING:
    from gattn.activations import ActivationStats


class Inputs(NamedTuple):
    """The tensors of an attention, whatever its score; ``None`` where it has none.

    Features are in the storage dtype, everything else in the accumulate dtype.
    """

    q: Tensor | None = None  # [N_dst, H, C]
    k: Tensor | None = None  # [N_src, H, C]; score gatv2: the values too
    v: Tensor | None = None  # [N_src, H, C]
    edge: Tensor | None = None  # [E, H, C]
    att: Tensor | None = None  # [H, C]
    a_src: Tensor | None = None  # [N_src, H]
    a_dst: Tensor | None = None  # [N_dst, H]
    a_edge: Tensor | None = None  # [E, H]
    edge_weight: Tensor | None = None  # [E, H], multiplies exp(score)
    divisor: Tensor | None = None  # [N_dst, H], c
    hop: Tensor | None = None  # [H]
    sink_logit: Tensor | None = None  # [N_dst, H]
    sink_value: Tensor | None = None  # [H, C]
    distance: Tensor | None = None  # [E], integer


class Settings(NamedTuple):
    """The numbers of an attention."""

    score: str
    negative_slope: float = 0.0  # of LeakyReLU: in score gat around the whole score, in gatv2 inside
    scale: float = 1.0  # of the products of features
    clip: float = math.inf  # score gt
    epsilon: float = 0.0  # added to the softmax's denominator, before the row maximum is taken out
    gamma: float = 1.0
    decay_slope: float = 0.0
    dropout_p: float = 0.0
    undropped: bool = False  # the attention returned is the one before dropout


class Results(NamedTuple):
    """What an attention gives; ``out`` is missing where there are no values, ``edge`` unless asked for."""

    out: Tensor | None  # [N_dst, H, C]
    alpha: Tensor  # [E, H]
    edge: Tensor | None  # [E, H, C], score gt: the vectors whose sums are the scores
    stats: ActivationStats | None = None  # of the vectors whose sums are the scores


def _products(t: Inputs, source: Tensor, target: Tensor, settings: Settings) -> Tensor:
    """Score ``gt``: ``w_ij = (k_j * q_i) / sqrt(C) * e_ij``, ``[E, H, C]``."""
    assert t.q is not None
    assert t.k is not None
    assert t.edge is not None
    return t.q[target] * t.k[source] * settings.scale * t.edge


def _gat(t: Inputs, source: Tensor, target: Tensor, settings: Settings) -> Tensor:
    by_edge = (_at(t.a_src, source), _at(t.a_dst, target), t.a_edge)
    return reduce(torch.add, [part for part in by_edge if part is not None])


def _gatv2(t: Inputs, source: Tensor, target: Tensor, settings: Settings) -> Tensor:
    assert t.q is not None
    assert t.k is not None
    assert t.att is not None
    z = t.k[source] + t.q[target]
    if t.edge is not None:
        z = z + t.edge
    return (t.att * F.leaky_relu(z, settings.negative_slope)).sum(-1)


def _dot(t: Inputs, source: Tensor, target: Tensor, settings: Settings) -> Tensor:
    assert t.q is not None
    assert t.k is not None
    key = t.k[source] if t.edge is None else t.k[source] + t.edge
    return (t.q[target] * key).sum(-1) * settings.scale


def _gt(t: Inputs, source: Tensor, target: Tensor, settings: Settings) -> Tensor:
    return _products(t, source, target, settings).sum(-1)


#: Raw scores ``t_ij`` ``[E, H]`` by name.
SCORES: dict[str, Callable[[Inputs, Tensor, Tensor, Settings], Tensor]] = {
    "edge_softmax": _gat,
    "gat": _gat,
    "gatv2": _gatv2,
    "dot": _dot,
    "gt": _gt,
}


def _at(values: Tensor | None, index: Tensor) -> Tensor | None:
    return None if values is None else values[index]


def decay_mask(distance: Tensor, hop: Tensor, gamma: float, slope: float) -> Tensor:
    """``M`` ``[E, H]`` of :class:`gattn.Decay`."""
    excess = F.leaky_relu(distance.to(hop.dtype).unsqueeze(1) - hop, slope)
    return torch.exp(math.log(gamma) * excess)


def neighbourhood_maximum(values: Tensor, graph: Graph) -> Tensor:
    """``[N_dst, H]``: the largest of ``values`` ``[N_src, H]`` over each target's in-edges, 0 without any.

    The gradient goes to the first edge, in the caller's order, that has it.
    """
    source, target = graph.edge_index
    index = target.unsqueeze(1).expand(-1, values.size(1))
    theirs = values[source]
    start = values.new_full((graph.num_dst, values.size(1)), -math.inf)
    largest = start.scatter_reduce(0, index, theirs.detach(), "amax")
    number = torch.arange(source.numel(), device=source.device).unsqueeze(1).expand_as(index)
    candidates = torch.where(theirs.detach() == largest[target], number, source.numel())
    none = torch.full_like(largest, source.numel(), dtype=torch.int64)
    first = none.scatter_reduce(0, index, candidates, "amin")
    return torch.cat([theirs, values.new_zeros(1, values.size(1))]).gather(0, first)


def with_modifiers(
    inputs: Inputs,
    graph: Graph,
    lipschitz: Lipschitz | None,
    decay: Decay | None,
    sink: Sink | None,
    maximum: Callable[[Tensor, Graph], Tensor] = neighbourhood_maximum,
) -> Inputs:
    """``inputs`` with the modifiers' tensors; ``maximum`` computes the norms' maxima."""
    if lipschitz is not None and lipschitz.variant == "paper":
        largest = [maximum(norm, graph) for norm in lipschitz.source_norms]
        inputs = inputs._replace(divisor=lipschitz.divisor(largest))
    if decay is not None:
        inputs = inputs._replace(hop=decay.hop, distance=decay.distance)
    return inputs if sink is None else inputs._replace(sink_logit=sink.logit, sink_value=sink.value)


def edge_divisor(lipschitz: Lipschitz | None, graph: Graph) -> Tensor | None:
    """The divisor ``[E, H]`` of ``Lipschitz(variant="as-released")``, which differs from edge to edge."""
    if lipschitz is None or lipschitz.variant == "paper":
        return None
    largest = [neighbourhood_maximum(norm, graph) for norm in lipschitz.source_norms]
    return lipschitz.edge_divisor(largest, *graph.edge_index)


def with_decay(settings: Settings, decay: Decay | None) -> Settings:
    """``settings`` with the decay's numbers."""
    return settings if decay is None else settings._replace(gamma=decay.gamma, decay_slope=decay.slope)


def attention(
    inputs: Inputs,
    settings: Settings,
    graph: Graph,
    seed: int | Tensor | None = None,
    by_edge: Tensor | None = None,
) -> Results:
    """``s = M phi(t / c)``, softmax with sink and epsilon, dropout, sum of values.

    Everything between the inputs and the rounding of the results happens in the accumulate dtype. ``by_edge`` is
    :func:`edge_divisor`'s.
    """
    given = [x for x in inputs[:-1] if x is not None]
    wide = accumulate_dtype(given[0].dtype)
    t = Inputs(*(None if x is None else x.to(wide) for x in inputs[:-1]))._replace(distance=inputs.distance)
    source, target = graph.edge_index
    score = SCORES[settings.score](t, source, target, settings)
    score = logits_of(score, t, target, settings, by_edge)
    alpha, sink = softmax(score, t, target, graph.num_dst, settings.epsilon)
    kept = apply_dropout(alpha, graph, settings.dropout_p, seed)
    out = _sum_values(t, kept, sink, source, target, graph.num_dst, settings)
    return Results(
        None if out is None else out.to(given[0].dtype),
        alpha if settings.undropped else kept,
        _products(t, source, target, settings).to(given[0].dtype) if settings.score == "gt" else None,
    )


def logits_of(score: Tensor, t: Inputs, target: Tensor, settings: Settings, by_edge: Tensor | None) -> Tensor:
    """What the softmax gets, ``[E, H]``: ``M phi(score / c)``."""
    if t.divisor is not None:
        score = score / t.divisor[target]
    if by_edge is not None:
        score = score / by_edge.to(score.dtype)
    if settings.score == "gat":
        score = F.leaky_relu(score, settings.negative_slope)
    elif settings.score == "gt":
        score = score.clamp(-settings.clip, settings.clip)
    if t.distance is not None and t.hop is not None:
        score = score * decay_mask(t.distance, t.hop, settings.gamma, settings.decay_slope)
    return score


def softmax(s: Tensor, t: Inputs, target: Tensor, num_dst: int, epsilon: float) -> tuple[Tensor, Tensor | None]:
    """Weights of the edges ``[E, H]`` and of the sink ``[N_dst, H]``."""
    index = target.unsqueeze(1).expand_as(s)
    counted = s.detach()
    if t.edge_weight is not None:  # an edge of weight 0 has no say in how far exponentials may reach
        ignored = t.edge_weight == 0
        counted = counted.masked_fill(ignored, -math.inf)
    maximum = s.new_full((num_dst, s.size(1)), -math.inf).scatter_reduce(0, index, counted, "amax")
    if t.sink_logit is not None:
        maximum = torch.maximum(maximum, t.sink_logit.detach())
    if t.edge_weight is None:
        weight = (s - maximum[target]).exp()
    else:
        maximum = maximum.masked_fill(maximum == -math.inf, 0)
        excess = s - maximum[target]
        largest = math.log(torch.finfo(s.dtype).max) - 1
        weight = torch.where(ignored, excess.clamp(max=largest), excess).exp() * t.edge_weight
    total = s.new_zeros(num_dst, s.size(1)).index_add(0, target, weight)
    if epsilon:
        total = total + epsilon * torch.exp(-maximum.masked_fill(maximum == -math.inf, 0))
    if t.sink_logit is None:
        return weight / total[target], None
    sink = (t.sink_logit - maximum.masked_fill(maximum == -math.inf, 0)).exp()
    total = total + sink
    alone = target.new_zeros(num_dst, 1).index_fill(0, target, 1) == 0
    total = total.masked_fill(alone & (total == 0), 1)  # the sink's logit is -inf there
    return weight / total[target], sink / total


def _sum_values(
    t: Inputs, weight: Tensor, sink: Tensor | None, source: Tensor, target: Tensor, num_dst: int, settings: Settings
) -> Tensor | None:
    values = t.k if settings.score == "gatv2" else t.v
    if values is None:
        return None
    values = values[source]
    if settings.score == "dot" and t.edge is not None:
        values = values + t.edge
    messages = weight.unsqueeze(-1) * values
    out = messages.new_zeros(num_dst, *messages.shape[1:]).index_add(0, target, messages)
    if sink is not None and t.sink_value is not None:
        out = out + sink.unsqueeze(-1) * t.sink_value
    return out

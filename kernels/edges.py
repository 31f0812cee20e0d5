"""What the backward passes know of an edge, whichever way they walk the graph.

With g_i = dL/dout_i, q = the softmax without edge weights u and dropout factors r, p = u q:
    dalpha = r g_i . value + dL/dalpha,  D_i = sum p dalpha (with the sink's share),  ds = q (dalpha - D_i)
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .dropout import dropout_factors
from .scores import activate, decay, raw_score, through_activation, value_of, weighted
from .tiles import load_heads


class Target(NamedTuple):
    """A target's numbers, ``[rows, 1 or lanes, heads, ...]``; ``()`` where it has none."""

    q: Any
    a_dst: Any
    divisor: Any
    maximum: Any
    total: Any
    grad_out: Any


class Source(NamedTuple):
    """A source's."""

    k: Any
    v: Any
    a_src: Any


class Terms(NamedTuple):
    """An edge's, ``[rows, lanes, heads]``."""

    argument: Any  # of the activation: t / c
    activated: Any
    mask: Any  # M
    by_hop: Any  # its derivative by hop over itself
    softmax: Any  # q
    share: Any  # p
    factor: Any  # r
    dalpha: Any


class EdgeGradient(NamedTuple):
    """``[rows, lanes, heads]``"""

    score: Any  # dL/dt
    edge_weight: Any  # dL/du
    hop: Any  # the edge's part of dL/dhop
    divisor: Any  # of -c dL/dc
    weight: Any  # r p, what its value is multiplied by


@triton.jit
def edge_terms(
    target, source, e, att, edge, inside, inputs, grad_alpha, known, seed, threshold, keep, columns, s: tl.constexpr
):
    """``known`` is dalpha where an earlier pass has left it."""
    a_edge = load_heads(inputs.a_edge, edge, inside, columns, s)
    argument = raw_score(target.q, source.k, e, att, source.a_src, target.a_dst, a_edge, s)
    if isinstance(target.divisor, tl.tensor):
        argument = argument / target.divisor
    activated = activate(argument, s)
    score = activated
    mask = ()
    by_hop = ()
    if inputs.distance is not None:
        mask, by_hop = decay(inputs.distance, inputs.hop, edge, inside, columns, s)
        score = activated * mask
    softmax = tl.where(inside[:, :, None], tl.exp(score - target.maximum) / target.total, 0.0)
    share = weighted(softmax, inputs.edge_weight, edge, inside, columns, s)

    factor = ()
    if s.dropout:
        factor = dropout_factors(seed, edge, threshold, keep, s)
    if isinstance(known, tl.tensor):
        dalpha = known
    else:
        dalpha = tl.full([s.rows, s.lanes, s.block_heads], 0, s.wide)
        if isinstance(target.grad_out, tl.tensor):
            dalpha += tl.sum(target.grad_out * value_of(source.k, source.v, e, s), 3)
        given = load_heads(grad_alpha, edge, inside, columns, s)
        if isinstance(given, tl.tensor) and not s.undropped:
            dalpha += given
        if isinstance(factor, tl.tensor):
            dalpha *= factor
        if isinstance(given, tl.tensor) and s.undropped:
            dalpha += given
    return Terms(argument, activated, mask, by_hop, softmax, share, factor, dalpha)


@triton.jit
def edge_gradient(terms, d, divisor, inputs, edge, inside, columns, s: tl.constexpr):
    """From D ``[rows, 1 or lanes, heads]`` back to the score."""
    by_weight = terms.softmax * (terms.dalpha - d)
    ds = weighted(by_weight, inputs.edge_weight, edge, inside, columns, s)
    hop = ()
    if isinstance(terms.mask, tl.tensor):
        ds = ds * terms.mask
        hop = ds * terms.activated * terms.by_hop
    dx = through_activation(ds, terms.argument, s)
    dc = ()
    if isinstance(divisor, tl.tensor):
        dc = dx * terms.argument
        dx = dx / divisor
    weight = terms.share
    if isinstance(terms.factor, tl.tensor):
        weight = weight * terms.factor
    return EdgeGradient(dx, by_weight, hop, dc, weight)


@triton.jit
def load_divisor(divisor, index, exist, columns, s: tl.constexpr):
    """1 where there is nothing; ``()`` of ``None``."""
    if divisor is None:
        return ()
    else:
        loaded = load_heads(divisor, index, exist, columns, s)
        return tl.where(exist[:, :, None] & columns.head_exists, loaded, 1.0)

"""Scores by name, and what is done to every score: divisor, activation, decay."""

import triton
import triton.language as tl

from .dot import dot_gradients, dot_score
from .gat import gat_score, leaky_relu, through_leaky_relu
from .gatv2 import gatv2_gradients, gatv2_score
from .gt import clip, gt_gradients, gt_score, through_clip
from .tiles import load_heads


@triton.jit
def raw_score(q, k, e, att, a_src, a_dst, a_edge, s: tl.constexpr):
    """``t`` ``[rows, lanes, heads]``, before divisor and activation."""
    if s.score == "gatv2":
        return gatv2_score(q, k, e, att, s)
    elif s.score == "dot":
        return dot_score(q, k, e, s)
    elif s.score == "gt":
        return gt_score(q, k, e, s)
    else:
        return gat_score(a_src, a_dst, a_edge)


@triton.jit
def feature_gradients(dt, dw, q, k, e, att, s: tl.constexpr):
    """By q, k and e, for one edge each; ``dw`` is the edge stream's gradient."""
    if s.score == "gatv2":
        return gatv2_gradients(dt, q, k, e, att, s)
    elif s.score == "dot":
        return dot_gradients(dt, q, k, e, s)
    else:
        return gt_gradients(dt, dw, q, k, e, s)


@triton.jit
def value_of(k, v, e, s: tl.constexpr):
    """The values that are summed; ``()`` without any."""
    if s.score == "gatv2":
        return k
    elif s.score == "dot":
        if isinstance(e, tl.tensor):
            return v + e
        else:
            return v
    else:
        return v


@triton.jit
def activate(x, s: tl.constexpr):
    if s.score == "gat":
        return leaky_relu(x, s)
    elif s.score == "gt":
        return clip(x, s)
    else:
        return x


@triton.jit
def through_activation(dx, x, s: tl.constexpr):
    """The gradient by the activation's argument, from the one by its value."""
    if s.score == "gat":
        return through_leaky_relu(dx, x, s)
    elif s.score == "gt":
        return through_clip(dx, x, s)
    else:
        return dx


@triton.jit
def decay(distance, hop, edge, exist, columns, s: tl.constexpr):
    """``M = gamma ** LeakyReLU(distance - hop)`` and its derivative by ``hop`` over itself, by head."""
    far = tl.load(distance + edge.to(tl.int64), mask=exist, other=0).to(s.wide)[:, :, None]
    excess = far - tl.load(hop + columns.head, mask=columns.head_exists, other=0.0)
    above = tl.full([1, 1, 1], s.log_gamma, s.wide)
    rate = tl.where(excess > 0, above, above * s.decay_slope)
    return tl.exp(rate * excess), -rate


@triton.jit
def weighted(x, edge_weight, edge, exist, columns, s: tl.constexpr):
    """``x`` times the edges' own weights, where they have any; 0 for a weight of 0, however large ``x`` is."""
    if edge_weight is None:
        return x
    else:
        weight = load_heads(edge_weight, edge, exist, columns, s)
        return tl.where(weight == 0, 0.0, x * weight)

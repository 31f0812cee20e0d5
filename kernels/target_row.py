"""What the passes over target rows load, and the sink's part in a row."""

import triton
import triton.language as tl

from .edges import Source, Target, load_divisor
from .tiles import load_features, load_heads, load_parameters, load_statistics


@triton.jit
def load_target(rows, inputs, grads, columns, s: tl.constexpr):
    maximum, total = load_statistics(grads.stats, rows.node, rows.exist, columns, s)
    return Target(
        load_features(inputs.q, rows.node, rows.exist, columns, s),
        load_heads(inputs.a_dst, rows.node, rows.exist, columns, s),
        load_divisor(inputs.divisor, rows.node, rows.exist, columns, s),
        maximum,
        total,
        load_features(grads.out, rows.node, rows.exist, columns, s),
    )


@triton.jit
def load_source(inputs, source, inside, columns, s: tl.constexpr):
    return Source(
        load_features(inputs.k, source, inside, columns, s),
        load_features(inputs.v, source, inside, columns, s),
        load_heads(inputs.a_src, source, inside, columns, s),
    )


@triton.jit
def sink_terms(rows, target, inputs, columns, s: tl.constexpr):
    """The sink's share of a row and its dalpha, ``[rows, 1, heads]``."""
    logit = load_heads(inputs.sink_logit, rows.node, rows.exist, columns, s)
    share = tl.where(rows.first[:, :, None], tl.exp(logit - target.maximum) / target.total, 0.0)
    dalpha = tl.full([s.rows, 1, s.block_heads], 0, s.wide)
    if inputs.sink_value is not None and isinstance(target.grad_out, tl.tensor):
        dalpha += tl.sum(target.grad_out * load_parameters(inputs.sink_value, columns, s), 3)
    return share, dalpha

"""Score ``gt`` (Dwivedi and Bresson 2021): the sum of ``w = scale * q[i] * k[j] * edge[ij]``, clipped."""

import triton
import triton.language as tl


@triton.jit
def gt_products(q, k, e, s: tl.constexpr):
    """The edge stream, ``[rows, lanes, heads, channels]``."""
    return q * k * s.scale * e


@triton.jit
def gt_score(q, k, e, s: tl.constexpr):
    return tl.sum(gt_products(q, k, e, s), 3)


@triton.jit
def gt_gradients(dt, dw, q, k, e, s: tl.constexpr):
    """By q, k and e, from the gradients of the score and, if there is one, of the edge stream."""
    d = dt[:, :, :, None]
    if isinstance(dw, tl.tensor):
        d = d + dw
    d = d * s.scale
    return d * k * e, d * q * e, d * q * k


@triton.jit
def clip(x, s: tl.constexpr):
    return tl.where(x > s.clip, s.clip, tl.where(x < -s.clip, -s.clip, x))  # keeps NaN


@triton.jit
def through_clip(dx, x, s: tl.constexpr):
    return tl.where((x > s.clip) | (x < -s.clip), 0.0, dx)

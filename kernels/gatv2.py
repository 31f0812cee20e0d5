"""Score ``gatv2`` (Brody et al. 2022): ``att . LeakyReLU(k[j] + q[i] + edge[ij])``."""

import triton
import triton.language as tl

from .gat import leaky_relu


@triton.jit
def _sum(q, k, e):
    z = k + q
    if isinstance(e, tl.tensor):
        z = z + e
    return z


@triton.jit
def gatv2_score(q, k, e, att, s: tl.constexpr):
    return tl.sum(att * leaky_relu(_sum(q, k, e), s), 3)


@triton.jit
def gatv2_gradients(dt, q, k, e, att, s: tl.constexpr):
    """By q, k and e: all the same."""
    dz = tl.where(_sum(q, k, e) > 0, att, att * s.slope) * dt[:, :, :, None]
    return dz, dz, dz


@triton.jit
def gatv2_att_gradient(dt, q, k, e, s: tl.constexpr):
    return dt[:, :, :, None] * leaky_relu(_sum(q, k, e), s)

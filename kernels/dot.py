"""Score ``dot`` (Shi et al. 2021): ``scale * q[i] . (k[j] + edge[ij])``."""

import triton
import triton.language as tl


@triton.jit
def _key(k, e):
    if isinstance(e, tl.tensor):
        return k + e
    else:
        return k


@triton.jit
def dot_score(q, k, e, s: tl.constexpr):
    return tl.sum(q * _key(k, e), 3) * s.scale


@triton.jit
def dot_gradients(dt, q, k, e, s: tl.constexpr):
    """By q, k and e."""
    scaled = (dt * s.scale)[:, :, :, None]
    dk = scaled * q
    return scaled * _key(k, e), dk, dk

"""Scores of logits: ``gat`` (Velickovic et al. 2018), ``LeakyReLU(a_src[j] + a_dst[i] + a_edge[ij])``, and the logits
themselves (``edge_softmax``)."""

import triton
import triton.language as tl


@triton.jit
def gat_score(a_src, a_dst, a_edge):
    """``[rows, lanes, heads]``, the sum of what there is."""
    if isinstance(a_src, tl.tensor):
        score = a_src
        if isinstance(a_dst, tl.tensor):
            score = score + a_dst
        if isinstance(a_edge, tl.tensor):
            score = score + a_edge
        return score
    else:
        return a_edge


@triton.jit
def leaky_relu(x, s: tl.constexpr):
    return tl.where(x > 0, x, x * s.slope)


@triton.jit
def through_leaky_relu(dx, x, s: tl.constexpr):
    return tl.where(x > 0, dx, dx * s.slope)

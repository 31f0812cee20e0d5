"""Scores of logits: ``gat`` (Velickovic et al. 2018), ``LeakyReLU(a_src[j] + a_dst[i] + a_edge[ij])``, and the logits
themselves (``edge_softmax``)."""

import triton
import triton.language as tl


@triton.jit
def gat_score(a_src, a_dst, a_edge):
    """``[rows, lanes, heads]``, the sum of what there is."""
    if a_src is None:
        return a_edge
    else:
        score = a_src
        if a_dst is not None:
            score = score + a_dst
        if a_edge is not None:
            score = score + a_edge
        return score


@triton.jit
def leaky_relu(x, s: tl.constexpr):
    return tl.where(x > 0, x, x * s.slope)


@triton.jit
def through_leaky_relu(dx, x, s: tl.constexpr):
    return tl.where(x > 0, dx, dx * s.slope)

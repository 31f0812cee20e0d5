"""Dropout's factors from the Philox4x32-10 counters that every backend shares (``csrc/common/philox.h``).

Counter: (edge id low, edge id high, head / 4, 0); key: the seed; word head % 4 belongs to the head.
"""

import triton
import triton.language as tl


@triton.jit
def philox_words(seed, edge, group):
    """Four words for edges ``[rows, lanes, 1]`` and groups of heads ``[1, 1, groups]``."""
    low = (edge & 0xFFFFFFFF).to(tl.uint32)
    high = ((edge >> 32) & 0xFFFFFFFF).to(tl.uint32)
    none = (low + group) * 0
    return tl.philox(seed, low + none, high + none, group + none, none)


@triton.jit
def dropout_factors(seed, edge, threshold, keep, s: tl.constexpr):
    """``keep`` where a weight is kept, 0 where it is dropped, ``[rows, lanes, heads]``; ``edge`` ``[rows, lanes]``."""
    key = tl.load(seed)
    edge = edge.to(tl.int64)[:, :, None]
    first = tl.program_id(1) * s.block_heads
    if s.block_heads < 4:
        head = (first + tl.arange(0, s.block_heads))[None, None, :]
        w0, w1, w2, w3 = philox_words(key, edge, (head // 4).to(tl.uint32))
        which = head % 4
        word = tl.where(which == 0, w0, tl.where(which == 1, w1, tl.where(which == 2, w2, w3)))
    else:  # each evaluation gives the words of four heads
        groups: tl.constexpr = s.block_heads // 4
        group = (first // 4 + tl.arange(0, groups))[None, None, :].to(tl.uint32)
        w0, w1, w2, w3 = philox_words(key, edge, group)
        word = tl.join(tl.join(w0, w2), tl.join(w1, w3)).reshape([s.rows, s.lanes, s.block_heads])
    return (word.to(tl.int64) >= threshold).to(s.wide) * tl.full([1, 1, 1], keep, s.wide)

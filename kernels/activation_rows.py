"""Statistics of activations, over rows: largest and median magnitude, ratio; sums, and counts of single numbers.

Bits of floats that are not negative rise with them, so the median is found bit by bit from the highest on: a bit is set
where too few numbers are below the one that has it set. Numbers stay in registers meanwhile; rows that are wider than a
tile are read again for every bit, from the cache.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from gattn.reference.activation_stats import COUNTS, INFINITE, NAN

_NAN, _INFINITE, _COUNTS = tl.constexpr(NAN), tl.constexpr(INFINITE), tl.constexpr(COUNTS)


class StatsSetup(NamedTuple):
    """Constants of a kernel. Nothing in it depends on the number of rows."""

    width: int
    wide: Any  # the dtype of results
    raw: Any  # integers as wide as the rows' dtype
    word: Any  # those that bits are compared as
    sign: int  # place of their sign
    bits: int  # of a magnitude
    infinity: int  # its bits
    rows: int
    columns: int  # of a tile, a power of two
    chunks: int  # tiles that a row takes
    rank: int  # numbers below the median, with the zeros that fill up the last tile


class StatsRows(NamedTuple):
    """The rows of a tile."""

    first: Any
    local: Any  # [rows], from 0 on
    exist: Any  # [rows]


@triton.jit
def load_numbers(x, rows, chunk, s: tl.constexpr):
    """``[rows, columns]`` in their own dtype, zeros where there are none."""
    column = tl.arange(0, s.columns)
    address = x + (rows.first * s.width + chunk * s.columns) + (rows.local[:, None] * s.width + column[None, :])
    if s.width == s.columns * s.chunks:  # a mask of rows alone leaves accesses wide
        return tl.load(address, mask=rows.exist[:, None] & tl.full([1, s.columns], 1, tl.int1), other=0.0)
    else:
        inside = rows.exist[:, None] & (chunk * s.columns + column < s.width)[None, :]
        return tl.load(address, mask=inside, other=0.0)


@triton.jit
def _numbers(x, held, rows, chunk, s: tl.constexpr):
    """The tile that is held, or one of several."""
    if s.chunks == 1:
        return held
    else:
        return load_numbers(x, rows, chunk, s)


@triton.jit
def _magnitude(numbers, s: tl.constexpr):
    """Bits without the sign."""
    return numbers.to(s.raw, bitcast=True).to(s.word) & ((1 << s.bits) - 1)


@triton.jit
def _count(true):
    """How many in each row, int64. As a sum of integers LLVM would gather sets of bits in memory, to count those."""
    return tl.sum(tl.where(true, 1.0, 0.0), 1).to(tl.int64)


@triton.jit
def _number(bits, like, s: tl.constexpr):
    """What has these bits in the dtype of the pointer ``like``."""
    return bits.to(s.raw).to(like.dtype.element_ty, bitcast=True).to(s.wide)


@triton.jit
def _divide(a, b, s: tl.constexpr):
    """Rounded to the nearest, which ``/`` of float32 is not."""
    if s.wide == tl.float32:
        return tl.div_rn(a, b)
    else:
        return a / b


@triton.jit
def _median(x, held, rows, s: tl.constexpr):
    """Bits of the lower median ``[rows]``."""
    found = tl.full([s.rows], 0, s.word)
    bit = tl.full([s.rows], 1 << (s.bits - 1), s.word)
    for _ in range(s.bits):
        candidate = found | bit
        below = tl.full([s.rows], 0, tl.int32)
        for chunk in range(s.chunks):
            size = _magnitude(_numbers(x, held, rows, chunk, s), s)
            below -= tl.sum(((size - candidate[:, None]) >> s.sign).to(tl.int32), 1)  # minus 1 where the size is less
        found = tl.where(below <= s.rank, candidate, found)
        bit = bit >> 1
    return found


@triton.jit
def _count_nonfinite(x, held, rows, counts, s: tl.constexpr):
    nan = tl.full([s.rows], 0, tl.int64)
    infinite = tl.full([s.rows], 0, tl.int64)
    for chunk in range(s.chunks):
        size = _magnitude(_numbers(x, held, rows, chunk, s), s)
        nan += _count(size > s.infinity)
        infinite += _count(size == s.infinity)
    tl.atomic_add(counts + _NAN, tl.sum(nan, 0), sem="relaxed")
    tl.atomic_add(counts + _INFINITE, tl.sum(infinite, 0), sem="relaxed")


@triton.jit
def _count_above(x, held, rows, median, known, threshold, s: tl.constexpr):
    """Numbers over ``threshold`` times their row's median, in rows that are ``known``."""
    found = tl.full([s.rows], 0, tl.int64)
    for chunk in range(s.chunks):
        size = tl.abs(_numbers(x, held, rows, chunk, s).to(s.wide))
        relative = _divide(size, tl.broadcast_to(median[:, None], [s.rows, s.columns]), s).to(tl.float64)
        found += _count(relative > threshold)
    return tl.sum(tl.where(known, found, 0), 0)


@triton.jit(do_not_specialize=("num_rows", "num_thresholds"))
def activation_rows_kernel(
    x,  # [E, D]
    thresholds,  # rising, float64
    largest,  # [E], like the next two
    median,
    ratio,
    counts,  # added to
    parts,  # [programs, 2]: sum and sum of squares, float64
    num_rows: tl.int64,
    num_thresholds: tl.int64,
    s: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    local = tl.arange(0, s.rows)
    # Not tl.zeros: Triton 3.4's takes no sizes out of a tuple.
    total = tl.full([s.rows], 0, tl.float64)
    squares = tl.full([s.rows], 0, tl.float64)
    for first in range(program * s.rows, num_rows, tl.num_programs(0) * s.rows):
        rows = StatsRows(first, local, first + local < num_rows)
        held = ()
        if s.chunks == 1:
            held = load_numbers(x, rows, 0, s)
        top = tl.full([s.rows], 0, s.word)
        row_total = tl.full([s.rows], 0, tl.float64)
        row_squares = tl.full([s.rows], 0, tl.float64)
        for chunk in range(s.chunks):
            numbers = _numbers(x, held, rows, chunk, s)
            top = tl.maximum(top, tl.max(_magnitude(numbers, s), 1))
            exact = numbers.to(s.wide).to(tl.float64)
            row_total += tl.sum(exact, 1)
            row_squares += tl.sum(exact * exact, 1)
        finite = top < s.infinity
        total += tl.where(finite, row_total, 0.0)
        squares += tl.where(finite, row_squares, 0.0)
        if tl.max(top, 0) >= s.infinity:
            _count_nonfinite(x, held, rows, counts, s)

        middle = _median(x, held, rows, s)
        known = finite & (middle != 0)  # no row that does not exist: its median is 0
        high, mid = _number(top, x, s), _number(middle, x, s)
        divisor = tl.where(known, mid, 1.0)
        quotient = tl.where(known, _divide(high, divisor, s), float("inf"))
        at = first + local
        tl.store(largest + at, tl.where(finite, high, float("nan")), mask=rows.exist)
        tl.store(median + at, tl.where(finite, mid, float("nan")), mask=rows.exist)
        tl.store(ratio + at, tl.where(finite, quotient, float("nan")), mask=rows.exist)

        highest = tl.max(tl.where(known, quotient, 0.0), 0).to(tl.float64)
        for i in range(num_thresholds):
            threshold = tl.load(thresholds + i)
            if highest > threshold:
                above = _count_above(x, held, rows, divisor, known, threshold, s)
                tl.atomic_add(counts + _COUNTS + i, above, sem="relaxed")
    tl.store(parts + 2 * program, tl.sum(total, 0))
    tl.store(parts + 2 * program + 1, tl.sum(squares, 0))

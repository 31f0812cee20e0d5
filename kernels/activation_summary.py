"""Statistics of activations, over what is known of rows: how many are bad, their histogram, sums and extremes.

Counts are integers, so that the order in which programs add to them does not matter.
"""

import triton
import triton.language as tl

from gattn.reference.activation_stats import BAD_ROWS, COUNTS, ZERO_MEDIANS

from .activation_rows import StatsRows, load_numbers

_BAD_ROWS, _ZERO_MEDIANS, _COUNTS = tl.constexpr(BAD_ROWS), tl.constexpr(ZERO_MEDIANS), tl.constexpr(COUNTS)
_NO_ROW = tl.constexpr(2**63 - 1)


@triton.jit
def _bin_of(ratio, edges, num_edges, digits: tl.constexpr):
    """How many of the rising ``edges`` are not above it."""
    exact = ratio.to(tl.float64)
    found = tl.full(ratio.shape, 0, tl.int32)
    for i in range(digits):
        candidate = found + (1 << (digits - 1 - i))
        inside = candidate <= num_edges
        edge = tl.load(edges + candidate - 1, mask=inside, other=0.0)
        found = tl.where(inside & (edge <= exact), candidate, found)
    return found


@triton.jit
def _larger(best, found, row):
    """The larger numbers and their rows, of equal ones the first."""
    value, at = best
    more = (found > value) | ((found == value) & (row < at))
    return tl.where(more, found, value), tl.where(more, row, at)


@triton.jit
def _first_largest(best):
    value, at = best
    most = tl.max(value, 0)
    return most, tl.min(tl.where(value == most, at, _NO_ROW), 0)


@triton.jit(do_not_specialize=("num_rows", "num_thresholds", "num_edges"))
def activation_summary_kernel(
    largest,  # [E], like the next two
    median,
    ratio,
    edges,  # rising, float64
    counts,  # added to
    tops,  # [programs, 2]: the largest number and the largest ratio; -1 without one
    top_rows,  # [programs, 2]
    num_rows: tl.int64,
    num_thresholds: tl.int64,
    num_edges: tl.int64,
    digits: tl.constexpr,  # 2 ** digits is more than bins: one is for rows without a ratio
    block: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    # A program has fewer than 2 ** 31 rows.
    bad = tl.full([block], 0, tl.int32)
    zeros = tl.full([block], 0, tl.int32)
    bins = tl.full([1 << digits], 0, tl.int32)
    number = tl.full([block], -1.0, largest.dtype.element_ty), tl.full([block], _NO_ROW, tl.int64)
    quotient = number
    for first in range(program * block, num_rows, tl.num_programs(0) * block):
        row = first + tl.arange(0, block).to(tl.int64)
        exist = row < num_rows
        high = tl.load(largest + row, mask=exist, other=-1.0)
        mid = tl.load(median + row, mask=exist, other=0.0)
        by_row = tl.load(ratio + row, mask=exist, other=0.0)
        finite = exist & (high == high)
        known = finite & (mid != 0)
        bad += (exist & (high != high)).to(tl.int32)
        zeros += (finite & (mid == 0)).to(tl.int32)
        number = _larger(number, tl.where(finite, high, -1.0), row)
        quotient = _larger(quotient, tl.where(known, by_row, -1.0), row)
        own = tl.where(known, _bin_of(by_row, edges, num_edges, digits), num_edges.to(tl.int32) + 1)
        bins += tl.histogram(own, 1 << digits)
    tl.atomic_add(counts + _BAD_ROWS, tl.sum(bad, 0).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + _ZERO_MEDIANS, tl.sum(zeros, 0).to(tl.int64), sem="relaxed")
    bin_number = tl.arange(0, 1 << digits)
    to = counts + _COUNTS + num_thresholds + bin_number
    tl.atomic_add(to, bins.to(tl.int64), mask=(bin_number <= num_edges) & (bins > 0), sem="relaxed")
    value, at = _first_largest(number)
    tl.store(tops + 2 * program, value)
    tl.store(top_rows + 2 * program, at)
    value, at = _first_largest(quotient)
    tl.store(tops + 2 * program + 1, value)
    tl.store(top_rows + 2 * program + 1, at)


@triton.jit
def _column(x, row, most, s: tl.constexpr):
    """The first column of ``row`` where the magnitude is ``most``."""
    local = tl.arange(0, 1)
    found = tl.full([1], s.width, tl.int32)
    for chunk in range(s.chunks):
        numbers = load_numbers(x, StatsRows(row, local, local == 0), chunk, s)
        column = chunk * s.columns + tl.arange(0, s.columns)
        here = tl.where(tl.abs(numbers.to(s.wide)) == most, column[None, :], s.width)
        found = tl.minimum(found, tl.min(here, 1))
    return tl.min(found, 0)


@triton.jit(do_not_specialize=("num_parts", "num_tops"))
def activation_total_kernel(
    x,  # [E, D]
    largest,  # [E]
    parts,  # [num_parts, 2]
    tops,  # [num_tops, 2]
    top_rows,  # [num_tops, 2]
    sums,  # [2]
    extremes,  # [2, 3]: number, row, column
    num_parts: tl.int64,
    num_tops: tl.int64,
    s: tl.constexpr,
    lanes: tl.constexpr,
):
    """One program, over what all others have left."""
    lane = tl.arange(0, lanes).to(tl.int64)
    for i in tl.static_range(2):
        total = tl.full([lanes], 0, tl.float64)
        for first in range(0, num_parts, lanes):
            part = first + lane
            total += tl.load(parts + 2 * part + i, mask=part < num_parts, other=0.0)
        tl.store(sums + i, tl.sum(total, 0))

        best = tl.full([lanes], -1.0, s.wide), tl.full([lanes], _NO_ROW, tl.int64)
        for first in range(0, num_tops, lanes):
            top = first + lane
            found = tl.load(tops + 2 * top + i, mask=top < num_tops, other=-1.0)
            best = _larger(best, found, tl.load(top_rows + 2 * top + i, mask=top < num_tops, other=_NO_ROW))
        value, row = _first_largest(best)
        at = extremes + 3 * i
        tl.store(at, value.to(tl.float64))
        if value < 0:
            tl.store(at + 1, -1.0)
            tl.store(at + 2, -1.0)
        else:
            tl.store(at + 1, row.to(tl.float64))
            tl.store(at + 2, _column(x, row, tl.load(largest + row), s).to(tl.float64))

"""Maxima over neighbourhoods, for LipschitzNorm."""

import triton
import triton.language as tl

from .setup import INTEGERS
from .tiles import find_columns, find_rows, slots, steps


@triton.jit(do_not_specialize=INTEGERS)
def first_largest_kernel(
    graph,
    groups,
    values,  # [N_src, H]
    found,  # [N_dst, H], int64: the source of the first edge with the largest value, -1 without edges
    ptr_at: tl.int64,
    node_at: tl.int64,
    edge_at: tl.int64,
    counts_at: tl.int64,
    order_at: tl.int64,
    chunk_ptr_at: tl.int64,
    chunk_hub_at: tl.int64,
    chunk: tl.int64,
    s: tl.constexpr,
):
    columns = find_columns(s)
    rows = find_rows(tl.program_id(0), graph, groups, ptr_at, counts_at, order_at, chunk_ptr_at, chunk_hub_at, chunk, s)
    largest = tl.full([s.rows, s.lanes, s.block_heads], -float("inf"), s.wide)
    none = tl.full([1, 1, 1], 2**62, tl.int64)
    first = tl.full([s.rows, s.lanes, s.block_heads], 0, tl.int64) + none
    for step in range(steps(rows, s)):
        slot, inside = slots(rows, step, s)
        source = tl.load(graph + node_at + slot, mask=inside, other=0)
        offsets = source.to(tl.int64)[:, :, None] * s.heads + columns.head
        mask = inside[:, :, None] & columns.head_exists
        value = tl.load(values + offsets, mask=mask, other=-float("inf"))
        better = mask & ((value > largest) | (first == none))
        first = tl.where(better, slot.to(tl.int64)[:, :, None], first)
        largest = tl.where(better, value, largest)
    best = tl.max(largest, 1, keep_dims=True)
    first = tl.min(tl.where(largest == best, first, none), 1, keep_dims=True)
    source = tl.load(graph + node_at + tl.where(first == none, 0, first), mask=first < none, other=-1)
    offsets = rows.node.to(tl.int64)[:, :, None] * s.heads + columns.head
    tl.store(found + offsets, source.to(tl.int64), mask=rows.exist[:, :, None] & columns.head_exists)

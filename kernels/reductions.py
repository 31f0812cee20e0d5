"""Second stages of sums, in a fixed order: a hub's chunks, and what programs have summed over all rows."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=("counts_at", "order_at", "chunk_ptr_at"))
def sum_chunks_kernel(
    groups,
    parts,  # [chunks, width]
    found,  # [nodes, width]
    counts_at: tl.int64,
    order_at: tl.int64,
    chunk_ptr_at: tl.int64,
    width: tl.constexpr,
    block: tl.constexpr,
):
    hub = tl.program_id(0)
    if hub < tl.load(groups + counts_at):
        column = tl.program_id(1) * block + tl.arange(0, block)
        exist = column < width
        total = tl.full([block], 0, parts.dtype.element_ty)
        begin, end = tl.load(groups + chunk_ptr_at + hub), tl.load(groups + chunk_ptr_at + hub + 1)
        row = parts + begin.to(tl.int64) * width + column
        for _ in range(begin, end):
            total += tl.load(row, mask=exist, other=0.0)
            row += width
        node = tl.load(groups + order_at + hub).to(tl.int64)
        tl.store(found + node * width + column, total.to(found.dtype.element_ty), mask=exist)


@triton.jit(do_not_specialize=("count",))
def sum_programs_kernel(
    parts,  # [count, width]
    found,  # [width]
    count: tl.int64,
    width: tl.constexpr,
    block: tl.constexpr,
    lanes: tl.constexpr,
):
    column = (tl.program_id(0) * block + tl.arange(0, block))[None, :]
    total = tl.full([lanes, block], 0, tl.float64)
    for step in range((count + lanes - 1) // lanes):
        part = (step * lanes + tl.arange(0, lanes))[:, None]
        exist = (part < count) & (column < width)
        total += tl.load(parts + part.to(tl.int64) * width + column, mask=exist, other=0.0).to(tl.float64)
    column = tl.program_id(0) * block + tl.arange(0, block)
    tl.store(found + column, tl.sum(total, 0).to(found.dtype.element_ty), mask=column < width)

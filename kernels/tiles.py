"""Rows and lanes of a program, and loads and stores of tiles [rows, lanes, heads, channels].

What a kernel is not given is ``None``; what is loaded of it is ``()``, since functions cannot return ``None``
before Triton 3.7. ``isinstance(x, tl.tensor)`` asks for either.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Rows(NamedTuple):
    """The nodes of a program, ``[rows, 1]`` each."""

    node: Any
    begin: Any  # their slots
    end: Any
    exist: Any
    first: Any  # whether it has its node's first edges: the program that adds what is there once a node
    part: Any  # where a chunk's partial result goes


class Columns(NamedTuple):
    """The heads ``[1, 1, heads]`` and channels ``[1, 1, 1, channels]`` of a program."""

    head: Any
    head_exists: Any
    channel: Any
    exist: Any  # [1, 1, heads, channels]


@triton.jit
def find_rows(block, graph, groups, ptr_at, counts_at, order_at, chunk_ptr_at, chunk_hub_at, chunk, s: tl.constexpr):
    """The rows of block ``block`` of the group ``s.group``; numbers of blocks are upper bounds."""
    hubs = tl.load(groups + counts_at)
    if s.group == "chunk":
        number = (block + tl.arange(0, 1))[:, None]
        exist = number < tl.load(groups + counts_at + 1)
        hub = tl.load(groups + chunk_hub_at + number, mask=exist, other=0)
        node = tl.load(groups + order_at + hub, mask=exist, other=0)
        piece = number - tl.load(groups + chunk_ptr_at + hub, mask=exist, other=0)
        begin = tl.load(graph + ptr_at + node, mask=exist, other=0) + piece * chunk
        end = tl.minimum(begin + chunk, tl.load(graph + ptr_at + node + 1, mask=exist, other=0))
        return Rows(node, begin, end, exist, exist & (piece == 0), number)
    else:
        number = (block * s.rows + tl.arange(0, s.rows))[:, None]
        middle = tl.load(groups + counts_at + 2)
        if s.group == "hub":
            exist = number < hubs
            at = number
        elif s.group == "middle":
            exist = number < middle
            at = number + hubs
        else:
            exist = number < tl.load(groups + counts_at + 3)
            at = number + hubs + middle
        node = tl.load(groups + order_at + at, mask=exist, other=0)
        begin = tl.load(graph + ptr_at + node, mask=exist, other=0)
        end = tl.load(graph + ptr_at + node + 1, mask=exist, other=0)
        return Rows(node, begin, end, exist, exist, number)


@triton.jit
def find_columns(s: tl.constexpr):
    head = (tl.program_id(1) * s.block_heads + tl.arange(0, s.block_heads))[None, None, :]
    channel = tl.arange(0, s.block_channels)[None, None, None, :]
    return Columns(head, head < s.heads, channel, (head < s.heads)[:, :, :, None] & (channel < s.channels))


@triton.jit
def steps(rows, s: tl.constexpr):
    """How often the rows' lanes go on."""
    longest = tl.max(tl.max(rows.end - rows.begin, 1), 0)
    return (longest + s.lanes - 1) // s.lanes


@triton.jit
def slots(rows, step, s: tl.constexpr):
    """The slots ``[rows, lanes]`` of a step, and whether they are the rows' own."""
    slot = rows.begin + step * s.lanes + tl.arange(0, s.lanes)[None, :]
    return slot, slot < rows.end


@triton.jit
def feature_offsets(index, columns, s: tl.constexpr):
    row = index.to(tl.int64)[:, :, None, None] * (s.heads * s.channels)
    return row + (columns.head[:, :, :, None] * s.channels + columns.channel)


@triton.jit
def load_features(tensor, index, exist, columns, s: tl.constexpr):
    """Rows of ``[n, H, C]`` as a tile; ``()`` of ``None``."""
    if tensor is None:
        return ()
    else:
        mask = exist[:, :, None, None] & columns.exist
        return tl.load(tensor + feature_offsets(index, columns, s), mask=mask, other=0.0).to(s.wide)


@triton.jit
def store_features(tensor, index, exist, columns, tile, s: tl.constexpr):
    mask = exist[:, :, None, None] & columns.exist
    tl.store(tensor + feature_offsets(index, columns, s), tile.to(tensor.dtype.element_ty), mask=mask)


@triton.jit
def load_heads(tensor, index, exist, columns, s: tl.constexpr):
    """Rows of ``[n, H]`` as ``[rows, lanes, heads]``; ``()`` of ``None``."""
    if tensor is None:
        return ()
    else:
        offsets = index.to(tl.int64)[:, :, None] * s.heads + columns.head
        return tl.load(tensor + offsets, mask=exist[:, :, None] & columns.head_exists, other=0.0).to(s.wide)


@triton.jit
def store_heads(tensor, index, exist, columns, tile, s: tl.constexpr):
    offsets = index.to(tl.int64)[:, :, None] * s.heads + columns.head
    tl.store(tensor + offsets, tile.to(tensor.dtype.element_ty), mask=exist[:, :, None] & columns.head_exists)


@triton.jit
def load_parameters(tensor, columns, s: tl.constexpr):
    """``[H, C]`` as ``[1, 1, heads, channels]``; ``()`` of ``None``."""
    if tensor is None:
        return ()
    else:
        offsets = columns.head[:, :, :, None] * s.channels + columns.channel
        return tl.load(tensor + offsets, mask=columns.exist, other=0.0).to(s.wide)


@triton.jit
def load_statistics(stats, index, exist, columns, s: tl.constexpr):
    """Maximum and sum of rows; 0 and 1 where there is none."""
    offsets = index.to(tl.int64)[:, :, None] * (2 * s.heads) + columns.head
    mask = exist[:, :, None] & columns.head_exists
    return tl.load(stats + offsets, mask=mask, other=0.0), tl.load(stats + offsets + s.heads, mask=mask, other=1.0)


@triton.jit
def store_statistics(stats, index, exist, columns, maximum, total, s: tl.constexpr):
    offsets = index.to(tl.int64)[:, :, None] * (2 * s.heads) + columns.head
    mask = exist[:, :, None] & columns.head_exists
    tl.store(stats + offsets, maximum, mask=mask)
    tl.store(stats + offsets + s.heads, total, mask=mask)


@triton.jit
def finite(maximum):
    """The maximum to subtract: 0 of nothing, whose terms are 0 whatever is subtracted."""
    return tl.where(maximum == -float("inf"), 0.0, maximum)

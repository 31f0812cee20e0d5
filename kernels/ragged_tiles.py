"""What the kernels over all pairs of a graph's nodes share: which rows a program has, tiles of them, products, pairs.

A program has ``rows`` nodes of one graph and ``together`` heads, and walks all nodes of the graph, ``columns`` at a
time. Tiles of pairs are ``[rows, columns]``, whichever of the two are the queries. An address is 64 bits for the tile
and 32 bits within it. Where channels take several tiles, programs that have one each find the same scores, and write
the same numbers for what has no channels.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl


class RaggedSetup(NamedTuple):
    """Constants of a kernel. Nothing in it depends on the numbers of nodes and graphs."""

    scale: float
    log2_gamma: float
    log_2: float
    slope: float
    dropout: bool
    heads: int
    channels: int
    wide: Any  # the dtype that numbers accumulate in
    rows: int
    columns: int
    together: int  # heads a program, which divides their number: four share a Philox evaluation
    block_channels: int  # of a tile, a power of two of at least 16
    chunks: int  # tiles that all channels take; a program writes one of them
    by_query: bool = True  # whether rows are queries and columns keys


class Batch(NamedTuple):
    """The graphs of a call and what their pairs have; ``None`` for what there is not."""

    ptr: Any  # [B + 1]
    pair_ptr: Any  # [B + 1]: number of a graph's first pair; with distance or seed
    distance: Any  # [pairs]
    hop: Any  # [H]
    seed: Any


class Graph(NamedTuple):
    """A program's graph and what it has of it."""

    slot: Any
    first: Any  # row of the program's first; beyond the graph in a slot that is left over
    size: Any  # nodes
    begin: Any  # its first node, int64
    pairs: Any  # its first pair, int64; 0 where pairs have no numbers
    head: Any  # the program's first
    chunk: Any  # of channels


class Nodes(NamedTuple):
    """Some nodes of the graph in a row."""

    first: Any  # within the graph
    local: Any  # [n], from 0 on
    exist: Any  # [n]


@triton.jit
def _graph_of(slot, ptr, num_graphs, s: tl.constexpr):
    """The graph of a slot. Graph ``b`` has the slots from ``ptr[b] // rows + b`` on, no fewer than it has blocks of
    rows: so they are found from ``ptr`` alone, and their number from the numbers of nodes and graphs."""
    low = slot * 0
    high = low + num_graphs
    while high - low > 1:
        middle = (low + high) // 2
        reached = tl.load(ptr + middle).to(tl.int64) // s.rows + middle <= slot
        low = tl.where(reached, middle, low)
        high = tl.where(reached, high, middle)
    return low


@triton.jit
def find_graph(batch, num_graphs, s: tl.constexpr):
    """The program's. Heads vary fastest: programs that run at the same time then share distances."""
    groups: tl.constexpr = s.heads // s.together
    program = tl.program_id(0)
    rest = program // groups
    slot = (rest // s.chunks).to(tl.int64)
    graph = _graph_of(slot, batch.ptr, num_graphs, s)
    begin = tl.load(batch.ptr + graph).to(tl.int64)
    size = (tl.load(batch.ptr + graph + 1).to(tl.int64) - begin).to(tl.int32)
    first = ((slot - begin // s.rows - graph) * s.rows).to(tl.int32)
    pairs = begin * 0
    if batch.pair_ptr is not None:
        pairs = tl.load(batch.pair_ptr + graph)
    return Graph(slot, first, size, begin, pairs, program % groups * s.together, rest % s.chunks)


@triton.jit
def nodes_from(first, count: tl.constexpr, graph):
    local = tl.arange(0, count)
    return Nodes(first, local, first + local < graph.size)


@triton.jit
def _tile(tensor, nodes, graph, head, chunk, s: tl.constexpr):
    """Addresses and mask of ``[n, channels]`` in ``[N, H, C]``."""
    node = graph.begin + nodes.first
    first = tensor + (node * s.heads + head) * s.channels + chunk * s.block_channels
    channel = tl.arange(0, s.block_channels)
    address = first + (nodes.local[:, None] * (s.heads * s.channels) + channel[None, :])
    if s.channels == s.block_channels * s.chunks:  # a mask of rows alone leaves accesses wide
        return address, nodes.exist[:, None] & tl.full([1, s.block_channels], 1, tl.int1)
    else:
        return address, nodes.exist[:, None] & (chunk * s.block_channels + channel < s.channels)[None, :]


@triton.jit
def load_tile(tensor, nodes, graph, head, chunk, s: tl.constexpr):
    """Rows of ``[N, H, C]`` in their own dtype."""
    address, mask = _tile(tensor, nodes, graph, head, chunk, s)
    return tl.load(address, mask=mask, other=0.0)


@triton.jit
def store_tile(tensor, tile, nodes, graph, head, s: tl.constexpr):
    address, mask = _tile(tensor, nodes, graph, head, graph.chunk, s)
    tl.store(address, tile.to(tensor.dtype.element_ty), mask=mask)


@triton.jit
def node_heads(tensor, width: tl.constexpr, nodes, graph, head):
    """Addresses ``[n]`` in ``[N, width]``."""
    return tensor + (graph.begin + nodes.first) * width + head + nodes.local * width


@triton.jit
def products(a, b, s: tl.constexpr):
    """``a b^T`` of tiles in the storage dtype, exact but for sums."""
    return tl.dot(a, tl.trans(b), input_precision="ieee", out_dtype=s.wide)


@triton.jit
def chunked_products(a, b, rows, columns, graph, head, s: tl.constexpr):
    """:func:`products` of nodes whose channels take several tiles."""
    total = tl.full([s.rows, s.columns], 0.0, s.wide)
    for chunk in range(s.chunks):
        a_tile = load_tile(a, rows, graph, head, chunk, s)
        total += products(a_tile, load_tile(b, columns, graph, head, chunk, s), s)
    return total


@triton.jit
def add_product(total, x, y, s: tl.constexpr):
    """``total + x y`` with ``x`` in the accumulate dtype and ``y`` in the storage dtype.

    Tensor cores take half precision only. Rounded to it, weights would err by as much as the result's own rounding,
    and score gradients, which sum to zero, by many times that. So ``x`` goes as the sum of two bfloat16, which have
    float32's range; so does float16, exactly, on the other side.
    """
    if y.dtype == s.wide:
        return tl.dot(x, y, total, input_precision="ieee", out_dtype=s.wide)
    else:
        high = x.to(tl.bfloat16)
        low = (x - high.to(tl.float32)).to(tl.bfloat16)
        if y.dtype == tl.bfloat16:
            return tl.dot(high, y, tl.dot(low, y, total))
        else:
            y_high = y.to(tl.bfloat16)
            y_low = (y.to(tl.float32) - y_high.to(tl.float32)).to(tl.bfloat16)
            total = tl.dot(low, y_high, total)
            total = tl.dot(high, y_low, total)
            return tl.dot(high, y_high, total)


@triton.jit
def pairs_of(rows, columns, graph, s: tl.constexpr):
    """Numbers of pairs in all graphs, row by row of queries: the tile's first, and ``[rows, columns]`` from there."""
    if s.by_query:
        first = graph.pairs + graph.size.to(tl.int64) * rows.first + columns.first
        return first, rows.local[:, None] * graph.size + columns.local[None, :]
    else:
        first = graph.pairs + graph.size.to(tl.int64) * columns.first + rows.first
        return first, columns.local[None, :] * graph.size + rows.local[:, None]


@triton.jit
def load_distance(distance, pairs, rows, columns, s: tl.constexpr):
    first, within = pairs
    inside = rows.exist[:, None] & columns.exist[None, :]
    return tl.load(distance + first + within, mask=inside, other=0).to(tl.int32).to(s.wide)


@triton.jit
def decay(far, hop, head, s: tl.constexpr):
    """``M = gamma ** LeakyReLU(distance - hop)``, and its derivative by ``hop`` over ``-M log(2)``."""
    excess = far - tl.load(hop + head).to(s.wide)
    above = tl.full([1, 1], s.log2_gamma, s.wide)
    rate = tl.where(excess > 0, above, above * s.slope)
    return tl.exp2(rate * excess), rate


@triton.jit
def kept_pairs(seed, pairs, head, threshold, s: tl.constexpr):
    """Which pairs' weights dropout keeps (:mod:`gattn.kernels.dropout`): bit ``i`` is for head ``head + i``.

    Words are compared in 32 bits; the threshold ``2 ** 32``, which keeps none, comes with a factor of 0."""
    first, within = pairs
    base = (first & 0xFFFFFFFF).to(tl.uint32)
    low = base + within.to(tl.uint32)
    high = ((first >> 32) & 0xFFFFFFFF).to(tl.uint32) + (low < base).to(tl.uint32)  # with the carry
    none = low * 0
    words = tl.philox(tl.load(seed), low, high, none + (head // 4).to(tl.uint32), none)
    bound = threshold.to(tl.uint32)
    if s.together == 4:
        bits = (words[0] >= bound).to(tl.int32)
        for i in tl.static_range(1, 4):
            bits |= (words[i] >= bound).to(tl.int32) << i
        return bits
    else:
        even = head % 4 < 2
        bits = tl.where(even, words[0], words[2])
        odd = tl.where(even, words[1], words[3])
        if s.together == 2:
            return (bits >= bound).to(tl.int32) | ((odd >= bound).to(tl.int32) << 1)
        else:
            return (tl.where(head % 2 == 0, bits, odd) >= bound).to(tl.int32)

"""The forward pass over blocks of queries, with an online softmax over the keys of their graph."""

import triton
import triton.language as tl

from .ragged_tiles import (
    add_product,
    chunked_products,
    decay,
    find_graph,
    kept_pairs,
    load_distance,
    load_tile,
    node_heads,
    nodes_from,
    pairs_of,
    products,
    store_tile,
)
from .tiles import finite


@triton.jit(do_not_specialize=("num_graphs", "threshold"))
def ragged_forward_kernel(
    q,
    k,
    v,
    batch,
    out,
    wide,  # [N, H, C]: out before it is rounded, or None
    stats,  # [N, 2, H]: maximum and sum
    num_graphs: tl.int64,
    threshold: tl.int64,
    keep: tl.float64,
    s: tl.constexpr,
):
    graph = find_graph(batch, num_graphs, s)
    if graph.first >= graph.size:
        return
    rows = nodes_from(graph.first, s.rows, graph)
    queries = ()
    state = ()
    for i in tl.static_range(tl.constexpr(s.together)):
        if s.chunks == 1:
            queries += (load_tile(q, rows, graph, graph.head + i, 0, s),)
        maximum = tl.full([s.rows], -float("inf"), s.wide)
        total = tl.full([s.rows], 0.0, s.wide)
        state += ((maximum, total, tl.full([s.rows, s.block_channels], 0.0, s.wide)),)
    for start in range(0, graph.size, s.columns):
        columns = nodes_from(start, s.columns, graph)
        pairs = pairs_of(rows, columns, graph, s)
        if batch.distance is not None:
            far = load_distance(batch.distance, pairs, rows, columns, s)
        if s.dropout:
            bits = kept_pairs(batch.seed, pairs, graph.head, threshold, s)
        new = ()
        for i in tl.static_range(tl.constexpr(s.together)):
            head = graph.head + i
            maximum, total, values = state[i]
            if s.chunks == 1:
                score = products(queries[i], load_tile(k, columns, graph, head, 0, s), s)
            else:
                score = chunked_products(q, k, rows, columns, graph, head, s)
            score = score * tl.full([1, 1], s.scale, s.wide)
            if batch.distance is not None:
                mask, _ = decay(far, batch.hop, head, s)
                score = score * mask
            score = tl.where(columns.exist[None, :], score, -float("inf"))
            largest = tl.maximum(maximum, tl.max(score, 1))
            shift = finite(largest)
            old = tl.exp(maximum - shift)
            weight = tl.exp(score - shift[:, None])
            total = total * old + tl.sum(weight, 1)
            if s.dropout:
                weight = tl.where(bits & (1 << i) != 0, weight, 0.0)
            tile = load_tile(v, columns, graph, head, graph.chunk, s)
            new += ((largest, total, add_product(values * old[:, None], weight, tile, s)),)
        state = new
    for i in tl.static_range(tl.constexpr(s.together)):
        head = graph.head + i
        maximum, total, values = state[i]
        values = values / total[:, None]
        if s.dropout:
            values = values * tl.full([1, 1], keep, s.wide)
        store_tile(out, values, rows, graph, head, s)
        if wide is not None:
            store_tile(wide, values, rows, graph, head, s)
        at = node_heads(stats, 2 * s.heads, rows, graph, head)
        tl.store(at, maximum, mask=rows.exist)
        tl.store(at + s.heads, total, mask=rows.exist)

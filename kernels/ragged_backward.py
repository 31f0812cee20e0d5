"""The backward pass: over blocks of queries for their gradients and hop's, over blocks of keys for those and values'.

With g = dL/dout, p the softmax, r dropout's factors and M the decay, as in :mod:`gattn.kernels.edges`:
    D_i = g_i . out_i,  ds_ij = p_ij (r_ij g_i . v_j - D_i)
    dq_i = scale sum_j M_ij ds_ij k_j,  dk_j = scale sum_i M_ij ds_ij q_i,  dv_j = sum_i r_ij p_ij g_i
"""

from typing import Any, NamedTuple

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


class Saved(NamedTuple):
    """What the forward has left, and the gradient of its result."""

    stats: Any  # [N, 2, H]
    out: Any  # [N, H, C], in the accumulate dtype
    grad_out: Any  # [N, H, C]


@triton.jit
def _statistics(stats, nodes, graph, head, s: tl.constexpr):
    """Maximum and reciprocal of the sum, of queries; 0 and 1 where there is none."""
    at = node_heads(stats, 2 * s.heads, nodes, graph, head)
    total = tl.load(at + s.heads, mask=nodes.exist, other=1.0)
    return tl.load(at, mask=nodes.exist, other=0.0), 1.0 / total


@triton.jit
def _row_statistics(saved, rows, graph, head, d, s: tl.constexpr):
    """:func:`_statistics` and ``D`` ``[rows, 1]``, which is stored."""
    found = tl.full([s.rows], 0.0, s.wide)
    for chunk in range(s.chunks):
        grad_out = load_tile(saved.grad_out, rows, graph, head, chunk, s).to(s.wide)
        found += tl.sum(grad_out * load_tile(saved.out, rows, graph, head, chunk, s), 1)
    tl.store(node_heads(d, s.heads, rows, graph, head), found, mask=rows.exist)
    maximum, inverse = _statistics(saved.stats, rows, graph, head, s)
    return maximum[:, None], inverse[:, None], found[:, None]


@triton.jit
def _column_statistics(saved, columns, graph, head, d, s: tl.constexpr):
    """:func:`_statistics` and ``D`` ``[1, columns]``."""
    maximum, inverse = _statistics(saved.stats, columns, graph, head, s)
    found = tl.load(node_heads(d, s.heads, columns, graph, head), mask=columns.exist, other=0.0)
    return maximum[None, :], inverse[None, :], found[None, :]


@triton.jit
def _add_to_hop(sums, ds, weight, by_hop):
    """Adds to a row's sums of ``ds`` times the scores' derivatives, of ``ds``, and of weights times derivatives. ``ds``
    sums to zero but for the error of ``D``, which comes from weights that were split: the last two take it out again.
    """
    of_hop, off, mean = sums
    return of_hop + tl.sum(ds * by_hop, 1), off + tl.sum(ds, 1), mean + tl.sum(weight * by_hop, 1)


@triton.jit(do_not_specialize=("num_graphs", "num_slots", "threshold"))
def ragged_backward_kernel(
    q,
    k,
    v,
    batch,
    saved,
    d,  # [N, H]: written by the pass over queries, which comes first
    found,  # [N, H, C]: gradient of the rows' own features, or None
    found_v,  # [N, H, C] or None
    hop_parts,  # [H, slots] or None
    num_graphs: tl.int64,
    num_slots: tl.int64,
    threshold: tl.int64,
    keep: tl.float64,
    s: tl.constexpr,
):
    graph = find_graph(batch, num_graphs, s)
    if graph.first >= graph.size:
        if hop_parts is not None:
            for i in tl.static_range(tl.constexpr(s.together)):
                tl.store(hop_parts + (graph.head + i) * num_slots + graph.slot, 0.0)
        return
    rows = nodes_from(graph.first, s.rows, graph)
    # Scores are products of a and x, weights' gradients of b and y.
    if s.by_query:
        a, b, x, y = q, saved.grad_out, k, v
    else:
        a, b, x, y = k, v, q, saved.grad_out
    own = ()
    state = ()
    for i in tl.static_range(tl.constexpr(s.together)):
        of_row = ()
        if s.by_query:
            of_row = _row_statistics(saved, rows, graph, graph.head + i, d, s)
        tiles = ()
        if s.chunks == 1:
            tiles = (load_tile(a, rows, graph, graph.head + i, 0, s), load_tile(b, rows, graph, graph.head + i, 0, s))
        own += ((of_row, tiles),)
        zeros, none = tl.full([s.rows, s.block_channels], 0.0, s.wide), tl.full([s.rows], 0.0, s.wide)
        state += ((zeros, zeros, (none, none, none)),)
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
            of_row, tiles = own[i]
            total, total_v, sums = state[i]
            x_tile = load_tile(x, columns, graph, head, graph.chunk, s)
            y_tile = load_tile(y, columns, graph, head, graph.chunk, s)
            if s.chunks == 1:
                score = products(tiles[0], x_tile, s)
                dweight = products(tiles[1], y_tile, s)
            else:
                score = chunked_products(a, x, rows, columns, graph, head, s)
                dweight = chunked_products(b, y, rows, columns, graph, head, s)
            if s.by_query:
                maximum, inverse, of_d = of_row
            else:
                maximum, inverse, of_d = _column_statistics(saved, columns, graph, head, d, s)
            score = score * tl.full([1, 1], s.scale, s.wide)
            if batch.distance is not None:
                mask, by_hop = decay(far, batch.hop, head, s)
                score = score * mask
            weight = tl.where(columns.exist[None, :], tl.exp(score - maximum) * inverse, 0.0)
            if s.dropout:
                keeps = bits & (1 << i) != 0
                dweight = tl.where(keeps, dweight, 0.0) * tl.full([1, 1], keep, s.wide)
            ds = weight * (dweight - of_d)
            if hop_parts is not None:
                sums = _add_to_hop(sums, ds, weight, score * by_hop)
            if batch.distance is not None:
                ds = ds * mask
            if found is not None:
                total = add_product(total, ds, x_tile, s)
            if found_v is not None:
                if s.dropout:
                    weight = tl.where(keeps, weight, 0.0)
                total_v = add_product(total_v, weight, y_tile, s)
            new += ((total, total_v, sums),)
        state = new
    for i in tl.static_range(tl.constexpr(s.together)):
        head = graph.head + i
        total, total_v, sums = state[i]
        if found is not None:
            store_tile(found, total * tl.full([1, 1], s.scale, s.wide), rows, graph, head, s)
        if found_v is not None:
            if s.dropout:
                total_v = total_v * tl.full([1, 1], keep, s.wide)
            store_tile(found_v, total_v, rows, graph, head, s)
        if hop_parts is not None:
            of_hop, off, mean = sums
            of_hop = tl.sum((of_hop - off * mean) * tl.full([1], -s.log_2, s.wide), 0)
            tl.store(hop_parts + head * num_slots + graph.slot, of_hop)

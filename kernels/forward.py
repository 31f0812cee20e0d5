"""The forward pass over target rows: score, softmax, dropout, sum of values.

Every lane of a row keeps its own maximum, sum and accumulator, so that the loop needs no exchange between lanes; they
are merged at the end of the row, and a hub's chunks by a second kernel.
"""

import triton
import triton.language as tl

from .dropout import dropout_factors
from .gt import gt_products
from .scores import activate, decay, raw_score, value_of, weighted
from .setup import INTEGERS
from .tiles import (
    Rows,
    find_columns,
    find_rows,
    finite,
    load_features,
    load_heads,
    load_parameters,
    load_statistics,
    slots,
    steps,
    store_features,
    store_heads,
    store_statistics,
)


@triton.jit
def _merge(maximum, total, values):
    """Lanes' softmax states as one."""
    largest = tl.max(maximum, 1, keep_dims=True)
    part = tl.exp(maximum - finite(largest))
    total = tl.sum(total * part, 1, keep_dims=True)
    if isinstance(values, tl.tensor):
        values = tl.sum(values * part[:, :, :, None], 1, keep_dims=True)
    return largest, total, values


@triton.jit
def _finish(rows, maximum, total, values, inputs, results, columns, s: tl.constexpr):
    """Takes epsilon and the sink into a row's sum, and writes the row."""
    sink = load_heads(inputs.sink_logit, rows.node, rows.exist, columns, s)
    largest = maximum
    if isinstance(sink, tl.tensor):
        largest = tl.maximum(maximum, sink)
    largest = finite(largest)  # of a row without an edge that counts
    if isinstance(sink, tl.tensor):
        part, share = tl.exp(maximum - largest), tl.exp(sink - largest)
        total = total * part
        if isinstance(values, tl.tensor):
            values = values * part[:, :, :, None]
            if inputs.sink_value is not None:  # before the sum takes the share: Triton 3.6 fails on the other order
                values = values + share[:, :, :, None] * load_parameters(inputs.sink_value, columns, s)
    if s.epsilon > 0:
        total = total + s.epsilon * tl.exp(-largest)
    if isinstance(sink, tl.tensor):
        total = total + share
    total = tl.where((rows.begin == rows.end)[:, :, None] & (total == 0.0), 1.0, total)  # nothing in it
    store_statistics(results.stats, rows.node, rows.exist, columns, largest, total, s)
    if isinstance(values, tl.tensor):
        store_features(results.out, rows.node, rows.exist, columns, values / total[:, :, :, None], s)


@triton.jit(do_not_specialize=INTEGERS)
def forward_kernel(
    graph,
    groups,
    inputs,
    results,
    scratch,  # (maxima and sums [chunks, 2, H], values [chunks, H, C]) of chunks
    seed,
    ptr_at: tl.int64,
    node_at: tl.int64,
    edge_at: tl.int64,
    counts_at: tl.int64,
    order_at: tl.int64,
    chunk_ptr_at: tl.int64,
    chunk_hub_at: tl.int64,
    chunk: tl.int64,
    threshold: tl.int64,
    keep: tl.float64,
    s: tl.constexpr,
):
    columns = find_columns(s)
    rows = find_rows(tl.program_id(0), graph, groups, ptr_at, counts_at, order_at, chunk_ptr_at, chunk_hub_at, chunk, s)
    q = load_features(inputs.q, rows.node, rows.exist, columns, s)
    att = load_parameters(inputs.att, columns, s)
    a_dst = load_heads(inputs.a_dst, rows.node, rows.exist, columns, s)
    divisor = load_heads(inputs.divisor, rows.node, rows.exist, columns, s)
    if isinstance(divisor, tl.tensor):
        divisor = tl.where(rows.exist[:, :, None] & columns.head_exists, divisor, 1.0)

    maximum = tl.full([s.rows, s.lanes, s.block_heads], -float("inf"), s.wide)
    total = tl.full([s.rows, s.lanes, s.block_heads], 0, s.wide)
    values = tl.full([s.rows, s.lanes, s.block_heads, s.block_channels], 0, s.wide) if results.out is not None else ()
    for step in range(steps(rows, s)):
        slot, inside = slots(rows, step, s)
        source = tl.load(graph + node_at + slot, mask=inside, other=0)
        edge = tl.load(graph + edge_at + slot, mask=inside, other=0)
        k = load_features(inputs.k, source, inside, columns, s)
        v = load_features(inputs.v, source, inside, columns, s)
        e = load_features(inputs.edge, edge, inside, columns, s)
        if results.edge is not None:
            store_features(results.edge, edge, inside, columns, gt_products(q, k, e, s), s)
        a_src = load_heads(inputs.a_src, source, inside, columns, s)
        a_edge = load_heads(inputs.a_edge, edge, inside, columns, s)
        score = raw_score(q, k, e, att, a_src, a_dst, a_edge, s)
        if isinstance(divisor, tl.tensor):
            score = score / divisor
        score = activate(score, s)
        if inputs.distance is not None:
            mask, _ = decay(inputs.distance, inputs.hop, edge, inside, columns, s)
            score = score * mask
        if results.alpha is not None:
            store_heads(results.alpha, edge, inside, columns, score, s)
        score = tl.where(inside[:, :, None], score, -float("inf"))
        counted = score
        if inputs.edge_weight is not None:  # an edge of weight 0 has no say in how far exponentials may reach
            counted = tl.where(load_heads(inputs.edge_weight, edge, inside, columns, s) == 0, -float("inf"), score)
        largest = tl.maximum(maximum, counted)
        part = tl.exp(maximum - finite(largest))
        weight = weighted(tl.exp(score - finite(largest)), inputs.edge_weight, edge, inside, columns, s)
        total = total * part + weight
        maximum = largest
        if isinstance(values, tl.tensor):
            if s.dropout:
                weight = weight * dropout_factors(seed, edge, threshold, keep, s)
            values = values * part[:, :, :, None] + weight[:, :, :, None] * value_of(k, v, e, s)

    maximum, total, values = _merge(maximum, total, values)
    if s.group == "chunk":
        store_statistics(scratch[0], rows.part, rows.exist, columns, maximum, total, s)
        if isinstance(values, tl.tensor):
            store_features(scratch[1], rows.part, rows.exist, columns, values, s)
    else:
        _finish(rows, maximum, total, values, inputs, results, columns, s)


@triton.jit(do_not_specialize=INTEGERS)
def merge_kernel(
    groups,
    inputs,
    results,
    scratch,
    counts_at: tl.int64,
    order_at: tl.int64,
    chunk_ptr_at: tl.int64,
    s: tl.constexpr,
):
    """Makes a hub's row out of its chunks'."""
    columns = find_columns(s)
    hub = (tl.program_id(0) + tl.arange(0, 1))[:, None]
    exist = hub < tl.load(groups + counts_at)
    node = tl.load(groups + order_at + hub, mask=exist, other=0)
    begin = tl.load(groups + chunk_ptr_at + hub, mask=exist, other=0)
    end = tl.load(groups + chunk_ptr_at + hub + 1, mask=exist, other=0)
    rows = Rows(node, begin, end, exist, exist, hub)

    maximum = tl.full([s.rows, s.lanes, s.block_heads], -float("inf"), s.wide)
    total = tl.full([s.rows, s.lanes, s.block_heads], 0, s.wide)
    values = tl.full([s.rows, s.lanes, s.block_heads, s.block_channels], 0, s.wide) if results.out is not None else ()
    for step in range(steps(rows, s)):
        part, inside = slots(rows, step, s)
        theirs, sums = load_statistics(scratch[0], part, inside, columns, s)
        theirs = tl.where(inside[:, :, None], theirs, -float("inf"))
        largest = tl.maximum(maximum, theirs)
        old, new = tl.exp(maximum - finite(largest)), tl.exp(theirs - finite(largest))
        total = total * old + sums * new
        maximum = largest
        if isinstance(values, tl.tensor):
            more = load_features(scratch[1], part, inside, columns, s)
            values = values * old[:, :, :, None] + more * new[:, :, :, None]
    maximum, total, values = _merge(maximum, total, values)
    _finish(rows, maximum, total, values, inputs, results, columns, s)


@triton.jit(do_not_specialize=("row_at", "edge_at", "num_edges"))
def alpha_kernel(
    graph,
    inputs,
    stats,
    alpha,  # the scores, in the caller's order; becomes the weights
    seed,
    row_at: tl.int64,
    edge_at: tl.int64,
    num_edges: tl.int64,
    threshold: tl.int64,
    keep: tl.float64,
    s: tl.constexpr,
):
    """Weights out of scores, edge by edge in transposed order, where targets are at hand."""
    columns = find_columns(s)
    slot = tl.program_id(0).to(tl.int64) * s.lanes + tl.arange(0, s.lanes)[None, :]
    inside = slot < num_edges
    target = tl.load(graph + row_at + slot, mask=inside, other=0)
    edge = tl.load(graph + edge_at + slot, mask=inside, other=0)
    maximum, total = load_statistics(stats, target, inside, columns, s)
    weight = tl.exp(load_heads(alpha, edge, inside, columns, s) - maximum) / total
    weight = weighted(weight, inputs.edge_weight, edge, inside, columns, s)
    if s.dropout:
        weight = weight * dropout_factors(seed, edge, threshold, keep, s)
    store_heads(alpha, edge, inside, columns, weight, s)

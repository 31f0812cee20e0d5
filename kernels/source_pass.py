"""The backward's pass over source rows, along the transposed graph: sums over a source's out-edges, without atomics."""

import triton
import triton.language as tl

from .edges import Source, Target, edge_gradient, edge_terms, load_divisor
from .scores import feature_gradients
from .setup import INTEGERS
from .tiles import (
    find_columns,
    find_rows,
    load_features,
    load_heads,
    load_parameters,
    load_statistics,
    slots,
    steps,
    store_features,
    store_heads,
)


@triton.jit(do_not_specialize=INTEGERS)
def source_kernel(
    graph,
    groups,
    inputs,
    grads,
    found,  # Inputs: where gradients go; of chunks partial ones
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
    source = Source(
        load_features(inputs.k, rows.node, rows.exist, columns, s),
        load_features(inputs.v, rows.node, rows.exist, columns, s),
        load_heads(inputs.a_src, rows.node, rows.exist, columns, s),
    )
    att = load_parameters(inputs.att, columns, s)
    k_sum = tl.full([s.rows, s.lanes, s.block_heads, s.block_channels], 0, s.wide)
    v_sum = tl.full([s.rows, s.lanes, s.block_heads, s.block_channels], 0, s.wide)
    src_sum = tl.full([s.rows, s.lanes, s.block_heads], 0, s.wide)
    for step in range(steps(rows, s)):
        slot, inside = slots(rows, step, s)
        node = tl.load(graph + node_at + slot, mask=inside, other=0)
        edge = tl.load(graph + edge_at + slot, mask=inside, other=0)
        maximum, total = load_statistics(grads.stats, node, inside, columns, s)
        target = Target(
            load_features(inputs.q, node, inside, columns, s),
            load_heads(inputs.a_dst, node, inside, columns, s),
            load_divisor(inputs.divisor, node, inside, columns, s),
            maximum,
            total,
            load_features(grads.out, node, inside, columns, s),
        )
        e = load_features(inputs.edge, edge, inside, columns, s)
        terms = edge_terms(
            target, source, e, att, edge, inside, inputs, grads.alpha, None, seed, threshold, keep, columns, s
        )
        if grads.dalpha_t is not None:
            store_heads(grads.dalpha_t, slot, inside, columns, terms.dalpha, s)
        d = load_heads(grads.d, node, inside, columns, s)
        by = edge_gradient(terms, d, target.divisor, inputs, edge, inside, columns, s)
        if found.a_src is not None:
            src_sum += by.score
        if found.k is not None:
            dw = load_features(grads.edge, edge, inside, columns, s)
            _, dk, _ = feature_gradients(by.score, dw, target.q, source.k, e, att, s)
            k_sum += dk
            if s.score == "gatv2" and isinstance(target.grad_out, tl.tensor):  # its keys are the values too
                k_sum += by.weight[:, :, :, None] * target.grad_out
        if found.v is not None and isinstance(target.grad_out, tl.tensor):
            v_sum += by.weight[:, :, :, None] * target.grad_out

    at = rows.part if s.group == "chunk" else rows.node
    if found.k is not None:
        store_features(found.k, at, rows.exist, columns, tl.sum(k_sum, 1, keep_dims=True), s)
    if found.v is not None:
        store_features(found.v, at, rows.exist, columns, tl.sum(v_sum, 1, keep_dims=True), s)
    if found.a_src is not None:
        store_heads(found.a_src, at, rows.exist, columns, tl.sum(src_sum, 1, keep_dims=True), s)

"""The backward's pass over target rows: everything that is a sum over a target's edges or one number an edge."""

import triton
import triton.language as tl

from .edges import edge_gradient, edge_terms
from .gatv2 import gatv2_att_gradient
from .scores import feature_gradients
from .setup import INTEGERS
from .target_row import load_source, load_target, sink_terms
from .tiles import (
    find_columns,
    find_rows,
    load_features,
    load_heads,
    load_parameters,
    slots,
    steps,
    store_features,
    store_heads,
)


@triton.jit
def _target_block(
    rows,
    att_sum,
    hop_sum,
    sink_sum,
    graph,
    node_at,
    edge_at,
    transposed_at,
    inputs,
    grads,
    found,
    seed,
    threshold,
    keep,
    columns,
    s: tl.constexpr,
):
    """One block of rows; returns the sums over all rows with its own parts."""
    target = load_target(rows, inputs, grads, columns, s)
    att = load_parameters(inputs.att, columns, s)
    d = load_heads(grads.d, rows.node, rows.exist, columns, s)
    dq_sum = tl.full([s.rows, s.lanes, s.block_heads, s.block_channels], 0, s.wide)
    dst_sum = tl.full([s.rows, s.lanes, s.block_heads], 0, s.wide)
    divisor_sum = tl.full([s.rows, s.lanes, s.block_heads], 0, s.wide)
    for step in range(steps(rows, s)):
        slot, inside = slots(rows, step, s)
        node = tl.load(graph + node_at + slot, mask=inside, other=0)
        edge = tl.load(graph + edge_at + slot, mask=inside, other=0)
        source = load_source(inputs, node, inside, columns, s)
        e = load_features(inputs.edge, edge, inside, columns, s)
        known = load_heads(grads.dalpha, slot, inside, columns, s)
        if grads.dalpha_t is not None:
            transposed = tl.load(graph + transposed_at + slot, mask=inside, other=0)
            known = load_heads(grads.dalpha_t, transposed, inside, columns, s)
        terms = edge_terms(
            target, source, e, att, edge, inside, inputs, grads.alpha, known, seed, threshold, keep, columns, s
        )
        by = edge_gradient(terms, d, target.divisor, inputs, edge, inside, columns, s)
        if found.edge_weight is not None:
            store_heads(found.edge_weight, edge, inside, columns, by.edge_weight, s)
        if found.a_edge is not None:
            store_heads(found.a_edge, edge, inside, columns, by.score, s)
        if found.a_dst is not None:
            dst_sum += by.score
        if found.divisor is not None:
            divisor_sum += by.divisor
        if found.hop is not None:
            hop_sum += by.hop
        if isinstance(target.q, tl.tensor):
            dw = load_features(grads.edge, edge, inside, columns, s)
            dq, _, de = feature_gradients(by.score, dw, target.q, source.k, e, att, s)
            if found.q is not None:
                dq_sum += dq
            if found.att is not None:
                att_sum += gatv2_att_gradient(by.score, target.q, source.k, e, s)
            if found.edge is not None:
                if s.score == "dot" and isinstance(target.grad_out, tl.tensor):  # edges are part of the values too
                    de += by.weight[:, :, :, None] * target.grad_out
                store_features(found.edge, edge, inside, columns, de, s)

    at = rows.part if s.group == "chunk" else rows.node
    if found.q is not None:
        store_features(found.q, at, rows.exist, columns, tl.sum(dq_sum, 1, keep_dims=True), s)
    if found.a_dst is not None:
        store_heads(found.a_dst, at, rows.exist, columns, tl.sum(dst_sum, 1, keep_dims=True), s)
    if found.divisor is not None:
        total = tl.sum(divisor_sum, 1, keep_dims=True)
        store_heads(found.divisor, at, rows.exist, columns, -total / target.divisor, s)
    if inputs.sink_logit is not None:
        share, dalpha = sink_terms(rows, target, inputs, columns, s)
        if found.sink_logit is not None:
            store_heads(found.sink_logit, rows.node, rows.first, columns, share * (dalpha - d), s)
        if found.sink_value is not None and isinstance(target.grad_out, tl.tensor):
            sink_sum += share[:, :, :, None] * target.grad_out
    return att_sum, hop_sum, sink_sum


@triton.jit(do_not_specialize=("num_blocks", "program_at", "transposed_at", *INTEGERS))
def target_kernel(
    graph,
    groups,
    inputs,
    grads,
    found,  # Inputs: where gradients go; of chunks, and of att, hop and sink_value, partial ones
    seed,
    num_blocks: tl.int64,
    program_at: tl.int64,  # number of this launch's first program
    transposed_at: tl.int64,  # of the slots' places in transposed order
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
    att_sum = tl.full([s.rows, s.lanes, s.block_heads, s.block_channels], 0, s.wide)
    hop_sum = tl.full([s.rows, s.lanes, s.block_heads], 0, s.wide)
    sink_sum = tl.full([s.rows, 1, s.block_heads, s.block_channels], 0, s.wide)
    for block in range(tl.program_id(0), num_blocks, tl.num_programs(0)):
        rows = find_rows(block, graph, groups, ptr_at, counts_at, order_at, chunk_ptr_at, chunk_hub_at, chunk, s)
        att_sum, hop_sum, sink_sum = _target_block(
            rows,
            att_sum,
            hop_sum,
            sink_sum,
            graph,
            node_at,
            edge_at,
            transposed_at,
            inputs,
            grads,
            found,
            seed,
            threshold,
            keep,
            columns,
            s,
        )
    at = (program_at + tl.program_id(0) + tl.arange(0, 1))[:, None]
    one = at >= 0
    if found.att is not None:
        store_features(found.att, at, one, columns, _over_rows(att_sum), s)
    if found.hop is not None:
        total = tl.sum(tl.sum(hop_sum, 1, keep_dims=True), 0, keep_dims=True)
        store_heads(found.hop, at, one, columns, total, s)
    if found.sink_value is not None:
        store_features(found.sink_value, at, one, columns, _over_rows(sink_sum), s)


@triton.jit
def _over_rows(tile):
    return tl.sum(tl.sum(tile, 1, keep_dims=True), 0, keep_dims=True)

"""D of every target, which the gradient of each of its scores takes: from the edges, or from the result."""

import triton
import triton.language as tl

from .edges import edge_terms
from .setup import INTEGERS
from .target_row import load_source, load_target, sink_terms
from .tiles import (
    find_columns,
    find_rows,
    load_features,
    load_parameters,
    slots,
    steps,
    store_heads,
)


@triton.jit(do_not_specialize=INTEGERS)
def d_kernel(
    graph,
    groups,
    inputs,
    grads,
    found,  # Inputs: D [N_dst, H] goes to divisor, a tensor of that shape; of chunks partial ones
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
    target = load_target(rows, inputs, grads, columns, s)
    att = load_parameters(inputs.att, columns, s)
    d = tl.full([s.rows, s.lanes, s.block_heads], 0, s.wide)
    for step in range(steps(rows, s)):
        slot, inside = slots(rows, step, s)
        node = tl.load(graph + node_at + slot, mask=inside, other=0)
        edge = tl.load(graph + edge_at + slot, mask=inside, other=0)
        source = load_source(inputs, node, inside, columns, s)
        e = load_features(inputs.edge, edge, inside, columns, s)
        terms = edge_terms(
            target, source, e, att, edge, inside, inputs, grads.alpha, None, seed, threshold, keep, columns, s
        )
        if grads.dalpha is not None:
            store_heads(grads.dalpha, slot, inside, columns, terms.dalpha, s)
        d += terms.share * terms.dalpha
    d = tl.sum(d, 1, keep_dims=True)
    if inputs.sink_logit is not None:
        share, dalpha = sink_terms(rows, target, inputs, columns, s)
        d += share * dalpha
    at = rows.part if s.group == "chunk" else rows.node
    store_heads(found.divisor, at, rows.exist, columns, d, s)


@triton.jit(do_not_specialize=("num_rows",))
def d_of_out_kernel(
    out,  # [N_dst, H, C], not rounded
    grad_out,
    d,
    num_rows: tl.int64,
    s: tl.constexpr,
):
    """D without a walk over the edges: ``sum p (g . value) = g . out``, the sink's share included."""
    columns = find_columns(s)
    row = (tl.program_id(0).to(tl.int64) * s.rows + tl.arange(0, s.rows))[:, None]
    exist = row < num_rows
    product = load_features(out, row, exist, columns, s) * load_features(grad_out, row, exist, columns, s)
    store_heads(d, row, exist, columns, tl.sum(product, 3), s)

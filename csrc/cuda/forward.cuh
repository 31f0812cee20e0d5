// The forward pass over target rows: score, softmax, dropout, sum of values.
//
// Every slot of a row keeps its own maximum, sum and accumulator, so that the loop needs no exchange between slots;
// they are merged at the end of the row, and a hub's chunks by a second kernel.
#pragma once

#include "softmax.cuh"

namespace gattn::cuda {

template <class S, class T, int V, int N>
GATTN_KERNEL void forward_kernel(const Arguments a) {
  using W = wide_t<T>;
  const Place<V, N> at(a);
  const Row row = find_row(a.walk, at, blockIdx.x);
  const Numbers<W> n = numbers_of<W>(a);
  Features<S, T, V, N> f;
  f.load_target(a, row.node, row.exists, at, at.tile);
  f.load_parameters(a, at, at.tile);
  Softmax<W, N> state;
  for (int64_t slot = row.begin + row.slot; any(slot < row.end); slot += row.slots) {
    const bool inside = slot < row.end;
    const int64_t source = inside ? a.walk.node[slot] : 0;
    const int64_t edge = inside ? a.walk.edge[slot] : 0;
    f.prefetch_source(a, row, slot, at);
    f.load_source(a, source, inside, at, at.tile);
    f.load_edge(a, edge, inside, at, at.tile);
    if constexpr (S::kEdgeStream) {
      if (a.edge_out != nullptr && inside) {
        W products[N];
#pragma unroll
        for (int i = 0; i < N; ++i) products[i] = S::term(f.channel(i), n);
        store_features<T>(a.edge_out, edge, at, products);
      }
    }
    const Sums<W> sums = edge_sums<false>(a, f, n, source, row.node, edge, inside, at);
    if (!inside) continue;
    const W score = logit_of<S>(a, n, sums.term, source, row.node, edge, true, at).score;
    if (a.alpha != nullptr && at.writes_heads()) store_head(a.alpha, edge, at, score);
    const W weight = load_head(a.in.edge_weight, edge, true, at, W(1));
    // An edge of weight 0 has no say in how far exponentials may reach.
    const W subtracted = state.raise(weight == 0 ? -static_cast<W>(INFINITY) : score);
    W part = weighted(exp(score - subtracted), weight);
    state.total += part;
    if constexpr (S::kValues) {
      part *= dropout_factor<W>(a, edge, at);
#pragma unroll
      for (int i = 0; i < N; ++i) state.values[i] += part * f.value(i);
    }
  }
  state.merge(row, at);
  if (a.walk.group != Group::chunk) {
    finish_row<T>(a, row, state, at);
  } else if (row.exists && row.slot == 0) {
    if (at.writes_heads()) {
      store_head(a.chunk_stats, 2 * row.part, at, state.maximum);
      store_head(a.chunk_stats, 2 * row.part + 1, at, state.total);
    }
    if constexpr (S::kValues) store_features<W>(a.sums, row.part, at, state.values);
  }
}

// Weights out of scores, edge by edge in transposed order, where targets are at hand. A thread has one head.
template <class W>
GATTN_KERNEL void alpha_kernel(const Arguments a) {
  const Place<1, 1> at(a);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t slot = (static_cast<int64_t>(blockIdx.x) * kWarps + warp) * at.slots + at.slot;
  if (slot >= a.count || !at.head_exists) return;
  const int64_t target = a.walk.node[slot];
  const int64_t edge = a.walk.edge[slot];
  const Statistics<W> row = load_statistics<W>(a.row_stats, target, true, at);
  const W score = load_head(a.alpha, edge, true, at, W(0));
  const W weight = load_head(a.in.edge_weight, edge, true, at, W(1));
  const W factor = a.in.undropped ? W(1) : dropout_factor<W>(a, edge, at);
  store_head(a.alpha, edge, at, weighted(exp(score - row.maximum) / row.total, weight) * factor);
}

}  // namespace gattn::cuda

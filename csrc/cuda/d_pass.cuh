// D of every target, which the gradient of each of its scores takes: from the edges, or from the result.
#pragma once

#include "edges.cuh"

namespace gattn::cuda {

// The sink's share of a row and its dalpha; 0 for all but the row's first part.
template <class W>
struct SinkTerms {
  W share = 0, dalpha = 0;
};

template <class S, class T, int V, int N>
__device__ SinkTerms<wide_t<T>> sink_terms(const Arguments& a, const Row& row, const Place<V, N>& at) {
  using W = wide_t<T>;
  SinkTerms<W> sink;
  if (a.in.sink_logit == nullptr) return sink;
  const Statistics<W> of_row = load_statistics<W>(a.row_stats, row.node, row.exists, at);
  const W logit = load_head(a.in.sink_logit, row.node, row.exists, at, W(0));
  if (row.first) sink.share = exp(logit - of_row.maximum) / of_row.total;
  if constexpr (S::kValues) {
    for (int tile = 0; tile < at.tiles; ++tile) {
      W g[N], value[N];
      load_features<T>(a.grad_out, row.node, row.exists, at, tile, g);
      load_features<W>(a.in.sink_value, 0, true, at, tile, value);
#pragma unroll
      for (int i = 0; i < N; ++i) sink.dalpha += g[i] * value[i];
    }
    sink.dalpha = head_sum(sink.dalpha, at.lanes);
  }
  return sink;
}

template <class S, class T, int V, int N>
GATTN_KERNEL void d_kernel(const Arguments a) {
  using W = wide_t<T>;
  const Place<V, N> at(a);
  const Row row = find_row(a.walk, at, blockIdx.x);
  const Numbers<W> n = numbers_of<W>(a);
  Features<S, T, V, N> f;
  f.load_target(a, row.node, row.exists, at, at.tile);
  f.load_parameters(a, at, at.tile);
  W d = 0;
  for (int64_t slot = row.begin + row.slot; any(slot < row.end); slot += row.slots) {
    const bool inside = slot < row.end;
    const int64_t source = inside ? a.walk.node[slot] : 0;
    const int64_t edge = inside ? a.walk.edge[slot] : 0;
    f.prefetch_source(a, row, slot, at);
    f.load_source(a, source, inside, at, at.tile);
    f.load_edge(a, edge, inside, at, at.tile);
    const Terms<W> x = edge_terms(a, n, f, source, row.node, edge, inside, {}, at);
    if (a.dalpha_found != nullptr && inside && at.writes_heads()) store_head(a.dalpha_found, slot, at, x.dalpha);
    d += weighted(x.softmax, x.weight) * x.dalpha;
  }
  d = combine_row(d, row, at, Sum());
  const SinkTerms<W> sink = sink_terms<S, T>(a, row, at);
  d += sink.share * sink.dalpha;
  if (row.exists && row.slot == 0 && at.writes_heads())
    store_head(a.d, a.walk.group == Group::chunk ? row.part : row.node, at, d);
}

// D without a walk over the edges: sum p (g . value) = g . out, the sink's share included. `out` is not rounded.
template <class T, int V, int N>
GATTN_KERNEL void d_of_out_kernel(const Arguments a) {
  using W = wide_t<T>;
  const Place<V, N> at(a);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kWarps + warp) * at.slots + at.slot;
  W d = 0;
  for (int tile = 0; tile < at.tiles; ++tile) {
    W out[N], g[N];
    load_features<T>(a.saved_out, row, row < a.count, at, tile, out);
    load_features<T>(a.grad_out, row, row < a.count, at, tile, g);
#pragma unroll
    for (int i = 0; i < N; ++i) d += out[i] * g[i];
  }
  d = head_sum(d, at.lanes);
  if (row < a.count && at.writes_heads()) store_head(a.d, row, at, d);
}

}  // namespace gattn::cuda

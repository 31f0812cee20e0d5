// The backward's pass over target rows: everything that is a sum over a target's edges or one number an edge.
#pragma once

#include "d_pass.cuh"
#include "source_pass.cuh"

namespace gattn::cuda {

// Sums over all the rows of a block.
template <class W, int N>
struct OverRows {
  W att[N] = {}, sink_value[N] = {}, hop[1] = {};
};

// What a target's edge gives beside the sums over its row: gradients of its own, and its part of those over all rows.
template <class S, class T, int V, int N>
__device__ void add_features(const Arguments& a, const Numbers<wide_t<T>>& n, const Features<S, T, V, N>& f,
                             const EdgeGradient<wide_t<T>>& by, int64_t edge, const Place<V, N>& at,
                             wide_t<T> (&q_sum)[N], OverRows<wide_t<T>, N>& over) {
  using W = wide_t<T>;
  W dw[N], de[N];
  if constexpr (S::kEdgeStream) load_features<T>(a.grad_edge, edge, true, at, at.tile, dw);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const ByFeature<W> d = S::gradient(by.score, S::kEdgeStream ? dw[i] : W(0), f.channel(i), n);
    q_sum[i] += d.q;
    de[i] = d.e;
    if constexpr (S::kEdgesAreValues) de[i] += by.value * f.g[i];
    if constexpr (S::kAtt) over.att[i] += S::att_gradient(by.score, f.channel(i), n);
  }
  if (a.found.edge != nullptr) store_features<T>(a.found.edge, edge, at, de);
}

template <class S, class T, int V, int N>
__device__ void target_block(const Arguments& a, int64_t block, const Place<V, N>& at, const Numbers<wide_t<T>>& n,
                             OverRows<wide_t<T>, N>& over) {
  using W = wide_t<T>;
  const Row row = find_row(a.walk, at, block);
  Features<S, T, V, N> f;
  f.load_target(a, row.node, row.exists, at, at.tile);
  f.load_parameters(a, at, at.tile);
  W q_sum[N] = {}, logit_sum = 0, divisor_sum = 0;
  for (int64_t slot = row.begin + row.slot; any(slot < row.end); slot += row.slots) {
    const bool inside = slot < row.end;
    const int64_t source = inside ? a.walk.node[slot] : 0;
    const int64_t edge = inside ? a.walk.edge[slot] : 0;
    f.prefetch_source(a, row, slot, at);
    f.load_source(a, source, inside, at, at.tile);
    f.load_edge(a, edge, inside, at, at.tile);
    Known<W> known;
    known.is = a.dalpha_known != nullptr;
    if (known.is && inside)
      known.dalpha =
          load_head(a.dalpha_known, a.dalpha_slot.data != nullptr ? a.dalpha_slot[slot] : slot, true, at, W(0));
    const Terms<W> x = edge_terms(a, n, f, source, row.node, edge, inside, known, at);
    if (!inside) continue;
    const EdgeGradient<W> by = edge_gradient<S>(a, n, x, row.node, true, at);
    if (a.found.edge_weight != nullptr && at.writes_heads()) store_head(a.found.edge_weight, edge, at, by.edge_weight);
    if (a.found.a_edge != nullptr && at.writes_heads()) store_head(a.found.a_edge, edge, at, by.score);
    logit_sum += by.score;
    divisor_sum += by.divisor;
    over.hop[0] += by.hop;
    if constexpr (S::kProducts) add_features(a, n, f, by, edge, at, q_sum, over);
  }
  if constexpr (S::kProducts)
    if (a.found.q != nullptr) store_row<T>(a, a.found.q, row, q_sum, at);
  if constexpr (S::kLogits)
    if (a.found.a_dst != nullptr) store_row_head(a, a.found.a_dst, row, logit_sum, at);
  if (a.found.divisor != nullptr)
    store_row_head(a, a.found.divisor, row, -divisor_sum / load_head(a.in.divisor, row.node, row.exists, at, W(1)), at);
  if (a.in.sink_logit == nullptr) return;
  const SinkTerms<W> sink = sink_terms<S, T>(a, row, at);
  if (!row.first || row.slot != 0) return;
  if (a.found.sink_logit != nullptr && at.writes_heads())
    store_head(a.found.sink_logit, row.node, at, sink.share * (sink.dalpha - load_head(a.d, row.node, true, at, W(0))));
  if constexpr (S::kValues) {
#pragma unroll
    for (int i = 0; i < N; ++i) over.sink_value[i] += sink.share * f.g[i];
  }
}

template <class S, class T, int V, int N>
GATTN_KERNEL void target_kernel(const Arguments a) {
  using W = wide_t<T>;
  const Place<V, N> at(a);
  const Numbers<W> n = numbers_of<W>(a);
  OverRows<W, N> over;
  for (int64_t block = blockIdx.x; block < a.blocks; block += gridDim.x) target_block<S, T>(a, block, at, n, over);

  const int64_t part = a.first_part + blockIdx.x;
  const int span = kWarp / at.slots;
  const bool writes = threadIdx.x < static_cast<unsigned>(span);
  if constexpr (S::kAtt) {
    if (a.found.att != nullptr) {
      combine_block(over.att, span, Sum());
      if (writes) store_features<W>(a.found.att, part, at, over.att);
    }
  }
  if (a.found.hop != nullptr) {
    combine_block(over.hop, span, Sum());
    if (writes && at.writes_heads()) store_head(a.found.hop, part, at, over.hop[0]);
  }
  if constexpr (S::kValues) {
    if (a.found.sink_value != nullptr) {
      combine_block(over.sink_value, span, Sum());
      if (writes) store_features<W>(a.found.sink_value, part, at, over.sink_value);
    }
  }
}

}  // namespace gattn::cuda

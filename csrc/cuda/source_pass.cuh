// The backward's pass over source rows, along the transposed graph: sums over a source's out-edges, without atomics.
#pragma once

#include "edges.cuh"

namespace gattn::cuda {

// A row's sum of features: rounded, or wide where it is a chunk's part.
template <class T, int V, int N>
__device__ void store_row(const Arguments& a, void* to, const Row& row, wide_t<T> (&sum)[N], const Place<V, N>& at) {
  combine_row(sum, row, at, Sum());
  if (!row.exists || row.slot != 0) return;
  if (a.walk.group == Group::chunk)
    store_features<wide_t<T>>(to, row.part, at, sum);
  else
    store_features<T>(to, row.node, at, sum);
}

// A row's sum of one number a head.
template <class W, int V, int N>
__device__ void store_row_head(const Arguments& a, void* to, const Row& row, W sum, const Place<V, N>& at) {
  sum = combine_row(sum, row, at, Sum());
  if (row.exists && row.slot == 0 && at.writes_heads())
    store_head(to, a.walk.group == Group::chunk ? row.part : row.node, at, sum);
}

template <class S, class T, int V, int N>
GATTN_KERNEL void source_kernel(const Arguments a) {
  using W = wide_t<T>;
  const Place<V, N> at(a);
  const Row row = find_row(a.walk, at, blockIdx.x);
  const Numbers<W> n = numbers_of<W>(a);
  Features<S, T, V, N> f;
  f.load_source(a, row.node, row.exists, at, at.tile);
  f.load_parameters(a, at, at.tile);
  W k_sum[N] = {}, v_sum[N] = {}, logit_sum = 0;
  for (int64_t slot = row.begin + row.slot; any(slot < row.end); slot += row.slots) {
    const bool inside = slot < row.end;
    const int64_t target = inside ? a.walk.node[slot] : 0;
    const int64_t edge = inside ? a.walk.edge[slot] : 0;
    f.prefetch_target(a, row, slot, at);
    f.load_target(a, target, inside, at, at.tile);
    f.load_edge(a, edge, inside, at, at.tile);
    const Terms<W> x = edge_terms(a, n, f, row.node, target, edge, inside, {}, at);
    if (!inside) continue;
    if (a.dalpha_found != nullptr && at.writes_heads()) store_head(a.dalpha_found, slot, at, x.dalpha);
    const EdgeGradient<W> by = edge_gradient<S>(a, n, x, target, true, at);
    logit_sum += by.score;
    if constexpr (S::kProducts) {
      if (a.found.k != nullptr) {
        W dw[N];
        if constexpr (S::kEdgeStream) load_features<T>(a.grad_edge, edge, true, at, at.tile, dw);
#pragma unroll
        for (int i = 0; i < N; ++i) {
          k_sum[i] += S::gradient(by.score, S::kEdgeStream ? dw[i] : W(0), f.channel(i), n).k;
          if constexpr (S::kKeysAreValues) k_sum[i] += by.value * f.g[i];
        }
      }
    }
    if constexpr (S::kValues && !S::kKeysAreValues) {
#pragma unroll
      for (int i = 0; i < N; ++i) v_sum[i] += by.value * f.g[i];
    }
  }
  if constexpr (S::kProducts)
    if (a.found.k != nullptr) store_row<T>(a, a.found.k, row, k_sum, at);
  if constexpr (S::kValues && !S::kKeysAreValues)
    if (a.found.v != nullptr) store_row<T>(a, a.found.v, row, v_sum, at);
  if constexpr (S::kLogits)
    if (a.found.a_src != nullptr) store_row_head(a, a.found.a_src, row, logit_sum, at);
}

}  // namespace gattn::cuda

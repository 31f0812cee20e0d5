// The state of an online softmax with its sum of values, and the end of a row.
#pragma once

#include "edges.cuh"

namespace gattn::cuda {

template <class W, int N>
struct Softmax {
  W maximum = -static_cast<W>(INFINITY);
  W total = 0;
  W values[N] = {};

  // Raises the maximum; returns what to subtract from exponents now.
  __device__ W raise(W score) {
    const W largest = Max()(maximum, score), subtracted = finite(largest), part = exp(maximum - subtracted);
    total *= part;
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] *= part;
    maximum = largest;
    return subtracted;
  }

  // Those of all threads that share a row as one.
  template <int V>
  __device__ void merge(const Row& row, const Place<V, N>& at) {
    raise(combine_row(maximum, row, at, Max()));
    W all[N + 1];
    all[N] = total;
#pragma unroll
    for (int i = 0; i < N; ++i) all[i] = values[i];
    combine_row(all, row, at, Sum());
    total = all[N];
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = all[i];
  }
};

// Takes the sink and epsilon into a row's sum, and writes the row.
template <class T, int V, int N>
__device__ void finish_row(const Arguments& a, const Row& row, Softmax<wide_t<T>, N>& state, const Place<V, N>& at) {
  using W = wide_t<T>;
  if (!row.exists || row.slot != 0 || !at.head_exists) return;
  const W sink = load_head(a.in.sink_logit, row.node, true, at, -static_cast<W>(INFINITY));
  const W subtracted = state.raise(sink);
  if (a.in.epsilon > 0) state.total += static_cast<W>(a.in.epsilon) * exp(-subtracted);
  if (a.in.sink_logit != nullptr) {
    const W share = exp(sink - subtracted);
    state.total += share;
    W value[N];
    load_features<W>(a.in.sink_value, 0, true, at, at.tile, value);
#pragma unroll
    for (int i = 0; i < N; ++i) state.values[i] += share * value[i];
  }
  if (row.begin == row.end && state.total == 0) state.total = 1;  // nothing in it
  if (at.writes_heads()) {
    store_head(a.row_stats, 2 * row.node, at, subtracted);
    store_head(a.row_stats, 2 * row.node + 1, at, state.total);
  }
  if (a.out == nullptr) return;
#pragma unroll
  for (int i = 0; i < N; ++i) state.values[i] /= state.total;
  store_features<T>(a.out, row.node, at, state.values);
}

// A hub's row out of its chunks.
template <class T, int V, int N>
GATTN_KERNEL void merge_kernel(const Arguments a) {
  using W = wide_t<T>;
  const Place<V, N> at(a);
  Row row = find_row(a.walk, at, blockIdx.x);
  Softmax<W, N> state;
  if (row.exists) {
    const int64_t end = a.walk.chunk_ptr[row.part + 1];
    for (int64_t chunk = a.walk.chunk_ptr[row.part] + row.slot; chunk < end; chunk += row.slots) {
      const W maximum = load_head(a.chunk_stats, 2 * chunk, true, at, W(0));
      const W part = exp(maximum - state.raise(maximum));
      state.total += part * load_head(a.chunk_stats, 2 * chunk + 1, true, at, W(0));
      W values[N];
      load_features<W>(a.sums, chunk, true, at, at.tile, values);
#pragma unroll
      for (int i = 0; i < N; ++i) state.values[i] += part * values[i];
    }
  }
  state.merge(row, at);
  finish_row<T>(a, row, state, at);
}

}  // namespace gattn::cuda

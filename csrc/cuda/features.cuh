// Features in registers: a thread's channels of an edge and of its ends.
#pragma once

#include "reductions.cuh"
#include "scores.cuh"

namespace gattn::cuda {

// A row of [n, H, C]; zeros where there is nothing.
template <class T, int V, int N>
__device__ __forceinline__ void load_features(const void* from, int64_t row, bool exists, const Place<V, N>& at,
                                              int tile, wide_t<T> (&to)[N]) {
  const bool given = from != nullptr && exists && at.head_exists;
  const T* base = given ? static_cast<const T*>(from) + at.at(row) * at.channels : nullptr;
#pragma unroll
  for (int piece = 0; piece < N / V; ++piece) {
    const int64_t channel = at.channel(piece, tile);
    if (given && channel < at.channels) {
      load_pack<V>(base + channel, to + piece * V);
    } else {
#pragma unroll
      for (int i = 0; i < V; ++i) to[piece * V + i] = 0;
    }
  }
}

template <class T, int V, int N>
__device__ __forceinline__ void prefetch_features(const void* from, int64_t row, const Place<V, N>& at) {
  if (from == nullptr || !at.head_exists) return;
  const T* base = static_cast<const T*>(from) + at.at(row) * at.channels;
#pragma unroll
  for (int piece = 0; piece < N / V; ++piece) {
    const int64_t channel = at.channel(piece, at.tile);
    if (channel < at.channels) prefetch(base + channel);
  }
}

template <class T, int V, int N>
__device__ __forceinline__ void store_features(void* to, int64_t row, const Place<V, N>& at,
                                               const wide_t<T> (&from)[N]) {
  if (!at.head_exists) return;
  T* base = static_cast<T*>(to) + at.at(row) * at.channels;
#pragma unroll
  for (int piece = 0; piece < N / V; ++piece) {
    const int64_t channel = at.channel(piece, at.tile);
    if (channel < at.channels) store_pack<V>(base + channel, from + piece * V);
  }
}

// One number a head of [n, H].
template <class W, int V, int N>
__device__ __forceinline__ W load_head(const void* from, int64_t row, bool exists, const Place<V, N>& at, W none) {
  return from != nullptr && exists && at.head_exists ? static_cast<const W*>(from)[at.at(row)] : none;
}

template <class W, int V, int N>
__device__ __forceinline__ void store_head(void* to, int64_t row, const Place<V, N>& at, W x) {
  static_cast<W*>(to)[at.at(row)] = x;
}

// Edges of a row whose features are on their way while those of an earlier one are computed with.
constexpr int64_t kAhead = 2;

// An edge's features and the gradient of its target's result, one tile of them. Scores leave those they have not
// alone, and the compiler removes them.
template <class S, class T, int V, int N>
struct Features {
  using W = wide_t<T>;
  W q[N], k[N], v[N], e[N], att[N], g[N];

  __device__ void load_target(const Arguments& a, int64_t node, bool exists, const Place<V, N>& at, int tile) {
    if constexpr (S::kProducts) load_features<T>(a.in.q, node, exists, at, tile, q);
    if constexpr (S::kValues) load_features<T>(a.grad_out, node, exists, at, tile, g);
  }
  // Where dalpha is known, values that are no part of the score are not needed.
  __device__ void load_source(const Arguments& a, int64_t node, bool exists, const Place<V, N>& at, int tile) {
    if constexpr (S::kProducts) load_features<T>(a.in.k, node, exists, at, tile, k);
    if constexpr (S::kValues && !S::kKeysAreValues)
      load_features<T>(a.in.v, node, exists && a.dalpha_known == nullptr, at, tile, v);
  }
  __device__ void load_edge(const Arguments& a, int64_t edge, bool exists, const Place<V, N>& at, int tile) {
    if constexpr (S::kProducts) load_features<T>(a.in.edge, edge, exists, at, tile, e);
  }
  // The same of the edge that comes kAhead turns after `slot`, without waiting for it.
  __device__ void prefetch_source(const Arguments& a, const Row& row, int64_t slot, const Place<V, N>& at) {
    prefetch_edge(a, row, slot, S::kProducts ? a.in.k : nullptr,
                  S::kValues && !S::kKeysAreValues && a.dalpha_known == nullptr ? a.in.v : nullptr, at);
  }
  __device__ void prefetch_target(const Arguments& a, const Row& row, int64_t slot, const Place<V, N>& at) {
    prefetch_edge(a, row, slot, S::kProducts ? a.in.q : nullptr, S::kValues ? a.grad_out : nullptr, at);
  }
  __device__ void prefetch_edge(const Arguments& a, const Row& row, int64_t slot, const void* x, const void* y,
                                const Place<V, N>& at) {
    slot += kAhead * row.slots;
    if (slot >= row.end) return;
    const int64_t node = a.walk.node[slot];
    prefetch_features<T>(x, node, at);
    prefetch_features<T>(y, node, at);
    if constexpr (S::kProducts)
      if (a.in.edge != nullptr) prefetch_features<T>(a.in.edge, a.walk.edge[slot], at);
  }
  __device__ void load_parameters(const Arguments& a, const Place<V, N>& at, int tile) {
    if constexpr (S::kAtt) load_features<W>(a.in.att, 0, true, at, tile, att);
  }
  __device__ Channel<W> channel(int i) const {
    Channel<W> c{0, 0, 0, 0, 0};
    if constexpr (S::kProducts) c.q = q[i], c.k = k[i], c.e = e[i];
    if constexpr (S::kAtt) c.att = att[i];
    if constexpr (S::kValues && !S::kKeysAreValues) c.v = v[i];
    return c;
  }
  __device__ W value(int i) const {
    if constexpr (S::kKeysAreValues)
      return k[i];
    else if constexpr (S::kEdgesAreValues)
      return v[i] + e[i];
    else
      return v[i];
  }
};

// Sums over all of a head's channels: of the score, and of its target's gradient times the value.
template <class W>
struct Sums {
  W term = 0, dalpha = 0;
};

template <bool kGradient, class S, class T, int V, int N>
__device__ __forceinline__ void add_sums(const Features<S, T, V, N>& f, const Numbers<wide_t<T>>& n,
                                         Sums<wide_t<T>>& sums) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if constexpr (S::kProducts) sums.term += S::term(f.channel(i), n);
    if constexpr (kGradient && S::kValues) sums.dalpha += f.g[i] * f.value(i);
  }
}

// `f` has this block's tile; of heads wider than a tile, the others are read here.
template <bool kGradient, class S, class T, int V, int N>
__device__ __forceinline__ Sums<wide_t<T>> edge_sums(const Arguments& a, const Features<S, T, V, N>& f,
                                                     const Numbers<wide_t<T>>& n, int64_t source, int64_t target,
                                                     int64_t edge, bool inside, const Place<V, N>& at) {
  Sums<wide_t<T>> sums;
  add_sums<kGradient>(f, n, sums);
  for (int tile = 0; tile < at.tiles; ++tile) {
    if (tile == at.tile) continue;
    Features<S, T, V, N> other;
    other.load_target(a, target, inside, at, tile);
    other.load_source(a, source, inside, at, tile);
    other.load_edge(a, edge, inside, at, tile);
    other.load_parameters(a, at, tile);
    add_sums<kGradient>(other, n, sums);
  }
  if constexpr (S::kProducts) sums.term = head_sum(sums.term, at.lanes);
  if constexpr (kGradient && S::kValues)
    if (a.dalpha_known == nullptr) sums.dalpha = head_sum(sums.dalpha, at.lanes);
  return sums;
}

}  // namespace gattn::cuda

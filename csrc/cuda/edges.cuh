// What is done to every score, and what the backward passes know of an edge, whichever way they walk the graph.
//
// With g_i = dL/dout_i, q = the softmax without edge weights u and dropout factors r, p = u q:
//   dalpha = r g_i . value + dL/dalpha,  D_i = sum p dalpha (with the sink's share),  ds = q (dalpha - D_i)
#pragma once

#include "common/philox.h"
#include "features.cuh"

namespace gattn::cuda {

template <class W>
__device__ __forceinline__ Numbers<W> numbers_of(const Arguments& a) {
  return {static_cast<W>(a.in.negative_slope), static_cast<W>(a.in.scale), static_cast<W>(a.in.clip)};
}

// The maximum to subtract: 0 of nothing, whose terms are 0 whatever is subtracted.
template <class W>
__device__ __forceinline__ W finite(W maximum) {
  return maximum == -static_cast<W>(INFINITY) ? W(0) : maximum;
}

// x times the edge's own weight; 0 for a weight of 0, however large x is.
template <class W>
__device__ __forceinline__ W weighted(W x, W weight) {
  return weight == 0 ? W(0) : x * weight;
}

template <class W>
__device__ __forceinline__ W distance_of(const Arguments& a, int64_t edge) {
  switch (a.in.distance_dtype) {
    case DType::u8:
      return static_cast<W>(static_cast<const uint8_t*>(a.in.distance)[edge]);
    case DType::i8:
      return static_cast<W>(static_cast<const int8_t*>(a.in.distance)[edge]);
    case DType::i16:
      return static_cast<W>(static_cast<const int16_t*>(a.in.distance)[edge]);
    case DType::i32:
      return static_cast<W>(static_cast<const int32_t*>(a.in.distance)[edge]);
    default:
      return static_cast<W>(static_cast<const int64_t*>(a.in.distance)[edge]);
  }
}

template <int V, int N>
__device__ __forceinline__ bool is_dropped(const Arguments& a, int64_t edge, const Place<V, N>& at) {
  const auto words =
      philox(static_cast<uint64_t>(*a.seed), static_cast<uint64_t>(edge), static_cast<uint32_t>(at.head / 4));
  const int which = static_cast<int>(at.head % 4);  // not an index: registers have none
  const uint32_t low = which == 0 ? words.word[0] : words.word[1];
  const uint32_t high = which == 2 ? words.word[2] : words.word[3];
  return (which < 2 ? low : high) < a.threshold;
}

template <class W, int V, int N>
__device__ __forceinline__ W dropout_factor(const Arguments& a, int64_t edge, const Place<V, N>& at) {
  return a.seed == nullptr ? W(1) : is_dropped(a, edge, at) ? W(0) : static_cast<W>(a.keep);
}

// An edge's score on its way from the sum t.
template <class W>
struct Logit {
  W argument;  // of the activation: t / c
  W activated;
  W mask, by_hop;  // of the decay: M, and its derivative by hop over itself
  W score;
};

template <class S, class W, int V, int N>
__device__ __forceinline__ Logit<W> logit_of(const Arguments& a, const Numbers<W>& n, W sum, int64_t source,
                                             int64_t target, int64_t edge, bool inside, const Place<V, N>& at) {
  if constexpr (S::kLogits)
    sum += load_head(a.in.a_src, source, inside, at, W(0)) + load_head(a.in.a_dst, target, inside, at, W(0)) +
           load_head(a.in.a_edge, edge, inside, at, W(0));
  Logit<W> x;
  x.argument = a.in.divisor == nullptr ? sum : sum / load_head(a.in.divisor, target, inside, at, W(1));
  x.activated = S::activate(x.argument, n);
  x.mask = 1, x.by_hop = 0;
  if (a.in.distance != nullptr && inside) {
    const W excess = distance_of<W>(a, edge) - load_head(a.in.hop, 0, true, at, W(0));
    const W rate = static_cast<W>(a.log_gamma) * (excess > 0 ? W(1) : static_cast<W>(a.in.decay_slope));
    x.mask = exp(rate * excess), x.by_hop = -rate;
  }
  x.score = x.activated * x.mask;
  return x;
}

// Maximum and sum of a row [n, 2, H]; 0 and 1 where there is none.
template <class W>
struct Statistics {
  W maximum, total;
};
template <class W, int V, int N>
__device__ __forceinline__ Statistics<W> load_statistics(const void* from, int64_t row, bool exists,
                                                         const Place<V, N>& at) {
  return {load_head(from, 2 * row, exists, at, W(0)), load_head(from, 2 * row + 1, exists, at, W(1))};
}

// What an earlier pass has left of an edge.
template <class W>
struct Known {
  bool is = false;
  W dalpha = 0;
};

template <class W>
struct Terms {
  Logit<W> logit;
  W softmax;  // q
  W weight;   // u
  W factor;   // r
  W dalpha;
};

// Features: of this block's tile.
template <class S, class T, int V, int N>
__device__ __forceinline__ Terms<wide_t<T>> edge_terms(const Arguments& a, const Numbers<wide_t<T>>& n,
                                                       const Features<S, T, V, N>& f, int64_t source, int64_t target,
                                                       int64_t edge, bool inside, Known<wide_t<T>> known,
                                                       const Place<V, N>& at) {
  using W = wide_t<T>;
  const Sums<W> sums = edge_sums<true>(a, f, n, source, target, edge, inside, at);
  Terms<W> x;
  x.logit = logit_of<S>(a, n, sums.term, source, target, edge, inside, at);
  const Statistics<W> row = load_statistics<W>(a.row_stats, target, inside, at);
  x.softmax = inside ? exp(x.logit.score - row.maximum) / row.total : W(0);
  x.weight = load_head(a.in.edge_weight, edge, inside, at, W(1));
  x.factor = dropout_factor<W>(a, edge, at);
  if (known.is) {
    x.dalpha = known.dalpha;
  } else {
    const W given = load_head(a.grad_alpha, edge, inside, at, W(0));
    x.dalpha = a.in.undropped ? sums.dalpha * x.factor + given : (sums.dalpha + given) * x.factor;
  }
  return x;
}

// From D back to the score.
template <class W>
struct EdgeGradient {
  W score;        // dL/dt
  W edge_weight;  // dL/du
  W hop;          // the edge's part of dL/dhop
  W divisor;      // of -c dL/dc
  W value;        // r p, what its value is multiplied by
};

template <class S, class W, int V, int N>
__device__ __forceinline__ EdgeGradient<W> edge_gradient(const Arguments& a, const Numbers<W>& n, const Terms<W>& x,
                                                         int64_t target, bool inside, const Place<V, N>& at) {
  EdgeGradient<W> by;
  by.edge_weight = x.softmax * (x.dalpha - load_head(a.d, target, inside, at, W(0)));
  const W ds = weighted(by.edge_weight, x.weight) * x.logit.mask;
  by.hop = ds * x.logit.activated * x.logit.by_hop;
  const W dx = S::through_activation(ds, x.logit.argument, n);
  by.divisor = dx * x.logit.argument;
  by.score = a.in.divisor == nullptr ? dx : dx / load_head(a.in.divisor, target, inside, at, W(1));
  by.value = weighted(x.softmax, x.weight) * x.factor;
  return by;
}

}  // namespace gattn::cuda

// Arithmetic on a row's logits, laid out [edges, heads] and padded to a whole number of vectors.
#pragma once

#include "../../common/philox.h"
#include "exp.h"

namespace gattn::cpu::GATTN_ISA {

// Room a buffer of `edges` x `heads` needs, the padding included.
template <class A>
constexpr int64_t padded(int64_t edges, int64_t heads) {
  return (edges * heads + kLanes<A> - 1) / kLanes<A> * kLanes<A>;
}

// Calls function with the number of heads as a constant where it is a common one, and as itself otherwise.
template <int64_t H>
struct Heads {
  constexpr operator int64_t() const { return H; }
};
template <class Function>
inline void with_heads(int64_t heads, const Function& function) {
  switch (heads) {
    case 1: return function(Heads<1>{});
    case 2: return function(Heads<2>{});
    case 4: return function(Heads<4>{});
    case 8: return function(Heads<8>{});
    case 16: return function(Heads<16>{});
    default: return function(heads);
  }
}

// Calls function(width, h) for vectors of heads that cover all of them: whole vectors where the number is a constant,
// else single ones.
template <int W>
struct Width {
  static constexpr int value = W;
};
template <class A, int64_t H, class Function>
inline void for_head_lanes(Heads<H>, const Function& function) {
  constexpr int W = H < kLanes<A> ? static_cast<int>(H) : kLanes<A>;
  for (int64_t h = 0; h < H; h += W) function(Width<W>{}, h);
}
template <class A, class Function>
inline void for_head_lanes(int64_t heads, const Function& function) {
  for (int64_t h = 0; h < heads; ++h) function(Width<1>{}, h);
}

// LeakyReLU in place over a padded array.
template <class A>
inline void leaky_relu_array(A* values, int64_t count, A slope) {
  constexpr int W = kLanes<A>;
  for (int64_t i = 0; i < count; i += W) {
    const Vec<A, W> v = load<W>(values + i);
    store<W>(values + i, v > Vec<A, W>{} ? v : v * slope);
  }
}

// values[i] *= factors[i] over padded arrays.
template <class A>
inline void multiply_array(A* values, const A* factors, int64_t count) {
  constexpr int W = kLanes<A>;
  for (int64_t i = 0; i < count; i += W) store<W>(values + i, load<W>(values + i) * load<W>(factors + i));
}

// maximum[h] = max over edges; -inf for none.
template <class A>
inline void max_over_edges(A* values, int64_t edges, int64_t heads, A* maximum) {
  constexpr int W = kLanes<A>;
  for (int64_t h = 0; h < heads; ++h) maximum[h] = -static_cast<A>(__builtin_inff());
  if (W % heads == 0) {
    const int64_t count = edges * heads, room = padded<A>(edges, heads);
    for (int64_t i = count; i < room; ++i) values[i] = -static_cast<A>(__builtin_inff());
    Vec<A, W> best = splat<A, W>(-static_cast<A>(__builtin_inff()));
    for (int64_t i = 0; i < room; i += W) {
      const Vec<A, W> v = load<W>(values + i);
      best = v > best ? v : best;
    }
    for (int64_t l = 0; l < W; ++l) maximum[l % heads] = best[l] > maximum[l % heads] ? best[l] : maximum[l % heads];
  } else {
    for (int64_t k = 0; k < edges; ++k)
      for (int64_t h = 0; h < heads; ++h)
        maximum[h] = values[k * heads + h] > maximum[h] ? values[k * heads + h] : maximum[h];
  }
}

// values -= shift[h], then exp, and sum[h] over edges.
template <class A>
inline void exp_and_sum(A* values, int64_t edges, int64_t heads, const A* shift, A* sum) {
  constexpr int W = kLanes<A>;
  const int64_t count = edges * heads;
  for (int64_t h = 0; h < heads; ++h) sum[h] = 0;
  if (W % heads == 0) {
    const int64_t room = padded<A>(edges, heads);
    Vec<A, W> shifts{}, total{};
    for (int64_t l = 0; l < W; ++l) shifts[l] = shift[l % heads];
    for (int64_t i = 0; i < room; i += W) store<W>(values + i, load<W>(values + i) - shifts);
    exp_array(values, count);
    for (int64_t i = count; i < room; ++i) values[i] = 0;
    for (int64_t i = 0; i < room; i += W) total += load<W>(values + i);
    for (int64_t l = 0; l < W; ++l) sum[l % heads] += total[l];
  } else {
    for (int64_t k = 0; k < edges; ++k)
      for (int64_t h = 0; h < heads; ++h) values[k * heads + h] -= shift[h];
    exp_array(values, count);
    for (int64_t k = 0; k < edges; ++k)
      for (int64_t h = 0; h < heads; ++h) sum[h] += values[k * heads + h];
  }
}

// Inverted dropout: kept weights grow by 1 / (1 - p).
template <class A>
struct Dropout {
  uint64_t seed, threshold;
  A scale;

  Dropout(double p, uint64_t seed_) : seed(seed_), threshold(dropout_threshold(p)), scale(0) {
    if (p < 1.0) scale = static_cast<A>(1.0 / (1.0 - p));
  }
  bool active() const { return threshold != 0; }

  // factor[k, h] = 0 or scale, by the edge's id.
  template <class I>
  void factors(const I* edge_id, int64_t edges, int64_t heads, A* factor) const {
    for (int64_t k = 0; k < edges; ++k)
      for (int64_t h = 0; h < heads; h += 4) {
        const PhiloxWords words = philox(seed, static_cast<uint64_t>(edge_id[k]), static_cast<uint32_t>(h / 4));
        for (int64_t i = 0; i < 4 && h + i < heads; ++i)
          factor[k * heads + h + i] = words.word[i] < threshold ? A{0} : scale;
      }
  }
};

}  // namespace gattn::cpu::GATTN_ISA

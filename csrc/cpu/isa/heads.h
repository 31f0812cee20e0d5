// Arithmetic on a row's logits, laid out [edges, heads] and padded to a whole number of vectors.
#pragma once

#include "exp.h"

namespace gattn::cpu::GATTN_ISA {

// Room a buffer of `edges` x `heads` needs, the padding included.
template <class A>
constexpr int64_t padded(int64_t edges, int64_t heads) {
  return (edges * heads + kLanes<A> - 1) / kLanes<A> * kLanes<A>;
}

// A number of heads that is known when the code is compiled.
template <int64_t H>
struct Heads {
  constexpr operator int64_t() const { return H; }
};

// Calls function with the number of heads as a constant where it is a common one, and as itself otherwise. Each
// constant is compiled into every kernel, which takes most of the build: double precision does without.
template <class A, class Function>
inline void with_heads(int64_t heads, const Function& function) {
  if constexpr (sizeof(A) == sizeof(float)) {
    if (heads == 1) return function(Heads<1>{});
    if (heads == 2) return function(Heads<2>{});
    if (heads == 4) return function(Heads<4>{});
    if (heads == 8) return function(Heads<8>{});
  }
  return function(heads);
}

// Calls function(width, h) for vectors of heads that cover all of them: whole vectors where the number is a constant,
// else single ones.
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

// Combines the lanes of v that belong to the same head (lane % H), by halves: a fixed order.
template <class A, int W, int H, class Combine>
inline Vec<A, H> fold_to_heads(Vec<A, W> v, const Combine& combine) {
  if constexpr (W == H) {
    return v;
  } else {
    Vec<A, W / 2> low, high;
    halve<A, W>(v, &low, &high);
    return fold_to_heads<A, W / 2, H>(combine(low, high), combine);
  }
}

// The heads' numbers repeated over a whole vector.
template <class A, int W, int H>
inline Vec<A, W> repeat_heads(Vec<A, H> v) {
  if constexpr (W == H) {
    return v;
  } else if constexpr (H == 1) {
    return splat<A, W>(v);
  } else {
    const Vec<A, W / 2> half = repeat_heads<A, W / 2, H>(v);
    Vec<A, W> both;
    memcpy(&both, &half, sizeof(half));
    memcpy(reinterpret_cast<char*>(&both) + sizeof(half), &half, sizeof(half));
    return both;
  }
}

template <class A>
inline void fill_padding(A* values, int64_t edges, int64_t heads, A value) {
  const int64_t room = padded<A>(edges, heads);
  for (int64_t i = edges * heads; i < room; ++i) values[i] = value;
}

template <class A>
constexpr A kMinusInfinity = -static_cast<A>(__builtin_inff());

// What softmax needs of a piece of a row: values become exp(values - maximum), with
//   maximum[h] = max over edges (-inf for none),  sum[h] = sum over edges of the new values.
// Where all of a piece is masked out (maximum -inf), 0 is subtracted instead: -inf - -inf would be NaN.
template <class A, int64_t H>
inline void softmax_piece(A* values, int64_t edges, Heads<H>, A* maximum, A* sum) {
  constexpr int W = H > kLanes<A> ? static_cast<int>(H) : kLanes<A>;  // (kLanes divides every larger constant H)
  constexpr int V = kLanes<A>, parts = W / V;
  constexpr int F = H < V ? static_cast<int>(H) : V;  // heads in one vector
  const int64_t room = padded<A>(edges, H);
  fill_padding(values, edges, H, kMinusInfinity<A>);
  for (int part = 0; part < parts; ++part) {
    Vec<A, V> best = splat<A, V>(kMinusInfinity<A>), total{};
    for (int64_t i = part * V; i < room; i += W) {
      const Vec<A, V> v = load<V>(values + i);
      best = v > best ? v : best;
    }
    const Vec<A, F> top = fold_to_heads<A, V, F>(best, [](auto a, auto b) { return a > b ? a : b; });
    store<F>(maximum + part * V, top);
    const Vec<A, F> zero{};
    const Vec<A, V> shift = repeat_heads<A, V, F>(top == kMinusInfinity<A> ? zero : top);
    for (int64_t i = part * V; i < room; i += W) {
      const Vec<A, V> v = exp_vector<V>(load<V>(values + i) - shift);
      store<V>(values + i, v);
      total += v;
    }
    store<F>(sum + part * V, fold_to_heads<A, V, F>(total, [](auto a, auto b) { return a + b; }));
  }
}

template <class A>
inline void softmax_piece(A* values, int64_t edges, int64_t heads, A* maximum, A* sum) {
  for (int64_t h = 0; h < heads; ++h) {
    maximum[h] = kMinusInfinity<A>;
    sum[h] = 0;
  }
  for (int64_t k = 0; k < edges; ++k)
    for (int64_t h = 0; h < heads; ++h)
      maximum[h] = values[k * heads + h] > maximum[h] ? values[k * heads + h] : maximum[h];
  for (int64_t k = 0; k < edges; ++k)
    for (int64_t h = 0; h < heads; ++h) values[k * heads + h] -= maximum[h] == kMinusInfinity<A> ? A{0} : maximum[h];
  fill_padding(values, edges, heads, kMinusInfinity<A>);
  exp_padded(values, padded<A>(edges, heads));
  for (int64_t k = 0; k < edges; ++k)
    for (int64_t h = 0; h < heads; ++h) sum[h] += values[k * heads + h];
}

}  // namespace gattn::cpu::GATTN_ISA

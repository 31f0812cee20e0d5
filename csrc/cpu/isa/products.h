// Products of the small dense matrices of one head of one graph: tiles of the result stay in registers.
#pragma once

#include <utility>

#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

// The largest tile, rows x vectors, that leaves registers for its operands.
#if defined(__AVX512F__)
constexpr int kTileVectors = 3, kTileRows = 8;
#elif defined(__AVX2__)
constexpr int kTileVectors = 2, kTileRows = 4;
#else
constexpr int kTileVectors = 2, kTileRows = 4;
#endif
constexpr int64_t kTileDepth = 512;  // summands added up before they join the result: blocked sums round less

// Columns of whole vectors up from `columns`.
template <class A>
constexpr int64_t whole_vectors(int64_t columns) {
  return (columns + kLanes<A> - 1) / kLanes<A> * kLanes<A>;
}

// A matrix whose entries are taken one by one: entry (i, k) at data[i * stride + k], or if it lies transposed at
// data[i + k * stride].
template <class A, bool Transposed>
struct Entries {
  const A* data;
  int64_t stride;

  Entries from(int64_t i, int64_t k) const { return {data + (Transposed ? i + k * stride : i * stride + k), stride}; }
};

// A matrix whose rows are read in vectors: vector v of row k at data + k * row + v * vector.
template <class A>
struct Vectors {
  const A* data;
  int64_t row, vector;
};

// c[R x V vectors] = (add ? c : 0) + a[R x depth] b[depth x V vectors], c's rows `stride` apart.
template <int R, int V, class A, bool Transposed>
inline void multiply_tile(Entries<A, Transposed> a, Vectors<A> b, int64_t depth, A* c, int64_t stride, bool add) {
  constexpr int W = kLanes<A>;
  // Where an entry's address is a sum of two registers; a pointer to each row would take more than there are.
  constexpr int kTogether = 4;
  const A* mine[(R + kTogether - 1) / kTogether];
#pragma GCC unroll 4
  for (int r = 0; r < R; r += kTogether) mine[r / kTogether] = Transposed ? a.data + r : a.data + r * a.stride;
  Vec<A, W> sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = Vec<A, W>{};
  for (int64_t k = 0; k < depth; ++k) {
    Vec<A, W> theirs[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) theirs[v] = load<W>(b.data + v * b.vector);
    b.data += b.row;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const A* at = mine[r / kTogether] + (Transposed ? r % kTogether : r % kTogether * a.stride);
      const Vec<A, W> entry = splat<A, W>(*at);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] += entry * theirs[v];
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r += kTogether) mine[r / kTogether] += Transposed ? a.stride : 1;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      A* to = c + r * stride + v * W;
      store<W>(to, add ? load<W>(to) + sum[r][v] : sum[r][v]);
    }
}

// All rows of V columns of vectors: tiles of R rows, then of half as many.
template <int R, int V, class A, bool Transposed>
inline void multiply_rows(Entries<A, Transposed> a, Vectors<A> b, int64_t depth, A* c, int64_t stride, int64_t rows,
                          bool add) {
  int64_t i = 0;
  for (; i + R <= rows; i += R) multiply_tile<R, V>(a.from(i, 0), b, depth, c + i * stride, stride, add);
  if constexpr (R > 1)
    if (i < rows) multiply_rows<R / 2, V>(a.from(i, 0), b, depth, c + i * stride, stride, rows - i, add);
}

// c[rows x vectors] = (add ? c : 0) + a b, with all of c's vectors written whole.
template <class A, bool Transposed>
void multiply(Entries<A, Transposed> a, Vectors<A> b, int64_t depth, A* c, int64_t stride, int64_t rows,
              int64_t vectors, bool add) {
  constexpr int W = kLanes<A>;
  int64_t k = 0;
  do {  // once for a depth of 0 too, which writes zeros
    const int64_t some = depth - k < kTileDepth ? depth - k : kTileDepth;
    const auto part = a.from(0, k);
    for (int64_t v = 0; v < vectors;) {
      const Vectors<A> columns{b.data + k * b.row + v * b.vector, b.row, b.vector};
      const int64_t left = vectors - v;
      A* to = c + v * W;
      if (kTileVectors >= 3 && left >= 3 && left != 4) {
        multiply_rows<kTileRows, kTileVectors>(part, columns, some, to, stride, rows, add);
        v += kTileVectors;
      } else if (left >= 2) {
        multiply_rows<kTileRows, 2>(part, columns, some, to, stride, rows, add);
        v += 2;
      } else {
        multiply_rows<2 * kTileRows, 1>(part, columns, some, to, stride, rows, add);
        v += 1;
      }
    }
    add = true;
    k += some;
  } while (k < depth);
}

template <int S, int... Lanes, class V>
GATTN_INLINE void exchange(V& low, V& high, std::integer_sequence<int, Lanes...>) {
  constexpr int W = sizeof...(Lanes);
#if defined(__AVX512F__)
  // Half of each stays where it is: shuffles of one vector under a mask, of which two start a cycle; general ones of
  // two vectors, which the compiler would take, one.
  if constexpr (sizeof(V) == 64 && S * sizeof(low[0]) < 32) {
    constexpr int kBytes = S * sizeof(low[0]);
    const __m512 a = (__m512)low, b = (__m512)high;
    if constexpr (kBytes == 4) {
      low = (V)_mm512_mask_moveldup_ps(a, 0xAAAA, b);
      high = (V)_mm512_mask_movehdup_ps(b, 0x5555, a);
    } else if constexpr (kBytes == 8) {
      low = (V)_mm512_mask_movedup_pd((__m512d)a, 0xAA, (__m512d)b);
      high = (V)_mm512_mask_permute_pd((__m512d)b, 0x55, (__m512d)a, 0xFF);
    } else {
      low = (V)_mm512_mask_shuffle_f32x4(a, 0xF0F0, b, b, _MM_SHUFFLE(2, 2, 0, 0));
      high = (V)_mm512_mask_shuffle_f32x4(b, 0x0F0F, a, a, _MM_SHUFFLE(3, 3, 1, 1));
    }
    return;
  }
#endif
  const V first = shuffle<(Lanes & S ? W + Lanes - S : Lanes)...>(low, high);
  high = shuffle<(Lanes & S ? W + Lanes : Lanes + S)...>(low, high);
  low = first;
}

// Rows and lanes change places: in each step those whose numbers differ in one bit, S.
template <class A, int W, int S = W / 2, int C = W>
GATTN_INLINE void transpose(Vec<A, W> (&rows)[C]) {
#pragma GCC unroll 16
  for (int i = 0; i < C; ++i)
    if ((i & S) == 0) exchange<S>(rows[i], rows[i + S], std::make_integer_sequence<int, W>{});
  if constexpr (S > 1) transpose<A, W, S / 2>(rows);
}

// Lane i of the result combines all lanes of rows[i], which are overwritten, in a fixed order. Of as many rows as there
// are lanes at once it takes a fraction of the time of one after the other.
template <class A, int W, int S = W / 2, class Combine>
GATTN_INLINE Vec<A, W> combine_lanes(Vec<A, W> (&rows)[W], const Combine& combine) {
#pragma GCC unroll 16
  for (int i = 0; i < S; ++i) {
    exchange<S>(rows[i], rows[i + S], std::make_integer_sequence<int, W>{});
    rows[i] = combine(rows[i], rows[i + S]);
  }
  if constexpr (S > 1)
    return combine_lanes<A, W, S / 2>(rows, combine);
  else
    return rows[0];
}

// The transpose of from[count x channels], whose rows are readable in whole vectors: vector v of channel c, made of the
// rows v * lanes and on, lies at to + (v * room + c) * lanes, room being the channels in whole vectors. Zeros fill up
// the last vectors.
template <class A>
Vectors<A> transpose_rows(const A* from, int64_t stride, int64_t count, int64_t channels, A* to) {
  constexpr int W = kLanes<A>;
  const int64_t room = whole_vectors<A>(channels);
  for (int64_t j = 0; j < count; j += W)
    for (int64_t c = 0; c < channels; c += W) {
      Vec<A, W> rows[W];
      for (int i = 0; i < W; ++i) rows[i] = j + i < count ? load<W>(from + (j + i) * stride + c) : Vec<A, W>{};
      transpose<A, W>(rows);
      for (int i = 0; i < W; ++i) store<W>(to + (j * room + (c + i) * W), rows[i]);
    }
  return {to, W, room * W};
}

}  // namespace gattn::cpu::GATTN_ISA

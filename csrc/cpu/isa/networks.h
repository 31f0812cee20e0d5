// Sorting networks whose wires are vectors: every lane is sorted by itself.
#pragma once

#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

// The smaller and the larger of two, lane by lane: one instruction each, where comparing and choosing would be three.
// Floats that are not negative, but for one that is less than all, rise with their bits. Their larger one is found as
// an integer's: comparisons of floats and of integers have units of their own, and half of each take the least time.
template <class V>
GATTN_INLINE void put_in_order(V& low, V& high) {
  const V a = low, b = high;
#if defined(__AVX512F__)
  if constexpr (sizeof(a[0]) == 4) {
    low = (V)_mm512_maskz_min_ps(0xFFFF, (__m512)a, (__m512)b);
    high = (V)_mm512_maskz_max_epi32(0xFFFF, (__m512i)a, (__m512i)b);
  } else {
    low = (V)_mm512_maskz_min_pd(0xFF, (__m512d)a, (__m512d)b);
    high = (V)_mm512_maskz_max_pd(0xFF, (__m512d)a, (__m512d)b);
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(a[0]) == 4) {
    low = (V)_mm256_min_ps((__m256)a, (__m256)b);
    high = (V)_mm256_max_epi32((__m256i)a, (__m256i)b);
  } else {
    low = (V)_mm256_min_pd((__m256d)a, (__m256d)b);
    high = (V)_mm256_max_pd((__m256d)a, (__m256d)b);
  }
#else
  low = a < b ? a : b;
  high = a < b ? b : a;
#endif
}

// Batcher's odd-even merge sort of C wires from I on, D apart, all in registers.
template <int I, int C, int D, class V>
GATTN_INLINE void merge_wires(V* wires) {
  if constexpr (C == 2) {
    put_in_order(wires[I], wires[I + D]);
  } else {
    merge_wires<I, C / 2, 2 * D>(wires);
    merge_wires<I + D, C / 2, 2 * D>(wires);
#pragma GCC unroll 16
    for (int i = 1; i + 1 < C; i += 2) put_in_order(wires[I + i * D], wires[I + (i + 1) * D]);
  }
}
template <int I, int C, class V>
GATTN_INLINE void sort_wires(V* wires) {
  if constexpr (C > 1) {
    sort_wires<I, C / 2>(wires);
    sort_wires<I + C / 2, C / 2>(wires);
    merge_wires<I, C, 1>(wires);
  }
}
// Sorts wires of which a first part rises and the rest falls, or the other way about.
template <int I, int C, class V>
GATTN_INLINE void clean_wires(V* wires) {
  if constexpr (C > 1) {
#pragma GCC unroll 16
    for (int i = 0; i < C / 2; ++i) put_in_order(wires[I + i], wires[I + C / 2 + i]);
    clean_wires<I, C / 2>(wires);
    clean_wires<I + C / 2, C / 2>(wires);
  }
}

}  // namespace gattn::cpu::GATTN_ISA

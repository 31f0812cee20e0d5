// Integers of one width read into lanes of another. GCC 12 takes the general conversion apart lane by lane, and warns
// of the intrinsics without a mask.
#pragma once

#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

// As many integers as there are lanes of A, each as wide as A: what comparing such vectors gives.
template <class A>
using Integers = decltype(Vec<A, kLanes<A>>{} == Vec<A, kLanes<A>>{});

template <class A, class D>
GATTN_INLINE Integers<A> load_integers(const D* p) {
  [[maybe_unused]] constexpr int W = kLanes<A>;
  [[maybe_unused]] constexpr bool wide = sizeof(A) == 8, bytes = sizeof(D) == 1, shorts = sizeof(D) == 2,
                                  is_signed = D(-1) < D(0);
#if defined(__AVX512F__)
  if constexpr (wide && bytes)
    return (Integers<A>)(is_signed ? _mm512_maskz_cvtepi8_epi64(0xFF, _mm_loadl_epi64((const __m128i*)p))
                                   : _mm512_maskz_cvtepu8_epi64(0xFF, _mm_loadl_epi64((const __m128i*)p)));
  else if constexpr (bytes)
    return (Integers<A>)(is_signed ? _mm512_maskz_cvtepi8_epi32(0xFFFF, _mm_loadu_si128((const __m128i*)p))
                                   : _mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128((const __m128i*)p)));
  else if constexpr (shorts)
    return (Integers<A>)(wide ? _mm512_maskz_cvtepi16_epi64(0xFF, _mm_loadu_si128((const __m128i*)p))
                              : _mm512_maskz_cvtepi16_epi32(0xFFFF, _mm256_loadu_si256((const __m256i*)p)));
  else if constexpr (wide)
    return (Integers<A>)_mm512_maskz_cvtepi32_epi64(0xFF, _mm256_loadu_si256((const __m256i*)p));
#elif defined(__AVX2__)
  if constexpr (wide && bytes) {
    int32_t four;
    memcpy(&four, p, sizeof(four));
    return (Integers<A>)(is_signed ? _mm256_cvtepi8_epi64(_mm_cvtsi32_si128(four))
                                   : _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four)));
  } else if constexpr (bytes) {
    return (Integers<A>)(is_signed ? _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))
                                   : _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)));
  } else if constexpr (shorts) {
    return (Integers<A>)(wide ? _mm256_cvtepi16_epi64(_mm_loadl_epi64((const __m128i*)p))
                              : _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i*)p)));
  } else if constexpr (wide) {
    return (Integers<A>)_mm256_cvtepi32_epi64(_mm_loadu_si128((const __m128i*)p));
  }
#endif
  Integers<A> found{};
  if constexpr (sizeof(D) == sizeof(A))
    memcpy(&found, p, sizeof(found));
  else
    for (int l = 0; l < W; ++l) found[l] = p[l];
  return found;
}

// Whether any lane of a comparison's result is true.
template <class V>
GATTN_INLINE bool any_lane(V mask) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(__AVX2__)
  if constexpr (sizeof(V) == 32) return _mm256_movemask_epi8((__m256i)mask) != 0;
#endif
  uint64_t parts[sizeof(V) / 8], any = 0;
  memcpy(parts, &mask, sizeof(mask));
  for (const uint64_t part : parts) any |= part;
  return any != 0;
}

}  // namespace gattn::cpu::GATTN_ISA

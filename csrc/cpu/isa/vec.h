// Short vectors on top of the compiler's vector extensions. Compiled once per instruction set: everything lives in
// the namespace GATTN_ISA and uses no inline function of the standard library, whose one linked copy could otherwise
// hold instructions that the machine lacks.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace gattn::cpu::GATTN_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// For what is small and called in inner loops, where the compiler's own idea of a function's size is a loss.
#define GATTN_INLINE inline __attribute__((always_inline))

template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T, int W>
struct VectorType {
  typedef T type __attribute__((vector_size(W * sizeof(T))));
};
template <class T>
struct VectorType<T, 1> {
  typedef T type;
};
template <class T, int W>
using Vec = typename VectorType<T, W>::type;

// Storage types of half precision: bits only, always widened before arithmetic.
struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

template <class T>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};

// Integers as wide as a number.
template <class A>
struct UnsignedLike {
  using type = uint32_t;
};
template <>
struct UnsignedLike<double> {
  using type = uint64_t;
};
template <class A>
using Unsigned = typename UnsignedLike<A>::type;

template <class To, class From>
inline To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "sizes differ");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

inline float widen(float16 h) {
#if defined(__AVX2__)
  return _cvtsh_ss(h.bits);
#else
  const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16, magnitude = h.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  // Scaling by 2^112 shifts the exponent's bias and normalises subnormals in one step.
  return bit_cast<float>(sign | bit_cast<uint32_t>(bit_cast<float>(magnitude << 13) * bit_cast<float>(0x77800000u)));
#endif
}

inline float16 narrow_half(float f) {
#if defined(__AVX2__)
  return {static_cast<uint16_t>(_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT))};
#else
  const uint32_t bits = bit_cast<uint32_t>(f), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves the rounded value in the low bits
    const float shifted = bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (bit_cast<uint32_t>(shifted) - 0x3f000000u))};
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
#endif
}

template <int W>
inline Vec<float, W> load(const float* p) {
  Vec<float, W> v;
  memcpy(&v, p, sizeof(v));
  return v;
}
template <int W>
inline Vec<double, W> load(const double* p) {
  Vec<double, W> v;
  memcpy(&v, p, sizeof(v));
  return v;
}
template <int W>
inline Vec<float, W> load(const bfloat16* p) {
  if constexpr (W == 1) {
    return bit_cast<float>(static_cast<uint32_t>(p->bits) << 16);
  } else {
    Vec<uint16_t, W> half;
    memcpy(&half, p, sizeof(half));
    return bit_cast<Vec<float, W>>(__builtin_convertvector(half, Vec<uint32_t, W>) << 16);
  }
}
template <int W>
inline Vec<float, W> load(const float16* p) {
#if defined(__AVX2__)
  if constexpr (W % 8 == 0) {
    Vec<float, W> v{};
    for (int l = 0; l < W; l += 8) {
      const __m256 part = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + l)));
      memcpy(reinterpret_cast<char*>(&v) + l * sizeof(float), &part, sizeof(part));
    }
    return v;
  }
#endif
  if constexpr (W == 1) {
    return widen(*p);
  } else {
    Vec<float, W> v{};
    for (int l = 0; l < W; ++l) v[l] = widen(p[l]);
    return v;
  }
}

template <int W>
inline void store(float* p, Vec<float, W> v) {
  memcpy(p, &v, sizeof(v));
}
template <int W>
inline void store(double* p, Vec<double, W> v) {
  memcpy(p, &v, sizeof(v));
}
template <int W>
inline void store(bfloat16* p, Vec<float, W> v) {
  using Bits = Vec<uint32_t, W>;
  const Bits bits = bit_cast<Bits>(v);
  if constexpr (W == 1) {
    p->bits = v != v ? uint16_t{0x7fc0} : static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  } else {
    const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const Bits chosen = v != v ? (Bits{} + 0x7fc0u) : rounded;
    const auto half = __builtin_convertvector(chosen, Vec<uint16_t, W>);
    memcpy(p, &half, sizeof(half));
  }
}
template <int W>
inline void store(float16* p, Vec<float, W> v) {
  if constexpr (W == 1) {
    *p = narrow_half(v);
  } else {
    for (int l = 0; l < W; ++l) p[l] = narrow_half(v[l]);
  }
}

template <class V, class A, int... Lanes>
GATTN_INLINE V fill(A value, std::integer_sequence<int, Lanes...>) {
  return V{(static_cast<void>(Lanes), value)...};
}
// (Adding to a vector of zeros would not be a mere broadcast: it turns -0 into 0.)
template <class A, int W>
GATTN_INLINE Vec<A, W> splat(A value) {
  if constexpr (W == 1)
    return value;
  else
    return fill<Vec<A, W>>(value, std::make_integer_sequence<int, W>{});
}

template <int... Lanes, class V>
inline V shuffle(V a, V b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, Lanes...);
#else
  return __builtin_shuffle(a, b, decltype(a == b){Lanes...});
#endif
}

// The two halves of a vector. (Through memory, a vector that is summed at a loop's end would live there in the loop.)
template <class A, int W>
GATTN_INLINE void halve(Vec<A, W> v, Vec<A, W / 2>* low, Vec<A, W / 2>* high) {
#if defined(__AVX512F__)
  if constexpr (sizeof(v) == 64) {
    *low = (Vec<A, W / 2>)_mm512_maskz_extracti64x4_epi64(0xFF, (__m512i)v, 0);  // the plain ones warn in GCC 12
    *high = (Vec<A, W / 2>)_mm512_maskz_extracti64x4_epi64(0xFF, (__m512i)v, 1);
    return;
  }
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(v) == 32) {
    *low = (Vec<A, W / 2>)_mm256_castsi256_si128((__m256i)v);
    *high = (Vec<A, W / 2>)_mm256_extracti128_si256((__m256i)v, 1);
    return;
  }
#endif
  memcpy(low, &v, sizeof(*low));
  memcpy(high, reinterpret_cast<const char*>(&v) + sizeof(*low), sizeof(*high));
}

// The other way about.
template <class A, int W>
GATTN_INLINE Vec<A, W> join(Vec<A, W / 2> low, Vec<A, W / 2> high) {
#if defined(__AVX512F__)
  if constexpr (W * sizeof(A) == 64)
    return (Vec<A, W>)_mm512_maskz_inserti64x4(0xFF, _mm512_castsi256_si512((__m256i)low), (__m256i)high, 1);
#endif
  Vec<A, W> v;
  memcpy(&v, &low, sizeof(low));
  memcpy(reinterpret_cast<char*>(&v) + sizeof(low), &high, sizeof(high));
  return v;
}

// Sums halves onto each other until H lanes are left: a fixed order, whatever the loop around it does.
template <class A, int W, int H>
GATTN_INLINE Vec<A, H> halve_to(Vec<A, W> v) {
  if constexpr (W == H) {
    return v;
  } else {
    Vec<A, W / 2> low, high;
    halve<A, W>(v, &low, &high);
    return halve_to<A, W / 2, H>(low + high);
  }
}

template <class A, int W>
inline A sum_lanes(Vec<A, W> v) {
  if constexpr (W >= 4 && sizeof(A) == 4) {
    const Vec<A, 4> four = halve_to<A, W, 4>(v);
    const Vec<A, 4> two = four + shuffle<2, 3, 2, 3>(four, four);
    return two[0] + two[1];
  } else {
    return halve_to<A, W, 1>(v);
  }
}

// sums[u * stride] = sum of the lanes of v[u]
template <class A, int W, int U>
inline void sum_lanes_of(const Vec<A, W> (&v)[U], A* sums, int64_t stride) {
  if constexpr (U == 4 && W >= 4 && sizeof(A) == 4) {  // all four by transposing, in the same order of additions
    const Vec<A, 4> a = halve_to<A, W, 4>(v[0]), b = halve_to<A, W, 4>(v[1]);
    const Vec<A, 4> c = halve_to<A, W, 4>(v[2]), d = halve_to<A, W, 4>(v[3]);
    const Vec<A, 4> ab = shuffle<0, 4, 1, 5>(a, b) + shuffle<2, 6, 3, 7>(a, b);
    const Vec<A, 4> cd = shuffle<0, 4, 1, 5>(c, d) + shuffle<2, 6, 3, 7>(c, d);
    const Vec<A, 4> all = shuffle<0, 1, 4, 5>(ab, cd) + shuffle<2, 3, 6, 7>(ab, cd);
    for (int u = 0; u < 4; ++u) sums[u * stride] = all[u];
  } else {
    for (int u = 0; u < U; ++u) sums[u * stride] = sum_lanes<A, W>(v[u]);
  }
}

// A vector's width as a type.
template <int W>
struct Width {
  static constexpr int value = W;
};

// Calls function(width, c) for vectors that cover [0, channels) once: whole ones, then one of each smaller power of two
// that the rest has.
template <class A, int W = kLanes<A>, class Function>
inline void for_channels(int64_t channels, const Function& function, int64_t c = 0) {
  for (; c + W <= channels; c += W) function(Width<W>{}, c);
  if constexpr (W > 1)
    if (c < channels) for_channels<A, W / 2>(channels, function, c);
}

}  // namespace gattn::cpu::GATTN_ISA

// exp and log for softmax.
#pragma once

#include <cmath>

#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

// Range reduction to |r| <= ln 2 / 2 and a degree-6 polynomial (the coefficients of Cephes' expf), below 1 ulp of
// error; results under 2^-126 become 0, those over exp(88) infinity, and NaN stays NaN.
// (Softmax only asks for exponents up to rounding above 0.)
template <int W>
inline Vec<float, W> exp_vector(Vec<float, W> x) {
  using V = Vec<float, W>;
  using Bits = Vec<int32_t, W>;
  const V low = splat<float, W>(-87.33654f), high = splat<float, W>(88.0f), zero = splat<float, W>(0.0f);
  const V infinity = splat<float, W>(__builtin_inff());
  V clamped = x < low ? low : x;
  clamped = clamped > high ? high : clamped;
  const V shift = splat<float, W>(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const V shifted = clamped * 1.44269504f + shift;
  const V n = shifted - shift;
  V r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  V p = splat<float, W>(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // The rounded integer sits in the low mantissa bits of `shifted`; moved up it is the exponent of 2^n.
  const Bits exponent = (bit_cast<Bits>(shifted) << 23) + (127 << 23);
  V result = p * bit_cast<V>(exponent);
  result = x < low ? zero : result;
  return x > high ? infinity : result;
}

template <int W>
inline Vec<double, W> exp_vector(Vec<double, W> x) {
  if constexpr (W == 1) {
    return ::exp(x);
  } else {
    for (int l = 0; l < W; ++l) x[l] = ::exp(x[l]);
    return x;
  }
}

// In place over an array padded to whole vectors.
template <class A>
inline void exp_padded(A* values, int64_t count) {
  constexpr int W = kLanes<A>;
  for (int64_t i = 0; i < count; i += W) store<W>(values + i, exp_vector<W>(load<W>(values + i)));
}

// Cephes' logf: the mantissa is brought into [sqrt(1/2), sqrt(2)); below 1 ulp of error for normal numbers.
// log(0) = -inf, negative numbers and NaN give NaN. (The sum of a row is 0, NaN or at least 1.)
template <int W>
inline Vec<float, W> log_vector(Vec<float, W> x) {
  using V = Vec<float, W>;
  using Bits = Vec<int32_t, W>;
  const Bits bits = bit_cast<Bits>(x);
  Bits exponent = (bits >> 23) - 126;
  V m = bit_cast<V>((bits & 0x007fffff) | 0x3f000000);  // [0.5, 1)
  const V root = splat<float, W>(0.707106781f), zero = splat<float, W>(0.0f);
  const V infinity = splat<float, W>(__builtin_inff());
  V n;
  if constexpr (W == 1) {
    n = static_cast<float>(exponent);
  } else {
    n = __builtin_convertvector(exponent, V);
  }
  n = m < root ? n - 1.0f : n;
  m = m < root ? m + m - 1.0f : m - 1.0f;
  const V z = m * m;
  V p = splat<float, W>(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  V result = m * z * p - n * 2.12194440e-4f - z * 0.5f;
  result = m + result + n * 0.693359375f;
  result = x == zero ? -infinity : result;
  result = x == infinity ? infinity : result;
  return x >= zero ? result : x - x + splat<float, W>(__builtin_nanf(""));
}
template <int W>
inline Vec<double, W> log_vector(Vec<double, W> x) {
  if constexpr (W == 1) {
    return ::log(x);
  } else {
    for (int l = 0; l < W; ++l) x[l] = ::log(x[l]);
    return x;
  }
}

}  // namespace gattn::cpu::GATTN_ISA

// exp for softmax.
#pragma once

#include <cmath>

#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

constexpr float kExpLow = -87.33654f, kExpHigh = 88.0f;

// Range reduction to |r| <= ln 2 / 2 and a degree-6 polynomial (the coefficients of Cephes' expf), below 1 ulp of
// error; for numbers between the bounds.
template <int W>
GATTN_INLINE Vec<float, W> exp_in_range(Vec<float, W> x) {
  using V = Vec<float, W>;
  using Bits = Vec<uint32_t, W>;
  const V shift = splat<float, W>(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const V shifted = x * 1.44269504f + shift;
  const V n = shifted - shift;
  V r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  V p = splat<float, W>(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // The rounded integer sits in the low mantissa bits of `shifted`; moved up it is the exponent of 2^n.
  const Bits exponent = (bit_cast<Bits>(shifted) << 23) + (127u << 23);
  return p * bit_cast<V>(exponent);
}

// exp of numbers up to 0, those that softmax takes it of: results under 2^-126 become 0, and NaN stays NaN.
template <int W>
GATTN_INLINE Vec<float, W> exp_to_one(Vec<float, W> x) {
  const Vec<float, W> low = splat<float, W>(kExpLow), result = exp_in_range<W>(low > x ? low : x);
  return low > x ? Vec<float, W>{} : result;
}

// exp of any number: those over exp(88) become infinity.
// (Softmax only asks for exponents up to rounding above 0.)
template <int W>
GATTN_INLINE Vec<float, W> exp_vector(Vec<float, W> x) {
  const Vec<float, W> low = splat<float, W>(kExpLow), high = splat<float, W>(kExpHigh);
  const Vec<float, W> above = low > x ? low : x, result = exp_in_range<W>(high < above ? high : above);
  return x > high ? splat<float, W>(__builtin_inff()) : low > x ? Vec<float, W>{} : result;
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

template <int W>
inline Vec<double, W> exp_to_one(Vec<double, W> x) {
  return exp_vector<W>(x);
}

// Of one number to the last bit or so, for what all of a row's edges share. Half of the arguments are 0.
template <class A>
inline A exp_accurate(A x) {
  return x == A{0} ? A{1} : static_cast<A>(::exp(x));
}

// In place over an array padded to whole vectors.
template <class A>
inline void exp_padded(A* values, int64_t count) {
  constexpr int W = kLanes<A>;
  for (int64_t i = 0; i < count; i += W) store<W>(values + i, exp_vector<W>(load<W>(values + i)));
}

}  // namespace gattn::cpu::GATTN_ISA

// float16 as the kernels use it; see cuda_runtime.h.
#pragma once

#include <cmath>
#include <cstdint>

struct __half {
  uint16_t bits;
};

inline float __half2float(__half x) {
  const int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
  float value = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                : exponent == 31 ? (fraction != 0 ? NAN : INFINITY)
                                 : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return (x.bits & 0x8000) != 0 ? -value : value;
}

inline __half __float2half_rn(float x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const float size = std::fabs(x);
  if (x != x) return {0x7fff};
  if (size >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7c00)};
  // In units of the last place at its exponent; nearbyint rounds halves to even, and a carry raises the exponent.
  int exponent = 0;
  std::frexp(size, &exponent);
  exponent = size == 0 || exponent < -13 ? -13 : exponent;
  const auto units = static_cast<uint16_t>(std::nearbyint(std::ldexp(size, 11 - exponent)));
  return {static_cast<uint16_t>(sign | (units + ((exponent + 13) << 10)))};
}

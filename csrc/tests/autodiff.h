// Reverse-mode differentiation of scalar code: written once, a forward gives all its gradients, by nothing but the
// chain rule.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "fixtures.h"

namespace gattn::tests {

// A number on the tape, or a constant, whose id is -1.
struct Var {
  double value = 0;
  int64_t id = -1;

  Var() = default;
  Var(double constant) : value(constant) {}
  Var(double value_, int64_t id_) : value(value_), id(id_) {}
};

// How a number was made: of up to two others, with these derivatives.
struct TapeEntry {
  int64_t a, b;
  double by_a, by_b;
};
inline std::vector<TapeEntry> tape;

inline Var record(double value, int64_t a, double by_a, int64_t b = -1, double by_b = 0) {
  tape.push_back({a, b, by_a, by_b});
  return {value, static_cast<int64_t>(tape.size()) - 1};
}
inline Var variable(double value) { return record(value, -1, 0); }

inline Var operator+(Var a, Var b) { return record(a.value + b.value, a.id, 1, b.id, 1); }
inline Var operator*(Var a, Var b) { return record(a.value * b.value, a.id, b.value, b.id, a.value); }
inline Var operator/(Var a, Var b) {
  return record(a.value / b.value, a.id, 1 / b.value, b.id, -a.value / (b.value * b.value));
}
inline Var exp(Var a) {
  const double value = std::exp(a.value);
  return record(value, a.id, value);
}
inline Var leaky_relu(Var a, double slope) { return a.value > 0 ? a : a * slope; }
inline Var clamp(Var a, double limit) { return std::abs(a.value) > limit ? Var(std::copysign(limit, a.value)) : a; }

// From dL/dresult for some numbers on the tape to the gradient of every number on it.
inline void sweep_back(Numbers& gradient) {
  for (int64_t i = static_cast<int64_t>(tape.size()) - 1; i >= 0; --i) {
    const TapeEntry& entry = tape[i];
    if (entry.a >= 0) gradient[entry.a] += gradient[i] * entry.by_a;
    if (entry.b >= 0) gradient[entry.b] += gradient[i] * entry.by_b;
  }
}

}  // namespace gattn::tests

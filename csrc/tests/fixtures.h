// What the tests of kernels share: inputs, calls, comparisons.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "graphs.h"

namespace gattn::tests {

using Numbers = std::vector<double>;

constexpr uint64_t kSeed = 0x123456789abcdefull;

inline double tolerance(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 1e-13;
    case DType::f32:
      return 2e-5;
    case DType::f16:
      return 1e-3;
    default:
      return 8e-3;  // bf16
  }
}

// Eighths in [-2, 2]: exact in every type.
inline Array random_array(DType dtype, std::vector<int64_t> shape, unsigned seed) {
  std::mt19937_64 random(seed);
  Array array(dtype, std::move(shape));
  for (int64_t i = 0; i < array.size(); ++i) array.set(i, (static_cast<double>(random() % 33) - 16) / 8);
  return array;
}

inline void compare(const char* what, const Array& got, const Numbers& want, DType precision, const std::string& of) {
  double scale = 1.0;
  for (const double value : want)
    if (std::isfinite(value)) scale = std::max(scale, std::abs(value));
  CHECK(got.size() == static_cast<int64_t>(want.size()));
  for (int64_t i = 0; i < got.size(); ++i) {
    if (got.get(i) == want[i]) continue;  // infinities among them
    CHECK(std::abs(got.get(i) - want[i]) <= tolerance(precision) * scale,
          std::string(what) + "[" + std::to_string(i) + "] is " + std::to_string(got.get(i)) + ", expected " +
              std::to_string(want[i]) + ": " + of);
  }
}

inline bool same_bytes(const Array& a, const Array& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * dtype_bytes(a.dtype())) == 0;
}

// NaN, infinities, the largest and the smallest numbers in every third place.
inline void make_wild(const Array& array) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double largest = std::numeric_limits<double>::max(), largest_float = std::numeric_limits<float>::max();
  constexpr double smallest = std::numeric_limits<double>::denorm_min();
  const double doubles[] = {std::nan(""), infinity, -infinity, largest, -largest, smallest};
  const double floats[] = {std::nan(""), infinity, -infinity, largest_float, -largest_float, 1.0e-40};
  constexpr uint16_t halves[] = {0x7E00, 0x7C00, 0xFC00, 0x7BFF, 0xFBFF, 1};
  constexpr uint16_t bfloats[] = {0x7FC0, 0x7F80, 0xFF80, 0x7F7F, 0xFF7F, 1};
  for (int64_t i = 0; i < array.size(); i += 3) {
    const int64_t which = i / 3 % 6;
    if (array.dtype() == DType::f64)
      array.at<double>(i) = doubles[which];
    else if (array.dtype() == DType::f32)
      array.at<float>(i) = static_cast<float>(floats[which]);
    else
      array.at<uint16_t>(i) = array.dtype() == DType::f16 ? halves[which] : bfloats[which];
  }
}

inline cpu::PackedGraph pack(const EdgeList& list, bool wide, int threads) {
  cpu::GraphOptions options;
  options.num_src = list.num_src;
  options.num_dst = list.num_dst;
  options.wide = wide;
  options.threads = threads;
  return cpu::build_graph(list.index(DType::i64).view(), options);
}

inline cpu::Problem problem_of(const cpu::PackedGraph& graph, DType dtype, int64_t heads, int64_t channels,
                               double dropout_p, int threads) {
  cpu::Problem problem;
  problem.dtype = dtype;
  problem.wide = graph.dtype == DType::i64;
  problem.graph = graph.data.get();
  problem.heads = heads;
  problem.channels = channels;
  problem.dropout_p = dropout_p;
  problem.seed = kSeed;
  problem.threads = threads;
  return problem;
}

}  // namespace gattn::tests

// Statistics of activations by row, and over all of them: what the kernel is given and gives.
#pragma once

#include <cstdint>

#include "../common/tensor.h"

namespace gattn::cpu {

constexpr int64_t kSortedBlock = 16;  // numbers that are sorted in registers
constexpr int64_t kMaxNetwork = 256;  // the medians of wider rows are found bit by bit

// Afterwards entry `low` has the smaller number.
struct Comparator {
  int32_t low, high;
};

struct ActivationProblem {
  DType dtype = DType::f32;
  int64_t rows = 0, width = 0;
  int threads = 1;
  const void* x = nullptr;              // [rows, width]
  const Comparator* network = nullptr;  // median_network's
  int64_t comparators = 0;
  const double *thresholds = nullptr, *edges = nullptr;  // of ratios, both rising
  int64_t threshold_count = 0, edge_count = 0;
};

// Places in `counts`, before the thresholds' and the bins'.
enum ActivationCount : int64_t { kNan, kInfinite, kBadRows, kZeroMedians, kActivationCounts };

// Rows with numbers that are not finite have NaN everywhere; of those with a median of 0 the ratio is infinity. Neither
// count in what follows the rows.
struct ActivationOutputs {
  void *largest = nullptr, *median = nullptr,
       *ratio = nullptr;       // [rows], in the accumulate dtype: |x| and its quotient
  double* sums = nullptr;      // [2]: of all finite numbers and of their squares
  int64_t* counts = nullptr;   // see ActivationCount; activations above each threshold; rows by their ratio's bin
  double* extremes = nullptr;  // [2, 3]: the largest |x| and the largest ratio with row and column; -1 for none
};

}  // namespace gattn::cpu

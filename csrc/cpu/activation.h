// Statistics of activations by row, and over all of them: what a kernel is given and gives.
#pragma once

#include <cstdint>

#include "../common/tensor.h"

namespace gattn::cpu {

// Ratios that are counted, both lists rising.
struct ActivationLimits {
  const double *thresholds = nullptr, *edges = nullptr;
  int64_t threshold_count = 0, edge_count = 0;
};

// Places in `counts`, before the thresholds' and the bins'.
enum ActivationCount : int64_t { kNan, kInfinite, kBadRows, kZeroMedians, kActivationCounts };

// Rows with numbers that are not finite have NaN everywhere; of those with a median of 0 the ratio is infinity. Neither
// count in what follows the rows.
struct ActivationOutputs {
  // Of a row the largest |x|, the median and their quotient, in the accumulate dtype: number k of row i lies at
  // rows[i * row_stride + k * number_stride]. Side by side, rows in any order cost one line of the caches each.
  void* rows = nullptr;
  int64_t row_stride = 3, number_stride = 1;
  double* sums = nullptr;      // [2]: of all finite numbers and of their squares
  int64_t* counts = nullptr;   // see ActivationCount; activations above each threshold; rows by their ratio's bin
  double* extremes = nullptr;  // [2, 3]: the largest |x| and the largest ratio with row and column; -1 for none
};

// Statistics of an attention's activations, taken while it is computed: rows are edges, in the caller's order.
struct ActivationTap {
  ActivationLimits limits;
  ActivationOutputs outputs;  // without `sums` nothing is wanted
};

struct ActivationProblem {
  DType dtype = DType::f32;
  int64_t rows = 0, width = 0;
  int threads = 1;
  const void* x = nullptr;  // [rows, width]
  ActivationLimits limits;
};

}  // namespace gattn::cpu

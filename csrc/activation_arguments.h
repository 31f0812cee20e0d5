// The limits and results of statistics of activations, on the CPU.
#pragma once

#include "arguments.h"
#include "cpu/kernels.h"

namespace gattn {

constexpr int64_t kMaxActivations = int64_t{1} << 30;  // columns are counted in 32 bits

// (thresholds, edges) and (rows, sums, counts, extremes), checked; two empty tuples for no tap.
// `together`: rows is [rows, 3], not [3, rows].
class ActivationArguments {
 public:
  cpu::ActivationTap tap;

  ActivationArguments(const py::tuple& limits, const py::tuple& results, DType wide, int64_t rows, int64_t width,
                      bool together) {
    if (limits.size() == 0 && results.size() == 0) return;
    if (limits.size() != 2 || results.size() != 4)
      raise<ValueError>("Expected two tensors of limits and four results (got ", limits.size(), " and ", results.size(),
                        ").");
    if (width < 1 || width > kMaxActivations)
      raise<ValueError>("Expected 1 to ", kMaxActivations, " activations a row (got ", width, ").");
    const Argument thresholds(limits[0], "thresholds"), edges(limits[1], "edges");
    check_rising(thresholds, "thresholds");
    check_rising(edges, "edges");
    tap.limits = {thresholds->as<double>(), edges->as<double>(), thresholds->shape[0], edges->shape[0]};
    const Argument numbers(results[0], "rows"), sums(results[1], "sums"), counts(results[2], "counts"),
        extremes(results[3], "extremes");
    if (together)
      check_tensor(numbers.view, "rows", wide, {rows, 3});
    else
      check_tensor(numbers.view, "rows", wide, {3, rows});
    check_tensor(sums.view, "sums", DType::f64, {2});
    check_tensor(counts.view, "counts", DType::i64,
                 {cpu::kActivationCounts + thresholds->shape[0] + edges->shape[0] + 1});
    check_tensor(extremes.view, "extremes", DType::f64, {2, 3});
    tap.outputs = {numbers->data,
                   together ? 3 : 1,
                   together ? 1 : rows,
                   static_cast<double*>(sums->data),
                   static_cast<int64_t*>(counts->data),
                   static_cast<double*>(extremes->data)};
  }

 private:
  static void check_rising(const Argument& numbers, const char* name) {
    if (numbers->ndim != 1) raise<ValueError>("Expected '", name, "' to have one dimension (got ", numbers->ndim, ").");
    check_tensor(numbers.view, name, DType::f64, {numbers->shape[0]});
    const auto* data = numbers->as<double>();
    for (int64_t i = 0; i < numbers->shape[0]; ++i)
      if (!(data[i] > 0.0) || (i > 0 && !(data[i] > data[i - 1])))
        raise<ValueError>("Expected '", name, "' to be positive and to rise (got ", data[i], " at ", i, ").");
  }
};

}  // namespace gattn

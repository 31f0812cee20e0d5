// Entry point of the statistics of activations, on the CPU.
#include "arguments.h"
#include "cpu/activation_network.h"

namespace gattn {

namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 30;  // columns are counted in 32 bits

void check_rising(const Argument& numbers, const char* name) {
  if (numbers->ndim != 1) raise<ValueError>("Expected '", name, "' to have one dimension (got ", numbers->ndim, ").");
  check_tensor(numbers.view, name, DType::f64, {numbers->shape[0]});
  const auto* data = numbers->as<double>();
  for (int64_t i = 0; i < numbers->shape[0]; ++i)
    if (!(data[i] > 0.0) || (i > 0 && !(data[i] > data[i - 1])))
      raise<ValueError>("Expected '", name, "' to be positive and to rise (got ", data[i], " at ", i, ").");
}

void activation_stats(py::handle x_, py::handle thresholds_, py::handle edges_, py::handle largest_, py::handle median_,
                      py::handle ratio_, py::handle sums_, py::handle counts_, py::handle extremes_, int threads) {
  const Argument x(x_, "x"), thresholds(thresholds_, "thresholds"), edges(edges_, "edges"),
      largest(largest_, "largest"), median(median_, "median"), ratio(ratio_, "ratio"), sums(sums_, "sums"),
      counts(counts_, "counts"), extremes(extremes_, "extremes");
  check_floating(x.view, "x", 2);
  check_threads(threads);
  const int64_t rows = x->shape[0], width = x->shape[1];
  if (width < 1 || width > kMaxWidth)
    raise<ValueError>("Expected 'x' to have 1 to ", kMaxWidth, " columns (got ", width, ").");
  check_tensor(x.view, "x", x->dtype, {rows, width});
  check_rising(thresholds, "thresholds");
  check_rising(edges, "edges");
  for (const auto& [argument, name] : {std::pair{&largest, "largest"}, {&median, "median"}, {&ratio, "ratio"}})
    check_tensor(argument->view, name, accumulate_dtype(x->dtype), {rows});
  check_tensor(sums.view, "sums", DType::f64, {2});
  check_tensor(counts.view, "counts", DType::i64,
               {cpu::kActivationCounts + thresholds->shape[0] + edges->shape[0] + 1});
  check_tensor(extremes.view, "extremes", DType::f64, {2, 3});
  const py::gil_scoped_release release;
  const std::vector<cpu::Comparator> network = cpu::median_network(width);
  cpu::kernels().activation_stats(
      {x->dtype, rows, width, threads, x->data, network.data(), static_cast<int64_t>(network.size()),
       thresholds->as<double>(), edges->as<double>(), thresholds->shape[0], edges->shape[0]},
      {largest->data, median->data, ratio->data, static_cast<double*>(sums->data), static_cast<int64_t*>(counts->data),
       static_cast<double*>(extremes->data)});
}

}  // namespace

void bind_activation(py::module_& module) {
  module.def("activation_stats", activation_stats,
             "activation_stats(x, thresholds, edges, largest, median, ratio, sums, counts, extremes, threads)");
}

}  // namespace gattn

// Entry point of the statistics of activations, on the CPU.
#include "activation_arguments.h"

namespace gattn {

namespace {

void activation_stats(py::handle x_, const py::tuple& limits, const py::tuple& results, int threads) {
  const Argument x(x_, "x");
  check_floating(x.view, "x", 2);
  check_threads(threads);
  const int64_t rows = x->shape[0], width = x->shape[1];
  check_tensor(x.view, "x", x->dtype, {rows, width});
  const ActivationArguments arguments(limits, results, accumulate_dtype(x->dtype), rows, width, false);
  const py::gil_scoped_release release;
  cpu::kernels().activation_stats({x->dtype, rows, width, threads, x->data, arguments.tap.limits},
                                  arguments.tap.outputs);
}

}  // namespace

void bind_activation(py::module_& module) {
  module.def("activation_stats", activation_stats,
             "activation_stats(x, (thresholds, edges), (rows, sums, counts, extremes), threads)");
}

}  // namespace gattn

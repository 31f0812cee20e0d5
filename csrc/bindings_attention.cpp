// Entry points of the attention that all scores share, on the CPU.
#include "activation_arguments.h"
#include "attention_arguments.h"

namespace gattn {

namespace {

// A call on the CPU.
struct AttentionCall : AttentionArguments {
  cpu::Problem problem;

  AttentionCall(const Argument& graph, const py::dict& tensors, const py::tuple& settings, int64_t seed, int threads)
      : AttentionArguments(sizes_of(graph), tensors, settings, dlpack::kCpu) {
    problem = make_problem(graph, storage, heads, channels, dropout_p, seed, threads, &sizes);
  }
};

void attention_forward(py::handle graph, const py::dict& tensors, const py::tuple& settings, int64_t seed,
                       const py::dict& results, const py::tuple& limits, const py::tuple& statistics, int threads) {
  const AttentionCall call(Argument(graph, "graph"), tensors, settings, seed, threads);
  const AttentionOutputs outputs = call.outputs(results);
  if (limits.size() > 0 && !call.takes(kFeatures))
    raise<ValueError>("Expected no statistics of activations with this score, which is a number a head (got limits).");
  const ActivationArguments activations(limits, statistics, call.wide, call.sizes.num_edges, call.heads * call.channels,
                                        true);
  const py::gil_scoped_release release;
  cpu::kernels().attention_forward(call.problem, call.inputs, outputs, activations.tap);
}

void attention_backward(py::handle graph, const py::dict& tensors, const py::tuple& settings, int64_t seed,
                        const py::dict& saved, const py::dict& results, int threads) {
  const AttentionCall call(Argument(graph, "graph"), tensors, settings, seed, threads);
  const AttentionSaved given = call.saved(saved);
  const AttentionGradients gradients = call.gradients(tensors, results);
  const py::gil_scoped_release release;
  cpu::kernels().attention_backward(call.problem, call.inputs, given, gradients);
}

void first_largest(py::handle graph_, py::handle values_, py::handle first_, int threads) {
  const Argument graph(graph_, "graph"), values(values_, "values"), first(first_, "first");
  check_floating(values.view, "values", 2);
  const int64_t heads = values->shape[1];
  Sizes sizes;
  const cpu::Problem problem = make_problem(graph, accumulate_dtype(values->dtype), heads, 1, 0.0, 0, threads, &sizes);
  check_tensor(values.view, "values", problem.dtype, {sizes.num_src, heads});
  check_tensor(first.view, "first", DType::i64, {sizes.num_dst, heads});
  const py::gil_scoped_release release;
  cpu::kernels().first_largest(problem, values->data, static_cast<int64_t*>(first->data));
}

}  // namespace

void bind_attention(py::module_& module) {
  module.def("attention_forward", attention_forward,
             "attention_forward(graph, inputs, settings, seed, results, limits, statistics, threads): statistics of "
             "activations go to `statistics` as in activation_stats; two empty tuples for none");
  module.def("attention_backward", attention_backward,
             "attention_backward(graph, inputs, settings, seed, saved, gradients, threads)");
  module.def("first_largest", first_largest,
             "first_largest(graph, values, first, threads): source of the first in-edge with the largest value, or -1");
}

}  // namespace gattn

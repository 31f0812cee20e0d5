// Entry points of the all-pairs attention within graphs of different sizes.
#include "arguments.h"
#include "cpu/ragged_plan.h"

namespace gattn {

namespace {

// The tensors of a call, checked. distance and hop come together or not at all.
struct RaggedCall {
  Argument q, k, v, ptr, distance, hop;
  int64_t nodes = 0;
  DType wide = DType::f32;
  bool decays = false;
  cpu::RaggedProblem problem;

  RaggedCall(py::handle q_, py::handle k_, py::handle v_, py::handle ptr_, py::handle distance_, py::handle hop_,
             const py::tuple& numbers, int64_t seed, int threads)
      : q(q_, "q"),
        k(k_, "k"),
        v(v_, "v"),
        ptr(ptr_, "ptr"),
        distance(distance_, "distance", true),
        hop(hop_, "hop", true) {
    check_floating(q.view, "q", 3);
    nodes = q->shape[0];
    wide = accumulate_dtype(q->dtype);
    problem.dtype = q->dtype;
    problem.heads = q->shape[1];
    problem.channels = q->shape[2];
    if (numbers.size() != 4) raise<ValueError>("Expected four numbers (got ", numbers.size(), ").");
    problem.scale = numbers[0].cast<double>();
    problem.gamma = numbers[1].cast<double>();
    problem.slope = numbers[2].cast<double>();
    problem.dropout_p = numbers[3].cast<double>();
    if (!(problem.gamma > 0.0 && problem.gamma <= 1.0))
      raise<ValueError>("Expected 'gamma' in (0, 1] (got ", problem.gamma, ").");
    check_numbers(problem.heads, problem.channels, problem.dropout_p);
    check_threads(threads);
    problem.seed = static_cast<uint64_t>(seed);
    problem.threads = threads;
    for (const auto& [argument, name] : {std::pair{&q, "q"}, {&k, "k"}, {&v, "v"}}) check_rows(*argument, name);
    problem.q = q->data;
    problem.k = k->data;
    problem.v = v->data;
    decays = !distance_.is_none();
    if (decays == hop_.is_none()) raise<ValueError>("Expected 'distance' and 'hop' together (got only one).");
    if (!decays) return;
    check_by_head(hop, "hop");
    problem.hop = hop->data;
    if (distance->dtype != DType::i8 && distance->dtype != DType::i16 && distance->dtype != DType::i32)
      raise<TypeError>("Expected 'distance' to be of dtype int8, int16 or int32 (got ", dtype_name(distance->dtype),
                       ").");
    problem.distance = distance->data;
    problem.distance_dtype = distance->dtype;
  }

  void check_rows(const Argument& rows, const char* name) const {
    check_tensor(rows.view, name, problem.dtype, {nodes, problem.heads, problem.channels});
  }
  void check_by_head(const Argument& numbers, const char* name) const {
    check_tensor(numbers.view, name, wide, {problem.heads});
  }
  void check_stats(const Argument& stats) const {
    check_tensor(stats.view, "row_stats", wide, {nodes, 2, problem.heads});
  }

  // The work's plan, which must outlive the call; checks what depends on it.
  cpu::RaggedPlan plan() {
    cpu::RaggedPlan plan(ptr.view, nodes, problem.heads, problem.dropout_p > 0.0);
    problem.batch = plan.batch();
    if (decays) check_tensor(distance.view, "distance", distance->dtype, {problem.batch.pair[problem.batch.graphs]});
    return plan;
  }
};

void ragged_forward(py::handle q, py::handle k, py::handle v, py::handle ptr, py::handle distance, py::handle hop,
                    const py::tuple& numbers, int64_t seed, py::handle out_, py::handle row_stats_, int threads) {
  RaggedCall call(q, k, v, ptr, distance, hop, numbers, seed, threads);
  const Argument out(out_, "out"), row_stats(row_stats_, "row_stats");
  call.check_rows(out, "out");
  call.check_stats(row_stats);
  const cpu::RaggedPlan plan = call.plan();
  const py::gil_scoped_release release;
  cpu::kernels().ragged_forward(call.problem, {out->data, row_stats->data});
}

void ragged_backward(py::handle q, py::handle k, py::handle v, py::handle ptr, py::handle distance, py::handle hop,
                     const py::tuple& numbers, int64_t seed, py::handle row_stats_, py::handle grad_out_,
                     py::handle grad_q_, py::handle grad_k_, py::handle grad_v_, py::handle grad_hop_, int threads) {
  RaggedCall call(q, k, v, ptr, distance, hop, numbers, seed, threads);
  const Argument row_stats(row_stats_, "row_stats"), grad_out(grad_out_, "grad_out");
  const Argument grad_q(grad_q_, "grad_q", true), grad_k(grad_k_, "grad_k", true), grad_v(grad_v_, "grad_v", true),
      grad_hop(grad_hop_, "grad_hop", true);
  call.check_stats(row_stats);
  call.check_rows(grad_out, "grad_out");
  if (grad_q) call.check_rows(grad_q, "grad_q");
  if (grad_k) call.check_rows(grad_k, "grad_k");
  if (grad_v) call.check_rows(grad_v, "grad_v");
  if (!grad_hop_.is_none()) {
    if (!call.decays) raise<ValueError>("Expected no 'grad_hop' without 'hop' (got one).");
    call.check_by_head(grad_hop, "grad_hop");
  }
  const cpu::RaggedPlan plan = call.plan();
  const py::gil_scoped_release release;
  cpu::kernels().ragged_backward(call.problem, {row_stats->data, grad_out->data},
                                 {grad_q->data, grad_k->data, grad_v->data, grad_hop->data});
}

}  // namespace

void bind_ragged(py::module_& module) {
  module.def("ragged_forward", ragged_forward,
             "ragged_forward(q, k, v, ptr, distance, hop, (scale, gamma, slope, dropout_p), seed, out, row_stats, "
             "threads)");
  module.def(
      "ragged_backward", ragged_backward,
      "ragged_backward(q, k, v, ptr, distance, hop, (scale, gamma, slope, dropout_p), seed, row_stats, grad_out, "
      "grad_q, grad_k, grad_v, grad_hop, threads)");
}

}  // namespace gattn

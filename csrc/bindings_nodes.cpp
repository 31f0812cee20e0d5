// Entry points of what nodes get from their own features, on the CPU.
#include "arguments.h"

namespace gattn {

namespace {

struct NodesCall {
  Argument x, att_src, att_dst;
  int64_t nodes = 0;
  DType accumulate = DType::f32;
  cpu::Problem problem;
  cpu::NodeParameters parameters;

  NodesCall(py::handle x_, py::handle att_src_, py::handle att_dst_, int threads)
      : x(x_, "x"), att_src(att_src_, "att_src", true), att_dst(att_dst_, "att_dst", true) {
    check_floating(x.view, "x", 3);
    nodes = x->shape[0];
    problem.dtype = x->dtype;
    problem.heads = x->shape[1];
    problem.channels = x->shape[2];
    problem.threads = threads;
    accumulate = accumulate_dtype(x->dtype);
    check_numbers(problem.heads, problem.channels, 0.0);
    check_threads(threads);
    check_tensor(x.view, "x", x->dtype, {nodes, problem.heads, problem.channels});
    check_optional(att_src, "att_src", accumulate, {problem.heads, problem.channels});
    check_optional(att_dst, "att_dst", accumulate, {problem.heads, problem.channels});
    parameters = {att_src->data, att_dst->data};
  }
  // A number a node and head, in the accumulate dtype.
  void check_term(const Argument& term, const char* name) const {
    check_optional(term, name, accumulate, {nodes, problem.heads});
  }
};

void check_pair(const Argument& a, const Argument& b, const char* a_name, const char* b_name) {
  if (static_cast<bool>(a) != static_cast<bool>(b))
    raise<ValueError>("Expected '", a_name, "' and '", b_name, "' together (got only one).");
}

void node_terms(py::handle x, py::handle att_src, py::handle att_dst, py::handle a_src_, py::handle a_dst_,
                py::handle norm_, int threads) {
  const NodesCall call(x, att_src, att_dst, threads);
  const Argument a_src(a_src_, "a_src", true), a_dst(a_dst_, "a_dst", true), norm(norm_, "norm", true);
  call.check_term(a_src, "a_src");
  call.check_term(a_dst, "a_dst");
  call.check_term(norm, "norm");
  check_pair(call.att_src, a_src, "att_src", "a_src");
  check_pair(call.att_dst, a_dst, "att_dst", "a_dst");
  const py::gil_scoped_release release;
  cpu::kernels().node_terms(call.problem, call.nodes, call.x->data, call.parameters,
                            {a_src->data, a_dst->data, norm->data});
}

void node_terms_backward(py::handle x, py::handle att_src, py::handle att_dst, py::handle norm_, py::handle grad_a_src_,
                         py::handle grad_a_dst_, py::handle grad_norm_, py::handle dx_, py::handle datt_src_,
                         py::handle datt_dst_, int threads) {
  const NodesCall call(x, att_src, att_dst, threads);
  const Argument norm(norm_, "norm", true), grad_a_src(grad_a_src_, "grad_a_src", true),
      grad_a_dst(grad_a_dst_, "grad_a_dst", true), grad_norm(grad_norm_, "grad_norm", true), dx(dx_, "grad_x"),
      datt_src(datt_src_, "grad_att_src", true), datt_dst(datt_dst_, "grad_att_dst", true);
  const int64_t heads = call.problem.heads, channels = call.problem.channels;
  call.check_term(norm, "norm");
  call.check_term(grad_a_src, "grad_a_src");
  call.check_term(grad_a_dst, "grad_a_dst");
  call.check_term(grad_norm, "grad_norm");
  check_tensor(dx.view, "grad_x", call.problem.dtype, {call.nodes, heads, channels});
  check_optional(datt_src, "grad_att_src", call.accumulate, {heads, channels});
  check_optional(datt_dst, "grad_att_dst", call.accumulate, {heads, channels});
  check_pair(norm, grad_norm, "norm", "grad_norm");
  check_pair(call.att_src, grad_a_src, "att_src", "grad_a_src");
  check_pair(call.att_dst, grad_a_dst, "att_dst", "grad_a_dst");
  check_pair(grad_a_src, datt_src, "grad_a_src", "grad_att_src");
  check_pair(grad_a_dst, datt_dst, "grad_a_dst", "grad_att_dst");
  const py::gil_scoped_release release;
  cpu::kernels().node_terms_backward(call.problem, call.nodes, call.x->data, call.parameters,
                                     {grad_a_src->data, grad_a_dst->data, norm->data, grad_norm->data},
                                     {dx->data, datt_src->data, datt_dst->data});
}

}  // namespace

void bind_nodes(py::module_& module) {
  module.def("node_terms", node_terms,
             "node_terms(x, att_src, att_dst, a_src, a_dst, norm, threads): scores <x, att> and norms |x| by head");
  module.def("node_terms_backward", node_terms_backward);
}

}  // namespace gattn

// The Python module gattn._C: looks into tensors by DLPack, checks every one, releases the GIL, calls the kernels.
#include "arguments.h"
#include "common/graph_layout.h"
#include "cpu/buffer.h"
#include "cpu/parallel.h"
#include "cpu/shortest_path.h"

namespace gattn {

void bind_activation(py::module_& module);  // bindings_activation.cpp
void bind_attention(py::module_& module);   // bindings_attention.cpp
void bind_nodes(py::module_& module);       // bindings_nodes.cpp
void bind_ragged(py::module_& module);      // bindings_ragged.cpp
void bind_cuda(py::module_& module);        // cuda/bindings.cpp

namespace {

struct GatCall {
  Argument graph, x, a_src, a_dst, a_edge, divisor;
  Sizes sizes;
  DType accumulate = DType::f32;
  cpu::Problem problem;
  cpu::GatInputs inputs;

  GatCall(py::handle graph_, py::handle x_, py::handle a_src_, py::handle a_dst_, py::handle a_edge_,
          py::handle divisor_, double negative_slope, double dropout_p, int64_t seed, int threads)
      : graph(graph_, "graph"),
        x(x_, "x"),
        a_src(a_src_, "a_src"),
        a_dst(a_dst_, "a_dst", true),
        a_edge(a_edge_, "a_edge", true),
        divisor(divisor_, "divisor", true) {
    check_floating(x.view, "x", 3);
    const int64_t heads = x->shape[1], channels = x->shape[2];
    problem = make_problem(graph, x->dtype, heads, channels, dropout_p, seed, threads, &sizes);
    accumulate = accumulate_dtype(x->dtype);
    check_tensor(x.view, "x", x->dtype, {sizes.num_src, heads, channels});
    check_tensor(a_src.view, "a_src", accumulate, {sizes.num_src, heads});
    check_optional(a_dst, "a_dst", accumulate, {sizes.num_dst, heads});
    check_optional(a_edge, "a_edge", accumulate, {sizes.num_edges, heads});
    check_optional(divisor, "divisor", accumulate, {sizes.num_dst, heads});
    inputs.v = x->data;
    inputs.a_src = a_src->data;
    inputs.a_dst = a_dst->data;
    inputs.a_edge = a_edge->data;
    inputs.divisor = divisor->data;
    inputs.negative_slope = negative_slope;
  }
};

struct GatForwardOutputs {
  Argument out, row_stats, alpha;
  AttentionOutputs pointers;

  GatForwardOutputs(const GatCall& call, py::handle out_, py::handle row_stats_, py::handle alpha_)
      : out(out_, "out"), row_stats(row_stats_, "row_stats"), alpha(alpha_, "alpha", true) {
    const int64_t heads = call.problem.heads;
    check_tensor(out.view, "out", call.problem.dtype, {call.sizes.num_dst, heads, call.problem.channels});
    check_tensor(row_stats.view, "row_stats", call.accumulate, {call.sizes.num_dst, 2, heads});
    check_optional(alpha, "alpha", call.accumulate, {call.sizes.num_edges, heads});
    pointers = {out->data, row_stats->data, alpha->data};
  }
};

struct GatBackwardArguments {
  Argument out, row_stats, alpha, grad_out, grad_alpha, dx, da_src, da_dst, da_edge, ddivisor;
  cpu::GatSaved saved;
  cpu::GatGradients gradients;

  GatBackwardArguments(const GatCall& call, py::handle out_, py::handle row_stats_, py::handle alpha_,
                       py::handle grad_out_, py::handle grad_alpha_, py::handle dx_, py::handle da_src_,
                       py::handle da_dst_, py::handle da_edge_, py::handle ddivisor_)
      : out(out_, "out"),
        row_stats(row_stats_, "row_stats"),
        alpha(alpha_, "alpha", true),
        grad_out(grad_out_, "grad_out"),
        grad_alpha(grad_alpha_, "grad_alpha", true),
        dx(dx_, "grad_x"),
        da_src(da_src_, "grad_a_src", true),
        da_dst(da_dst_, "grad_a_dst", true),
        da_edge(da_edge_, "grad_a_edge", true),
        ddivisor(ddivisor_, "grad_divisor", true) {
    const Sizes& sizes = call.sizes;
    const int64_t heads = call.problem.heads, channels = call.problem.channels;
    const DType dtype = call.problem.dtype;
    check_tensor(out.view, "out", dtype, {sizes.num_dst, heads, channels});
    check_tensor(row_stats.view, "row_stats", call.accumulate, {sizes.num_dst, 2, heads});
    check_tensor(grad_out.view, "grad_out", dtype, {sizes.num_dst, heads, channels});
    if (static_cast<bool>(grad_alpha) != static_cast<bool>(alpha))
      raise<ValueError>("Expected 'alpha' and 'grad_alpha' together (got only one).");
    check_optional(alpha, "alpha", call.accumulate, {sizes.num_edges, heads});
    check_optional(grad_alpha, "grad_alpha", call.accumulate, {sizes.num_edges, heads});
    check_tensor(dx.view, "grad_x", dtype, {sizes.num_src, heads, channels});
    check_optional(da_src, "grad_a_src", call.accumulate, {sizes.num_src, heads});
    check_optional(da_dst, "grad_a_dst", call.accumulate, {sizes.num_dst, heads});
    check_optional(da_edge, "grad_a_edge", call.accumulate, {sizes.num_edges, heads});
    saved = {{row_stats->data, out->data, grad_out->data, grad_alpha->data}, alpha->data};
    check_optional(ddivisor, "grad_divisor", call.accumulate, {sizes.num_dst, heads});
    if (ddivisor && !call.divisor) raise<ValueError>("Expected 'divisor' with 'grad_divisor' (got None).");
    gradients.v = dx->data;
    gradients.a_src = da_src->data;
    gradients.a_dst = da_dst->data;
    gradients.a_edge = da_edge->data;
    gradients.divisor = ddivisor->data;
  }
};

void gat_forward(py::handle graph, py::handle x, py::handle a_src, py::handle a_dst, py::handle a_edge,
                 py::handle divisor, double negative_slope, double dropout_p, int64_t seed, py::handle out,
                 py::handle row_stats, py::handle alpha, int threads) {
  const GatCall call(graph, x, a_src, a_dst, a_edge, divisor, negative_slope, dropout_p, seed, threads);
  const GatForwardOutputs outputs(call, out, row_stats, alpha);
  const py::gil_scoped_release release;
  cpu::kernels().gat_forward(call.problem, call.inputs, outputs.pointers);
}

void gat_backward(py::handle graph, py::handle x, py::handle a_src, py::handle a_dst, py::handle a_edge,
                  py::handle divisor, double negative_slope, double dropout_p, int64_t seed, py::handle out,
                  py::handle row_stats, py::handle alpha, py::handle grad_out, py::handle grad_alpha, py::handle dx,
                  py::handle da_src, py::handle da_dst, py::handle da_edge, py::handle ddivisor, int threads) {
  const GatCall call(graph, x, a_src, a_dst, a_edge, divisor, negative_slope, dropout_p, seed, threads);
  const GatBackwardArguments arguments(call, out, row_stats, alpha, grad_out, grad_alpha, dx, da_src, da_dst, da_edge,
                                       ddivisor);
  if (!arguments.da_src) raise<ValueError>("Expected 'grad_a_src' to be a tensor (got None).");
  const py::gil_scoped_release release;
  cpu::kernels().gat_backward(call.problem, call.inputs, arguments.saved, arguments.gradients);
}

// The layer's op: node scores, LipschitzNorm where it has a weight, attention and bias in one call. The forward writes
// a_src and a_dst, and with a weight the norms.
struct GatLayerCall {
  Argument att_src, att_dst, bias, weight, norm;
  GatCall call;
  cpu::NodeParameters parameters;

  GatLayerCall(py::handle graph, py::handle x, py::handle att_src_, py::handle att_dst_, py::handle a_edge,
               py::handle bias_, py::handle weight_, py::handle a_src, py::handle a_dst, py::handle norm_,
               double negative_slope, double dropout_p, int64_t seed, int threads)
      : att_src(att_src_, "att_src"),
        att_dst(att_dst_, "att_dst"),
        bias(bias_, "bias", true),
        weight(weight_, "weight", true),
        norm(norm_, "norm", true),
        call(graph, x, a_src, a_dst, a_edge, py::none(), negative_slope, dropout_p, seed, threads) {
    const int64_t heads = call.problem.heads, channels = call.problem.channels, nodes = call.sizes.num_dst;
    if (call.sizes.num_src != call.sizes.num_dst)
      raise<ValueError>("Expected a graph with one set of nodes (got ", call.sizes.num_src, " sources and ",
                        call.sizes.num_dst, " targets). Use gat for bipartite graphs.");
    if (!call.a_dst) raise<ValueError>("Expected 'a_dst' to be a tensor (got None).");
    check_tensor(att_src.view, "att_src", call.accumulate, {heads, channels});
    check_tensor(att_dst.view, "att_dst", call.accumulate, {heads, channels});
    check_optional(bias, "bias", call.accumulate, {heads * channels});
    check_optional(weight, "weight", call.accumulate, {heads});
    check_optional(norm, "norm", call.accumulate, {nodes, heads});
    if (static_cast<bool>(norm) != static_cast<bool>(weight))
      raise<ValueError>("Expected 'weight' and 'norm' together (got only one).");
    parameters = {att_src->data, att_dst->data};
    call.inputs.bias = bias->data;
  }
  int64_t nodes() const { return call.sizes.num_dst; }
  int64_t norm_bytes() const { return weight ? nodes() * call.problem.heads * dtype_bytes(call.accumulate) : 0; }
};

// The divisor of a layer's scores, from its norms.
struct LayerDivisor {
  cpu::Buffer<int64_t> first;
  cpu::Buffer<char> divisor;
  cpu::DivisorInputs inputs;

  explicit LayerDivisor(const GatLayerCall& layer)
      : first(layer.weight ? layer.nodes() * layer.call.problem.heads : 0),
        divisor(layer.norm_bytes()),
        inputs{layer.norm->data, layer.weight->data, first.get()} {
    if (!layer.weight) return;
    cpu::kernels().first_largest(layer.call.problem, inputs.norm, first.get());
    cpu::kernels().gat_divisor(layer.call.problem, layer.nodes(), inputs, divisor.get());
  }
};

void gat_layer_forward(py::handle graph, py::handle x, py::handle att_src, py::handle att_dst, py::handle a_edge,
                       py::handle bias, py::handle weight, py::handle a_src, py::handle a_dst, py::handle norm,
                       double negative_slope, double dropout_p, int64_t seed, py::handle out_, py::handle row_stats_,
                       py::handle alpha_, int threads) {
  const GatLayerCall layer(graph, x, att_src, att_dst, a_edge, bias, weight, a_src, a_dst, norm, negative_slope,
                           dropout_p, seed, threads);
  const GatCall& call = layer.call;
  const GatForwardOutputs outputs(call, out_, row_stats_, alpha_);
  const py::gil_scoped_release release;
  cpu::kernels().node_terms(call.problem, layer.nodes(), call.x->data, layer.parameters,
                            {call.a_src->data, call.a_dst->data, layer.norm->data});
  const LayerDivisor divisor(layer);
  cpu::GatInputs inputs = call.inputs;
  inputs.divisor = divisor.divisor.get();
  cpu::kernels().gat_forward(call.problem, inputs, outputs.pointers);
}

void gat_layer_backward(py::handle graph, py::handle x, py::handle att_src, py::handle att_dst, py::handle a_edge,
                        py::handle bias, py::handle weight, py::handle a_src, py::handle a_dst, py::handle norm,
                        double negative_slope, double dropout_p, int64_t seed, py::handle out, py::handle row_stats,
                        py::handle alpha, py::handle grad_out, py::handle grad_alpha, py::handle dx, py::handle da_edge,
                        py::handle datt_src_, py::handle datt_dst_, py::handle dbias_, py::handle dweight_,
                        int threads) {
  const GatLayerCall layer(graph, x, att_src, att_dst, a_edge, bias, weight, a_src, a_dst, norm, negative_slope,
                           dropout_p, seed, threads);
  const GatCall& call = layer.call;
  const int64_t heads = call.problem.heads, channels = call.problem.channels, nodes = layer.nodes();
  const Argument datt_src(datt_src_, "grad_att_src"), datt_dst(datt_dst_, "grad_att_dst"),
      dbias(dbias_, "grad_bias", true), dweight(dweight_, "grad_weight", true);
  check_tensor(datt_src.view, "grad_att_src", call.accumulate, {heads, channels});
  check_tensor(datt_dst.view, "grad_att_dst", call.accumulate, {heads, channels});
  check_optional(dbias, "grad_bias", call.accumulate, {heads * channels});
  check_optional(dweight, "grad_weight", call.accumulate, {heads});
  if (static_cast<bool>(dweight) != static_cast<bool>(layer.weight))
    raise<ValueError>("Expected 'weight' and 'grad_weight' together (got only one).");
  GatBackwardArguments arguments(call, out, row_stats, alpha, grad_out, grad_alpha, dx, py::none(), py::none(), da_edge,
                                 py::none());
  const py::gil_scoped_release release;
  const int64_t bytes = nodes * heads * dtype_bytes(call.accumulate);
  const LayerDivisor divisor(layer);
  const cpu::Buffer<char> da_src(bytes), da_dst(bytes), ddivisor(layer.norm_bytes()), dnorm(layer.norm_bytes());
  cpu::GatInputs inputs = call.inputs;
  inputs.divisor = divisor.divisor.get();
  arguments.gradients.a_src = da_src.get();
  arguments.gradients.a_dst = da_dst.get();
  arguments.gradients.divisor = ddivisor.get();
  // In half precision the gradient of x is rounded once, when all of it is there.
  const bool half = call.accumulate != call.problem.dtype;
  const cpu::Buffer<float> wide_dx(half ? nodes * heads * channels : 0);
  void* const final_dx = arguments.gradients.v;
  arguments.gradients.wide_v = half;
  if (half) arguments.gradients.v = wide_dx.get();
  cpu::kernels().gat_backward(call.problem, inputs, arguments.saved, arguments.gradients);
  if (layer.weight)
    cpu::kernels().gat_divisor_backward(call.problem, nodes, divisor.inputs, ddivisor.get(),
                                        {dnorm.get(), dweight->data});
  cpu::kernels().node_terms_backward(
      call.problem, nodes, call.x->data, layer.parameters, {da_src.get(), da_dst.get(), layer.norm->data, dnorm.get()},
      {final_dx, datt_src->data, datt_dst->data, dbias->data, arguments.saved.grad_out, arguments.gradients.v, half});
}

void gather_limit(py::handle graph_, py::handle x_, py::handle out_, int threads) {
  const Argument graph(graph_, "graph"), x(x_, "x"), out(out_, "out");
  check_floating(x.view, "x", 3);
  const int64_t heads = x->shape[1], channels = x->shape[2];
  Sizes sizes;
  const cpu::Problem problem = make_problem(graph, x->dtype, heads, channels, 0.0, 0, threads, &sizes);
  check_tensor(x.view, "x", x->dtype, {sizes.num_src, heads, channels});
  check_tensor(out.view, "out", x->dtype, {sizes.num_dst, heads, channels});
  const py::gil_scoped_release release;
  cpu::kernels().gather_limit(problem, x->data, out->data);
}

// Hands the array to Python as a DLPack tensor that owns its memory.
py::object to_capsule(cpu::OwnedArray array) {
  struct Owner {
    dlpack::ManagedTensor managed;
    cpu::OwnedArray array;
    int64_t shape[1], strides[1];
  };
  auto owner = std::make_unique<Owner>();
  owner->shape[0] = array.numel;
  owner->strides[0] = 1;
  owner->array = std::move(array);
  owner->managed.tensor = {owner->array.data.get(),
                           {dlpack::kCpu, 0},
                           1,
                           {dlpack::kInt, static_cast<uint8_t>(8 * dtype_bytes(owner->array.dtype)), 1},
                           owner->shape,
                           owner->strides,
                           0};
  owner->managed.context = owner.get();
  owner->managed.deleter = [](dlpack::ManagedTensor* managed) { delete static_cast<Owner*>(managed->context); };
  PyObject* capsule = PyCapsule_New(&owner->managed, "dltensor", [](PyObject* object) {
    if (!PyCapsule_IsValid(object, "dltensor")) return;  // the consumer has taken it and renamed it
    auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(object, "dltensor"));
    managed->deleter(managed);
  });
  if (capsule == nullptr) throw py::error_already_set();
  owner.release();
  return py::reinterpret_steal<py::object>(capsule);
}

py::tuple build_graph(py::handle edge_index, int64_t num_src, int64_t num_dst, bool swap_rows, bool self_loops,
                      bool wide, int threads) {
  const Argument edges(edge_index, "edge_index");
  cpu::PackedGraph graph;
  {
    const py::gil_scoped_release release;
    graph = cpu::build_graph(edges.view, {num_src, num_dst, swap_rows, self_loops, wide, threads});
  }
  const Sizes sizes{graph.num_src, graph.num_dst, graph.num_edges};
  return py::make_tuple(to_capsule(std::move(graph)), sizes.num_src, sizes.num_dst, sizes.num_edges);
}

py::object shortest_path(py::handle edge_index, py::handle ptr_, int64_t unreachable, int threads) {
  const Argument edges(edge_index, "edge_index"), ptr(ptr_, "ptr");
  cpu::OwnedArray distances;
  {
    const py::gil_scoped_release release;
    distances = cpu::shortest_path(edges.view, ptr.view, unreachable, threads);
  }
  return to_capsule(std::move(distances));
}

py::list usable_isas() {
  py::list names;
  for (const char* const* name = cpu::usable_isas(); *name != nullptr; ++name) names.append(*name);
  return names;
}

}  // namespace

}  // namespace gattn

PYBIND11_MODULE(_C, module) {
  using namespace gattn;
  translate_errors();
  module.doc() =
      "Compiled core of gattn. Tensors are torch's own (from 2.10) or DLPack capsules; every entry point checks them "
      "before use.";
  module.attr("version") = GATTN_VERSION;
  module.attr("compiler") = GATTN_COMPILER;
  module.attr("GRAPH_HEADER") = kGraphHeader;
  module.attr("HUB_DEGREE") = cpu::kHubDegree;
  module.def("isa", [] { return std::string(cpu::kernels().name); }, "Instruction set of the kernels in use.");
  module.def("isas", usable_isas, "Instruction sets this machine can use, best first.");
  module.def("pool", [] { return std::string(cpu::pool_name()); }, "Where the kernels' threads come from.");
  module.def("build_graph", build_graph,
             "build_graph(edge_index, num_src, num_dst, swap_rows, self_loops, wide, threads) -> (packed, num_src, "
             "num_dst, num_edges)");
  module.def("shortest_path", shortest_path, "shortest_path(edge_index, ptr, unreachable, threads) -> distances");
  module.def("gat_forward", gat_forward);
  module.def("gat_backward", gat_backward);
  module.def("gat_layer_forward", gat_layer_forward);
  module.def("gat_layer_backward", gat_layer_backward);
  bind_activation(module);
  bind_attention(module);
  bind_nodes(module);
  bind_ragged(module);
  module.attr("cuda_compiler") = GATTN_CUDA_COMPILER;
  module.attr("no_cuda") = GATTN_NO_CUDA;
  if constexpr (sizeof(GATTN_NO_CUDA) == 1) bind_cuda(module);
  module.def("gather_limit", gather_limit, "gather_limit(graph, x, out, threads): out[i] = sum of x[j] over in-edges");
}

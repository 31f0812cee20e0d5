// Entry points of the attention that all scores share. Tensors come by name, in dictionaries; an
// absent name is an input that this attention does not have, or a result that is not wanted.
#include <string>

#include "arguments.h"

namespace gattn {

namespace {

using cpu::AttentionGradients;
using cpu::AttentionInputs;

constexpr const char* kScores[] = {"edge_softmax", "gat", "gatv2", "dot", "gt"};  // in the order of cpu::Score
constexpr unsigned bit(cpu::Score score) { return 1u << static_cast<unsigned>(score); }
constexpr unsigned kLogits = bit(cpu::Score::edge_softmax), kGat = bit(cpu::Score::gat), kGt = bit(cpu::Score::gt);
constexpr unsigned kGatv2 = bit(cpu::Score::gatv2), kDot = bit(cpu::Score::dot);
constexpr unsigned kFeatures = kGatv2 | kDot | kGt, kValues = kFeatures | kGat, kAll = kValues | kLogits;

enum class Rows { src, dst, edges, none };

// An input: where it and its gradient go, its shape [rows, heads(, channels)], and the scores that take or need it.
// With channels and rows it is made of features, in the storage dtype; else it is in the accumulate dtype.
struct Slot {
  const char* name;
  const void* AttentionInputs::* input;
  void* AttentionGradients::* gradient;
  Rows rows;
  bool channels;
  unsigned takes, needs;
};
constexpr Slot kSlots[] = {
    {"q", &AttentionInputs::q, &AttentionGradients::q, Rows::dst, true, kFeatures, kFeatures},
    {"k", &AttentionInputs::k, &AttentionGradients::k, Rows::src, true, kFeatures, kFeatures},
    {"v", &AttentionInputs::v, &AttentionGradients::v, Rows::src, true, kGat | kDot | kGt, kGat | kDot | kGt},
    {"edge", &AttentionInputs::edge, &AttentionGradients::edge, Rows::edges, true, kFeatures, kGt},
    {"att", &AttentionInputs::att, &AttentionGradients::att, Rows::none, true, kGatv2, kGatv2},
    {"a_src", &AttentionInputs::a_src, &AttentionGradients::a_src, Rows::src, false, kGat, 0},
    {"a_dst", &AttentionInputs::a_dst, &AttentionGradients::a_dst, Rows::dst, false, kGat, 0},
    {"a_edge", &AttentionInputs::a_edge, &AttentionGradients::a_edge, Rows::edges, false, kGat | kLogits, kLogits},
    {"edge_weight", &AttentionInputs::edge_weight, &AttentionGradients::edge_weight, Rows::edges, false, kGt, 0},
    {"divisor", &AttentionInputs::divisor, &AttentionGradients::divisor, Rows::dst, false, kAll, 0},
    {"hop", &AttentionInputs::hop, &AttentionGradients::hop, Rows::none, false, kAll, 0},
    {"sink_logit", &AttentionInputs::sink_logit, &AttentionGradients::sink_logit, Rows::dst, false, kAll, 0},
    {"sink_value", &AttentionInputs::sink_value, &AttentionGradients::sink_value, Rows::none, true, kValues, 0},
};

// (A tensor without elements has no address: whether it was given is asked of the dictionary.)
bool given(const py::dict& tensors, const char* name) { return tensors.contains(name); }
Argument optional(const py::dict& tensors, const char* name) {
  return Argument(given(tensors, name) ? py::object(tensors[name]) : py::none(), name, true);
}

struct AttentionCall {
  Argument graph;
  Sizes sizes;
  DType storage = DType::f32, wide = DType::f32;
  cpu::Problem problem;
  AttentionInputs inputs;

  AttentionCall(py::handle graph_, const py::dict& tensors, const py::tuple& settings, int64_t seed, int threads)
      : graph(graph_, "graph") {
    if (settings.size() != 9) raise<ValueError>("Expected nine settings (got ", settings.size(), ").");
    inputs.score = score_of(settings[0].cast<std::string>());
    inputs.negative_slope = settings[1].cast<double>();
    inputs.scale = settings[2].cast<double>();
    inputs.clip = settings[3].cast<double>();
    inputs.epsilon = settings[4].cast<double>();
    inputs.gamma = settings[5].cast<double>();
    inputs.decay_slope = settings[6].cast<double>();
    inputs.undropped = settings[8].cast<bool>();
    if (!(inputs.gamma > 0.0 && inputs.gamma <= 1.0))
      raise<ValueError>("Expected 'gamma' in (0, 1] (got ", inputs.gamma, ").");
    // The tensor that gives the dtype, the heads and the channels.
    const char* first = takes(kFeatures) ? "k" : takes(kGat) ? "v" : "a_edge";
    if (!given(tensors, first)) raise<ValueError>("Expected '", first, "' to be a tensor (got None).");
    const Argument leader = optional(tensors, first);
    check_floating(leader.view, first, takes(kLogits) ? 2 : 3);
    storage = leader->dtype;
    wide = accumulate_dtype(storage);
    problem = make_problem(graph, storage, leader->shape[1], takes(kLogits) ? 1 : leader->shape[2],
                           settings[7].cast<double>(), seed, threads, &sizes);
    read(tensors);
  }

  bool takes(unsigned scores) const { return (bit(inputs.score) & scores) != 0; }

  void check(const Argument& tensor, const Slot& slot) const {
    const int64_t rows = slot.rows == Rows::src   ? sizes.num_src
                         : slot.rows == Rows::dst ? sizes.num_dst
                                                  : sizes.num_edges;
    const int64_t heads = problem.heads, channels = problem.channels;
    if (slot.rows == Rows::none && slot.channels)
      check_tensor(tensor.view, slot.name, wide, {heads, channels});
    else if (slot.rows == Rows::none)
      check_tensor(tensor.view, slot.name, wide, {heads});
    else if (slot.channels)
      check_tensor(tensor.view, slot.name, storage, {rows, heads, channels});
    else
      check_tensor(tensor.view, slot.name, wide, {rows, heads});
  }

  // Optional tensors of the call's own shapes.
  Argument features(const py::dict& tensors, const char* name, int64_t rows) const {
    const Argument tensor = optional(tensors, name);
    check_optional(tensor, name, storage, {rows, problem.heads, problem.channels});
    return tensor;
  }
  Argument attention(const py::dict& tensors, const char* name) const {
    const Argument tensor = optional(tensors, name);
    check_optional(tensor, name, wide, {sizes.num_edges, problem.heads});
    return tensor;
  }
  Argument row_stats(const py::dict& tensors) const {
    const Argument tensor = optional(tensors, "row_stats");
    if (!given(tensors, "row_stats")) raise<ValueError>("Expected 'row_stats' to be a tensor (got None).");
    check_tensor(tensor.view, "row_stats", wide, {sizes.num_dst, 2, problem.heads});
    return tensor;
  }

 private:
  static cpu::Score score_of(const std::string& name) {
    for (size_t i = 0; i < std::size(kScores); ++i)
      if (name == kScores[i]) return static_cast<cpu::Score>(i);
    raise<ValueError>("Expected a score out of edge_softmax, gat, gatv2, dot and gt (got '", name, "').");
  }

  void read(const py::dict& tensors) {
    for (const Slot& slot : kSlots) {
      if (!given(tensors, slot.name)) {
        if (takes(slot.needs)) raise<ValueError>("Expected '", slot.name, "' to be a tensor (got None).");
        continue;
      }
      if (!takes(slot.takes)) raise<ValueError>("Expected no '", slot.name, "' with this score (got one).");
      const Argument tensor = optional(tensors, slot.name);
      check(tensor, slot);
      inputs.*slot.input = tensor->data;
    }
    if (given(tensors, "distance") != given(tensors, "hop"))
      raise<ValueError>("Expected 'distance' and 'hop' together (got only one).");
    if (!given(tensors, "distance")) return;
    const Argument distance = optional(tensors, "distance");
    switch (distance->dtype) {
      case DType::u8:
      case DType::i8:
      case DType::i16:
      case DType::i32:
      case DType::i64:
        break;
      default:
        raise<TypeError>("Expected 'distance' to be of an integer dtype.");
    }
    check_tensor(distance.view, "distance", distance->dtype, {sizes.num_edges});
    inputs.distance = distance->data;
    inputs.distance_dtype = distance->dtype;
  }
};

void attention_forward(py::handle graph, const py::dict& tensors, const py::tuple& settings, int64_t seed,
                       const py::dict& results, int threads) {
  const AttentionCall call(graph, tensors, settings, seed, threads);
  const Argument out = call.features(results, "out", call.sizes.num_dst);
  const Argument edge = call.features(results, "edge_out", call.sizes.num_edges);
  const Argument alpha = call.attention(results, "alpha"), row_stats = call.row_stats(results);
  if (given(results, "out") == call.takes(kLogits))
    raise<ValueError>("Expected 'out' for scores with values, and for them alone.");
  if (edge && !call.takes(kGt)) raise<ValueError>("Expected no 'edge_out' with this score (got one).");
  const py::gil_scoped_release release;
  cpu::kernels().attention_forward(call.problem, call.inputs, {out->data, row_stats->data, alpha->data, edge->data});
}

void attention_backward(py::handle graph, const py::dict& tensors, const py::tuple& settings, int64_t seed,
                        const py::dict& saved, const py::dict& results, int threads) {
  const AttentionCall call(graph, tensors, settings, seed, threads);
  const Argument grad_out = call.features(saved, "grad_out", call.sizes.num_dst);
  const Argument grad_edge = call.features(saved, "grad_edge", call.sizes.num_edges);
  const Argument grad_alpha = call.attention(saved, "grad_alpha"), row_stats = call.row_stats(saved);
  if (grad_edge && !call.takes(kGt)) raise<ValueError>("Expected no 'grad_edge' with this score (got one).");
  if (grad_out && call.takes(kLogits)) raise<ValueError>("Expected no 'grad_out' with this score (got one).");
  AttentionGradients gradients;
  for (const Slot& slot : kSlots) {
    if (!given(results, slot.name)) continue;
    if (!given(tensors, slot.name))
      raise<ValueError>("Expected a gradient of inputs only (got one of '", slot.name, "').");
    const Argument tensor = optional(results, slot.name);
    call.check(tensor, slot);
    gradients.*slot.gradient = tensor->data;
  }
  const py::gil_scoped_release release;
  cpu::kernels().attention_backward(call.problem, call.inputs,
                                    {row_stats->data, grad_out->data, grad_alpha->data, grad_edge->data}, gradients);
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
             "attention_forward(graph, inputs, settings, seed, results, threads)");
  module.def("attention_backward", attention_backward,
             "attention_backward(graph, inputs, settings, seed, saved, gradients, threads)");
  module.def("first_largest", first_largest,
             "first_largest(graph, values, first, threads): source of the first in-edge with the largest value, or -1");
}

}  // namespace gattn

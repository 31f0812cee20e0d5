// The arguments of the attention that all scores share, for every backend whose kernels are compiled. Tensors come by
// name, in dictionaries; an absent name is an input that this attention does not have, or a result
// that is not wanted.
#pragma once

#include <string>

#include "arguments.h"

namespace gattn {

constexpr const char* kScores[] = {"edge_softmax", "gat", "gatv2", "dot", "gt"};  // in the order of ScoreKind
constexpr unsigned bit(ScoreKind score) { return 1u << static_cast<unsigned>(score); }
constexpr unsigned kLogits = bit(ScoreKind::edge_softmax), kGat = bit(ScoreKind::gat), kGt = bit(ScoreKind::gt);
constexpr unsigned kGatv2 = bit(ScoreKind::gatv2), kDot = bit(ScoreKind::dot);
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
inline bool given(const py::dict& tensors, const char* name) { return tensors.contains(name); }
// The tensors of a call on one device, checked.
class AttentionArguments {
 public:
  Sizes sizes;
  DType storage = DType::f32, wide = DType::f32;
  int64_t heads = 0, channels = 0;
  double dropout_p = 0.0;
  AttentionInputs inputs;

  AttentionArguments(const Sizes& sizes_, const py::dict& tensors, const py::tuple& settings, int32_t device_)
      : sizes(sizes_), device(device_) {
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
    heads = leader->shape[1];
    channels = takes(kLogits) ? 1 : leader->shape[2];
    dropout_p = settings[7].cast<double>();
    read(tensors);
  }

  bool takes(unsigned scores) const { return (bit(inputs.score) & scores) != 0; }

  void check(const Argument& tensor, const Slot& slot) const {
    const int64_t rows = slot.rows == Rows::src   ? sizes.num_src
                         : slot.rows == Rows::dst ? sizes.num_dst
                                                  : sizes.num_edges;
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
    check_optional(tensor, name, storage, {rows, heads, channels});
    return tensor;
  }
  Argument attention(const py::dict& tensors, const char* name) const {
    const Argument tensor = optional(tensors, name);
    check_optional(tensor, name, wide, {sizes.num_edges, heads});
    return tensor;
  }
  Argument row_stats(const py::dict& tensors) const {
    const Argument tensor = optional(tensors, "row_stats");
    if (!given(tensors, "row_stats")) raise<ValueError>("Expected 'row_stats' to be a tensor (got None).");
    check_tensor(tensor.view, "row_stats", wide, {sizes.num_dst, 2, heads});
    return tensor;
  }

  AttentionOutputs outputs(const py::dict& results) const {
    const Argument out = features(results, "out", sizes.num_dst), edge = features(results, "edge_out", sizes.num_edges);
    if (given(results, "out") == takes(kLogits))
      raise<ValueError>("Expected 'out' for scores with values, and for them alone.");
    if (edge && !takes(kGt)) raise<ValueError>("Expected no 'edge_out' with this score (got one).");
    return {out->data, row_stats(results)->data, attention(results, "alpha")->data, edge->data};
  }
  AttentionSaved saved(const py::dict& tensors) const {
    const Argument grad_out = features(tensors, "grad_out", sizes.num_dst);
    const Argument grad_edge = features(tensors, "grad_edge", sizes.num_edges);
    if (grad_edge && !takes(kGt)) raise<ValueError>("Expected no 'grad_edge' with this score (got one).");
    if (grad_out && takes(kLogits)) raise<ValueError>("Expected no 'grad_out' with this score (got one).");
    return {row_stats(tensors)->data, features(tensors, "out", sizes.num_dst)->data, grad_out->data,
            attention(tensors, "grad_alpha")->data, grad_edge->data};
  }
  AttentionGradients gradients(const py::dict& tensors, const py::dict& results) const {
    AttentionGradients found;
    for (const Slot& slot : kSlots) {
      if (!given(results, slot.name)) continue;
      if (!given(tensors, slot.name))
        raise<ValueError>("Expected a gradient of inputs only (got one of '", slot.name, "').");
      const Argument tensor = optional(results, slot.name);
      check(tensor, slot);
      found.*slot.gradient = tensor->data;
    }
    return found;
  }

 private:
  int32_t device;

  Argument optional(const py::dict& tensors, const char* name) const {
    return Argument(given(tensors, name) ? py::object(tensors[name]) : py::none(), name, true, device);
  }
  static ScoreKind score_of(const std::string& name) {
    for (size_t i = 0; i < std::size(kScores); ++i)
      if (name == kScores[i]) return static_cast<ScoreKind>(i);
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

}  // namespace gattn

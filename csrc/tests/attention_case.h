// An attention to test: its score, its inputs, its modifiers.
#pragma once

#include "fixtures.h"

namespace gattn::tests {

// The differentiable inputs of an attention.
enum Input { kQ, kK, kV, kEdge, kAtt, kSrc, kDst, kEdgeLogit, kEdgeWeight, kDivisor, kHop, kSink, kSinkValue, kInputs };
constexpr unsigned bit(Input input) { return 1u << input; }

// Where an input and its gradient go, and its shape: [rows, heads(, channels)].
enum class Rows { src, dst, edges, none };
struct Slot {
  const char* name;
  const void* AttentionInputs::* input;
  void* AttentionGradients::* gradient;
  Rows rows;
  bool channels;
};
inline constexpr Slot kSlots[kInputs] = {
    {"q", &AttentionInputs::q, &AttentionGradients::q, Rows::dst, true},
    {"k", &AttentionInputs::k, &AttentionGradients::k, Rows::src, true},
    {"v", &AttentionInputs::v, &AttentionGradients::v, Rows::src, true},
    {"edge", &AttentionInputs::edge, &AttentionGradients::edge, Rows::edges, true},
    {"att", &AttentionInputs::att, &AttentionGradients::att, Rows::none, true},
    {"a_src", &AttentionInputs::a_src, &AttentionGradients::a_src, Rows::src, false},
    {"a_dst", &AttentionInputs::a_dst, &AttentionGradients::a_dst, Rows::dst, false},
    {"a_edge", &AttentionInputs::a_edge, &AttentionGradients::a_edge, Rows::edges, false},
    {"edge_weight", &AttentionInputs::edge_weight, &AttentionGradients::edge_weight, Rows::edges, false},
    {"divisor", &AttentionInputs::divisor, &AttentionGradients::divisor, Rows::dst, false},
    {"hop", &AttentionInputs::hop, &AttentionGradients::hop, Rows::none, false},
    {"sink_logit", &AttentionInputs::sink_logit, &AttentionGradients::sink_logit, Rows::dst, false},
    {"sink_value", &AttentionInputs::sink_value, &AttentionGradients::sink_value, Rows::none, true},
};

// A score with or without edge features.
struct Variant {
  const char* name;
  ScoreKind score;
  unsigned inputs;
};
inline constexpr Variant kVariants[] = {
    {"edge_softmax", ScoreKind::edge_softmax, bit(kEdgeLogit)},
    {"gat", ScoreKind::gat, bit(kV) | bit(kSrc) | bit(kDst)},
    {"gat with edges, one-sided", ScoreKind::gat, bit(kV) | bit(kSrc) | bit(kEdgeLogit)},
    {"gatv2", ScoreKind::gatv2, bit(kQ) | bit(kK) | bit(kAtt)},
    {"gatv2 with edges", ScoreKind::gatv2, bit(kQ) | bit(kK) | bit(kAtt) | bit(kEdge)},
    {"dot", ScoreKind::dot, bit(kQ) | bit(kK) | bit(kV)},
    {"dot with edges", ScoreKind::dot, bit(kQ) | bit(kK) | bit(kV) | bit(kEdge)},
    {"gt", ScoreKind::gt, bit(kQ) | bit(kK) | bit(kV) | bit(kEdge)},
};

struct Modifier {
  const char* name;
  unsigned inputs;
  double dropout_p = 0;
  bool undropped = false;
  DType distance_dtype = DType::i64;
};
constexpr unsigned kEverything = bit(kEdgeWeight) | bit(kDivisor) | bit(kHop) | bit(kSink) | bit(kSinkValue);
inline constexpr Modifier kModifiers[] = {
    {"plain", 0},
    {"dropout", 0, 0.5},
    {"weights before dropout", 0, 0.25, true},
    {"edge_weight", bit(kEdgeWeight)},
    {"divisor", bit(kDivisor)},
    {"decay, uint8", bit(kHop), 0, false, DType::u8},
    {"decay, int8", bit(kHop), 0, false, DType::i8},
    {"decay, int16", bit(kHop), 0, false, DType::i16},
    {"decay, int32", bit(kHop), 0, false, DType::i32},
    {"decay, int64", bit(kHop), 0, false, DType::i64},
    {"sink", bit(kSink)},
    {"sink with value", bit(kSink) | bit(kSinkValue), 0.25},
    {"everything but edge_weight", kEverything & ~bit(kEdgeWeight), 0.5, false, DType::i16},
    {"everything", kEverything, 0.5, false, DType::i16},
};

struct AttentionCase {
  const EdgeList& list;
  const Variant& variant;
  const Modifier& modifier;
  DType dtype = DType::f32;
  int64_t heads = 1, channels = 1;
  bool wide = false;
  bool grad_out = true, grad_alpha = true, grad_products = true;  // what has a gradient (products: score gt's edges)
  int threads = 1;

  static constexpr double slope = 0.2, clip = 1.25, gamma = 0.7, decay_slope = 0.1;
  double scale() const { return 0.75 / std::sqrt(static_cast<double>(channels)); }
  double epsilon() const { return is(ScoreKind::gt) || has(kEdgeWeight) ? 0.25 : 0.0; }

  bool is(ScoreKind score) const { return variant.score == score; }
  bool has_values() const { return !is(ScoreKind::edge_softmax); }
  unsigned inputs() const { return (variant.inputs | modifier.inputs) & (has_values() ? ~0u : ~bit(kSinkValue)); }
  bool has(Input input) const { return inputs() & bit(input); }
  int64_t edges() const { return static_cast<int64_t>(list.edges.size()); }

  int64_t rows(Input input) const {
    switch (kSlots[input].rows) {
      case Rows::src:
        return list.num_src;
      case Rows::dst:
        return list.num_dst;
      case Rows::edges:
        return edges();
      default:
        return 1;
    }
  }
  DType dtype_of(Input input) const {
    const bool features = kSlots[input].channels && kSlots[input].rows != Rows::none;
    return features ? dtype : accumulate_dtype(dtype);
  }
  // Of an input or its gradient; without elements where it is not wanted.
  Array array(Input input, bool wanted) const {
    return {dtype_of(input), {wanted ? rows(input) : 0, heads, kSlots[input].channels ? channels : 1}};
  }

  std::string name() const {
    return std::string(variant.name) + ", " + modifier.name + ", " + list.name + ", " + dtype_name(dtype) +
           (wide ? ", int64, " : ", int32, ") + std::to_string(heads) + "x" + std::to_string(channels) +
           ", gradients of" + (grad_out ? " out" : "") + (grad_alpha ? " alpha" : "") +
           (grad_products ? " products" : "") + ", " + cpu::kernels().name;
  }
};

}  // namespace gattn::tests

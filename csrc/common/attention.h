// What an attention is given, leaves for its backward and gives back, for the kernels of every device.
#pragma once

#include "tensor.h"

namespace gattn {

// Every score with every modifier; null where an attention has no such input. Features are in the storage dtype,
// everything else but `distance` in the accumulate dtype. See gattn/reference/attention.py for what is computed.
enum class ScoreKind { edge_softmax, gat, gatv2, dot, gt };
struct AttentionInputs {
  ScoreKind score = ScoreKind::gat;
  const void *q = nullptr, *k = nullptr, *v = nullptr, *edge = nullptr, *att = nullptr;
  const void *a_src = nullptr, *a_dst = nullptr, *a_edge = nullptr, *edge_weight = nullptr;
  const void *divisor = nullptr, *hop = nullptr, *sink_logit = nullptr, *sink_value = nullptr;
  const void* distance = nullptr;
  DType distance_dtype = DType::i64;
  double negative_slope = 0, scale = 1, clip = 0, epsilon = 0, gamma = 1, decay_slope = 0;
  bool undropped = false;  // the attention returned is the one before dropout
};
// row_stats is [num_dst, 2, heads]: each row's largest score, and its sum of exp(score - largest). One log-sum-exp
// would lose the bits that a large score takes from a small logarithm.
struct AttentionOutputs {
  void *out = nullptr, *row_stats = nullptr, *alpha = nullptr, *edge = nullptr;  // all but row_stats optional
};
struct AttentionSaved {
  const void *row_stats = nullptr, *out = nullptr;                              // out: optional
  const void *grad_out = nullptr, *grad_alpha = nullptr, *grad_edge = nullptr;  // optional
};
struct AttentionGradients {  // all optional
  void *q = nullptr, *k = nullptr, *v = nullptr, *edge = nullptr, *att = nullptr;
  void *a_src = nullptr, *a_dst = nullptr, *a_edge = nullptr, *edge_weight = nullptr;
  void *divisor = nullptr, *hop = nullptr, *sink_logit = nullptr, *sink_value = nullptr;
};

}  // namespace gattn

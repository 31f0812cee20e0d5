// All-pairs attention within graphs of different sizes: what its kernels are given.
#pragma once

#include <cstdint>

#include "../common/tensor.h"

namespace gattn::cpu {

constexpr int64_t kPanelRows = 256;   // queries that share their keys' transposes and dropout's bits
constexpr int64_t kMaxChunks = 16;    // parts of a large graph, each with sums of its own for the keys' gradients
constexpr int64_t kHeadsAtOnce = 4;   // heads whose dropout comes from the same random words
constexpr int64_t kLeastWork = 8192;  // pairs times heads that are worth handing out

// Some whole graphs, all heads; or, of one graph taken apart, some rows and heads.
struct RaggedTask {
  int64_t graph_begin, graph_end, row_begin, row_end, head_begin, head_end;
  int64_t sums;  // first row of the sums for the keys' gradients, [heads, chunks, n], of a graph taken apart; else -1
};

// Rows of the keys' gradients to be added up from the chunks of a graph taken apart.
struct RaggedTotal {
  int64_t graph, head, row_begin, row_end, sums;
};

struct RaggedBatch {
  const int64_t *node, *pair;  // [graphs + 1], where each graph's nodes and pairs begin
  const RaggedTask* tasks;     // largest first
  const RaggedTotal* totals;
  int64_t graphs, task_count, total_count;
  int64_t largest;   // nodes of the largest graph
  int64_t sum_rows;  // rows of all graphs' sums
};

// The chunks of a graph of n nodes, and the rows of each but the last.
inline int64_t ragged_chunks(int64_t n) {
  const int64_t chunks = (n + kPanelRows - 1) / kPanelRows;
  return chunks < kMaxChunks ? chunks : kMaxChunks;
}

struct RaggedProblem {
  DType dtype = DType::f32;
  int64_t heads = 0, channels = 0;
  double dropout_p = 0.0;
  uint64_t seed = 0;
  int threads = 1;
  RaggedBatch batch{};
  const void *q = nullptr, *k = nullptr, *v = nullptr;  // [N, heads, channels]
  const void *distance = nullptr, *hop = nullptr;       // [pairs] and [heads], optional, together
  DType distance_dtype = DType::i16;                    // i8, i16 or i32
  double scale = 1.0, gamma = 1.0, slope = 0.0;
};

// row_stats is [N, 2, heads]: each row's largest score, and its sum of exp(score - largest).
struct RaggedOutputs {
  void *out = nullptr, *row_stats = nullptr;
};
struct RaggedSaved {
  const void *row_stats = nullptr, *grad_out = nullptr;
};
struct RaggedGradients {  // all optional; hop is [heads] in the accumulate dtype
  void *q = nullptr, *k = nullptr, *v = nullptr, *hop = nullptr;
};

}  // namespace gattn::cpu

// What a kernel is given, and the table of kernels each instruction set fills.
#pragma once

#include <cstdint>

#include "../common/attention.h"
#include "../common/graph_layout.h"
#include "../common/tensor.h"
#include "activation.h"
#include "ragged.h"

namespace gattn::cpu {

// A row with more edges than this is cut into segments that different threads may take. Segments depend on the
// graph alone, never on the number of threads, so neither do the results.
constexpr int64_t kHubDegree = 512;
constexpr int64_t kSegmentEdges = 256;

struct Problem {
  DType dtype = DType::f32;  // of features; logits and their gradients use accumulate_dtype(dtype)
  bool wide = false;         // the packed graph is int64
  const void* graph = nullptr;
  int64_t heads = 0, channels = 0;
  double dropout_p = 0.0;
  uint64_t seed = 0;
  int threads = 1;
};

inline Adjacency adjacency(const Problem& problem) { return view_graph(Index{problem.graph, problem.wide}); }

// Score `gat`, with a_src and without edge_weight and epsilon.
struct GatInputs : AttentionInputs {
  const void* bias = nullptr;  // [heads * channels], added to out; optional
};
struct GatSaved : AttentionSaved {  // with out and grad_out
  const void* alpha = nullptr;      // comes with grad_alpha, for weights after dropout
};
struct GatGradients : AttentionGradients {  // with v and a_src
  bool wide_v = false;                      // v's gradient is in the accumulate dtype, not rounded to the features' yet
};

// What a node's features x [heads, channels] give it, [nodes, heads] in the accumulate dtype, each optional:
// a_src = <x, att_src>, a_dst = <x, att_dst> with parameters [heads, channels], and norm = |x|.
struct NodeParameters {
  const void *att_src = nullptr, *att_dst = nullptr;
};
struct NodeTerms {
  void *a_src = nullptr, *a_dst = nullptr, *norm = nullptr;
};
struct NodeSaved {  // norm and its gradient come together
  const void *grad_a_src = nullptr, *grad_a_dst = nullptr, *norm = nullptr, *grad_norm = nullptr;
};
// x receives partial_x (optional, maybe the same memory unless it is wide) and what flows through the terms; bias
// (optional) the sum of grad_out over nodes.
struct NodeGradients {
  void *x = nullptr, *att_src = nullptr, *att_dst = nullptr, *bias = nullptr;
  const void *grad_out = nullptr, *partial_x = nullptr;
  bool wide_partial = false;  // in the accumulate dtype, not rounded to the features' yet
};

// LipschitzNorm's divisor for score gat, of a graph with one set of nodes, [nodes, heads]:
// c_i = weight sqrt(norm_i^2 + norm_first(i)^2) + 1e-12, where first(i) (-1: norm 0) is first_largest's of the norms.
struct DivisorInputs {
  const void *norm = nullptr, *weight = nullptr;  // weight: [heads]
  const int64_t* first = nullptr;
};
struct DivisorGradients {
  void *norm = nullptr, *weight = nullptr;
};

struct Kernels {
  const char* name;
  void (*gat_forward)(const Problem&, const GatInputs&, const AttentionOutputs&);
  void (*gat_backward)(const Problem&, const GatInputs&, const GatSaved&, const GatGradients&);
  void (*node_terms)(const Problem&, int64_t nodes, const void* x, const NodeParameters&, const NodeTerms&);
  void (*node_terms_backward)(const Problem&, int64_t nodes, const void* x, const NodeParameters&, const NodeSaved&,
                              const NodeGradients&);
  void (*gat_divisor)(const Problem&, int64_t nodes, const DivisorInputs&, void* divisor);
  void (*gat_divisor_backward)(const Problem&, int64_t nodes, const DivisorInputs&, const void* grad_divisor,
                               const DivisorGradients&);
  void (*attention_forward)(const Problem&, const AttentionInputs&, const AttentionOutputs&, const ActivationTap&);
  void (*attention_backward)(const Problem&, const AttentionInputs&, const AttentionSaved&, const AttentionGradients&);
  // first[i, h] = source of the first in-edge of i whose value [num_src, heads] is the largest; -1 without edges
  void (*first_largest)(const Problem&, const void* values, int64_t* first);
  void (*ragged_forward)(const RaggedProblem&, const RaggedOutputs&);
  void (*ragged_backward)(const RaggedProblem&, const RaggedSaved&, const RaggedGradients&);
  void (*activation_stats)(const ActivationProblem&, const ActivationOutputs&);
  // The yardstick of benchmarks: out[i] = sum of x[j] over in-edges, every row read once, with the same prefetch.
  void (*gather_limit)(const Problem&, const void* x, void* out);
};

// The kernels in use: the best instruction set of this machine, or the one named by GATTN_CPU_ISA.
const Kernels& kernels();
// Usable instruction sets, best first, as a null-terminated list.
const char* const* usable_isas();

}  // namespace gattn::cpu

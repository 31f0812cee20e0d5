// Builds the packed adjacency (common/graph_layout.h) from an edge list by two stable, parallel counting sorts.
#pragma once

#include <cstdint>
#include <memory>

#include "../common/tensor.h"

namespace gattn::cpu {

struct GraphOptions {
  int64_t num_src = -1, num_dst = -1;  // both -1: one node set as large as the largest index asks for
  bool swap_rows = false;              // row 0 of the edge list holds the targets (flow = target_to_source)
  bool self_loops = false;             // drop existing loops, then append i -> i for i < min(num_src, num_dst)
  bool wide = false;                   // force int64 (tests; otherwise chosen by size)
  int threads = 1;
};

struct PackedGraph {
  std::unique_ptr<void, void (*)(void*)> data{nullptr, nullptr};
  int64_t numel = 0;
  DType dtype = DType::i32;
  int64_t num_src = 0, num_dst = 0, num_edges = 0;
};

// Raises TypeError, ValueError or IndexError, in PyTorch Geometric's words, before anything is written.
PackedGraph build_graph(const TensorView& edge_index, GraphOptions options);

// Checks that a packed graph is one (magic, size) and reads its sizes.
void check_graph(const TensorView& packed, int64_t* num_src, int64_t* num_dst, int64_t* num_edges);

}  // namespace gattn::cpu

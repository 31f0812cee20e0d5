// Builds the packed adjacency (common/graph_layout.h) from an edge list by two stable, parallel counting sorts.
#pragma once

#include <cstdint>

#include "../common/tensor.h"
#include "owned_array.h"

namespace gattn::cpu {

struct GraphOptions {
  int64_t num_src = -1, num_dst = -1;  // both -1: one node set as large as the largest index asks for
  bool swap_rows = false;              // row 0 of the edge list holds the targets (flow = target_to_source)
  bool self_loops = false;             // drop existing loops, then append i -> i for i < min(num_src, num_dst)
  bool wide = false;                   // force int64 (tests; otherwise chosen by size)
  int threads = 1;
};

struct PackedGraph : OwnedArray {
  int64_t num_src = 0, num_dst = 0, num_edges = 0;
};

// Raises TypeError, ValueError or IndexError, in PyTorch Geometric's words, before anything is written.
PackedGraph build_graph(const TensorView& edge_index, GraphOptions options);

// Raises ValueError unless it is an edge list: contiguous integers of shape [2, E].
void check_edge_index(const TensorView& edge_index);

// Raises IndexError, in the same words as build_graph, unless every index of the edge list is below num_nodes.
void check_indices(const TensorView& edge_index, int64_t num_nodes);

// Checks that a packed graph is one (magic, size) and reads its sizes.
void check_graph(const TensorView& packed, int64_t* num_src, int64_t* num_dst, int64_t* num_edges);

}  // namespace gattn::cpu

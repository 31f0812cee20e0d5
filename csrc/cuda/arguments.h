// What every kernel is given, by value. See gattn/groups.py for the degree groups.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/attention.h"
#include "common/graph_layout.h"

namespace gattn::cuda {

constexpr int kWarp = 32;
constexpr int kWarps = 4;  // a block
constexpr int kThreads = kWarp * kWarps;

// A kernel of blocks of kThreads. Unless one block a multiprocessor is all that is asked for, the compiler spills a
// register here and there to make room for one more.
#define GATTN_KERNEL __global__ __launch_bounds__(kThreads, 1)

enum class Group { small, middle, chunk, hub };

// One direction of the graph, and the nodes of it that a launch is for.
struct Walk {
  Index ptr, node, edge;                      // of the packed graph
  Index counts, order, chunk_ptr, chunk_hub;  // of the groups
  int64_t chunk = 0;                          // edges a chunk
  Group group = Group::small;
};

// How the threads of a warp share heads and channels. `lanes` of them share one head of an edge, a warp has `heads`
// heads, all powers of two; what is left of a warp takes other rows or other edges of the row. Heads and channels
// beyond that go to other blocks.
struct Layout {
  int32_t lanes = 1, heads = 1;
  int32_t head_blocks = 1, tiles = 1;
};

struct Arguments {
  AttentionInputs in;
  Walk walk;
  Layout layout;
  int64_t heads = 0, channels = 0;
  double log_gamma = 0;
  const int64_t* seed = nullptr;  // on the device; null without dropout
  uint64_t threshold = 0;
  double keep = 1;  // the factor of what is not dropped

  // The forward's results, and the partial ones of chunks: [chunks, 2, H] and [chunks, H, C], wide.
  void *out = nullptr, *row_stats = nullptr, *alpha = nullptr, *edge_out = nullptr;
  void *chunk_stats = nullptr, *sums = nullptr;

  // The backward's.
  const void *saved_out = nullptr, *grad_out = nullptr, *grad_alpha = nullptr, *grad_edge = nullptr;
  void* d = nullptr;                   // [N_dst, H]; of chunks, where it is computed, partial ones
  void* dalpha_found = nullptr;        // [E, H] by slot: where a pass leaves what it has gathered values for
  const void* dalpha_known = nullptr;  // what an earlier pass has left,
  Index dalpha_slot;                   // at these slots of the other direction; at the same ones if null
  AttentionGradients found;            // of chunks, and always for sums over all rows, partial ones in the wide type
  int64_t blocks = 0;                  // of rows, which a grid of fewer blocks takes in turns
  int64_t first_part = 0;              // the number of this launch's first block, for sums over all rows

  // Kernels that do not go over features: how much there is of what they go over, where it is and where sums go.
  int64_t count = 0;
  const void* parts = nullptr;
};

}  // namespace gattn::cuda

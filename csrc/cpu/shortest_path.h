// Hop counts of the shortest directed paths between all pairs of nodes of each graph of a batch.
#pragma once

#include <cstdint>

#include "../common/tensor.h"
#include "owned_array.h"

namespace gattn::cpu {

// int16: graph b's nodes(b) * nodes(b) entries, row-major, row the path's first node, one graph after the other.
// Paths of `unreachable` hops or more, and pairs without one, get `unreachable`. Raises TypeError, ValueError or
// IndexError, for what GraphBatch refuses too, before the result is made.
OwnedArray shortest_path(const TensorView& edge_index, const TensorView& ptr, int64_t unreachable, int threads);

}  // namespace gattn::cpu

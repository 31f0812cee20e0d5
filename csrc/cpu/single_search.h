// Hop counts of long graphs, a source at a time: where there are more hops than a block has targets, a set of targets
// that moves by a hop holds next to nothing.
#pragma once

#include <algorithm>
#include <cstdint>

#include "graph_batch.h"

namespace gattn::cpu {
namespace {

// Hops of the longest of the searches that, one after the other and along edges either way, visit all nodes: at least
// half the diameter of an undirected graph. `queue` has room for all nodes and one more.
inline int64_t search_depth(Neighbours outgoing, Neighbours incoming, int64_t nodes, uint16_t* queue, uint8_t* marked) {
  std::fill(marked, marked + nodes, 0);
  int64_t deepest = 0, head = 0, tail = 0;
  for (int64_t root = 0; root < nodes; ++root) {
    if (marked[root]) continue;
    marked[root] = 1;
    queue[tail++] = static_cast<uint16_t>(root);
    for (int64_t hop = 0; head < tail; ++hop) {
      deepest = std::max(deepest, hop);
      for (const int64_t end = tail; head < end; ++head)
        for (const Neighbours& side : {outgoing, incoming})
          for (int64_t e = side.begin[queue[head]]; e < side.begin[queue[head] + 1]; ++e) {
            const uint16_t j = side.other[e];
            queue[tail] = j;
            tail += !marked[j];
            marked[j] = 1;
          }
    }
  }
  return deepest;
}

// Rows first .. last - 1 of the graph's block `out`; `queue` has room for all nodes and one more.
inline void search_singly(Neighbours outgoing, int64_t nodes, int64_t first, int64_t last, int64_t unreachable,
                          uint16_t* queue, int16_t* out) {
  constexpr int16_t unseen = -1;
  for (int64_t source = first; source < last; ++source) {
    int16_t* row = out + source * nodes;
    std::fill(row, row + nodes, unseen);
    row[source] = 0;
    queue[0] = static_cast<uint16_t>(source);
    int64_t tail = 1;
    for (int64_t head = 0; head < tail; ++head) {
      const int64_t i = queue[head], hop = row[i] + 1;
      if (hop >= unreachable) break;
      for (int64_t e = outgoing.begin[i]; e < outgoing.begin[i + 1]; ++e) {
        const uint16_t j = outgoing.other[e];
        const bool fresh = row[j] == unseen;
        queue[tail] = j;
        tail += fresh;
        row[j] = fresh ? static_cast<int16_t>(hop) : row[j];
      }
    }
    if (tail < nodes) std::replace(row, row + nodes, unseen, static_cast<int16_t>(unreachable));
  }
}

}  // namespace
}  // namespace gattn::cpu

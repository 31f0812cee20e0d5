// Edge quantities [edges, heads] between a piece's slots and another order of the edges.
#pragma once

#include "../../common/graph_layout.h"
#include "heads.h"

namespace gattn::cpu::GATTN_ISA {

// to[index[k]] = from[k]
template <class A>
inline void scatter_edges(const A* from, const Index index, int64_t edges, int64_t heads, void* to) {
  with_heads<A>(heads, [&](auto h_count) {
    for (int64_t k = 0; k < edges; ++k)
      memcpy(static_cast<A*>(to) + index[k] * h_count, from + k * h_count, h_count * sizeof(A));
  });
}

// to[k] = from[index[k]]; the index goes on for `all` slots, which are fetched ahead
template <class A>
inline void gather_edges(const A* from, const Index index, int64_t edges, int64_t all, int64_t heads, A* to) {
  constexpr int64_t ahead = 32;
  with_heads<A>(heads, [&](auto h_count) {
    for (int64_t k = 0; k < edges; ++k) {
      if (k + ahead < all) __builtin_prefetch(from + index[k + ahead] * h_count, 1);
      memcpy(to + k * h_count, from + index[k] * h_count, h_count * sizeof(A));
    }
  });
}

// values[k] += by_edge[edge_id[k]]
template <class A>
inline void add_by_edge(const A* by_edge, const Index edge_id, int64_t edges, int64_t heads, A* values) {
  for (int64_t k = 0; k < edges; ++k)
    for (int64_t h = 0; h < heads; ++h) values[k * heads + h] += by_edge[edge_id[k] * heads + h];
}

}  // namespace gattn::cpu::GATTN_ISA

// Edge lists for the driver, and the slow and obvious way to turn one into the adjacency the kernels read.
#pragma once

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "array.h"
#include "common/graph_layout.h"
#include "cpu/graph.h"

namespace gattn::tests {

struct EdgeList {
  const char* name;
  int64_t num_src, num_dst;
  std::vector<std::pair<int64_t, int64_t>> edges;  // (source, target)

  Array index(DType dtype) const {
    const auto count = static_cast<int64_t>(edges.size());
    Array array(dtype, {2, count});
    for (int64_t e = 0; e < count; ++e) {
      array.set(e, static_cast<double>(edges[e].first));
      array.set(count + e, static_cast<double>(edges[e].second));
    }
    return array;
  }
};

inline EdgeList random_edges(const char* name, int64_t num_src, int64_t num_dst, int64_t count, unsigned seed) {
  std::mt19937_64 random(seed);
  EdgeList list{name, num_src, num_dst, {}};
  for (int64_t e = 0; e < count; ++e) list.edges.emplace_back(random() % num_src, random() % num_dst);
  return list;
}

// One target and one source with `degree` edges each, long enough to be cut into segments.
inline EdgeList hub_edges(int64_t nodes, int64_t degree) {
  EdgeList list = random_edges("hub", nodes, nodes, degree / 4, 5);
  for (int64_t e = 0; e < degree; ++e) list.edges.emplace_back(e % nodes, 3);
  for (int64_t e = 0; e < degree; ++e) list.edges.emplace_back(2, e % nodes);
  return list;
}

inline std::vector<EdgeList> small_graphs() {
  std::vector<EdgeList> graphs;
  graphs.push_back({"no nodes", 0, 0, {}});
  graphs.push_back({"no edges", 5, 4, {}});
  graphs.push_back({"no targets", 3, 0, {}});
  graphs.push_back({"one loop", 1, 1, {{0, 0}}});
  graphs.push_back({"last node isolated", 4, 4, {{0, 1}, {1, 0}, {0, 1}}});
  graphs.push_back(random_edges("random", 37, 37, 200, 1));  // with duplicates and loops
  graphs.push_back(random_edges("bipartite", 13, 29, 90, 2));
  return graphs;
}

}  // namespace gattn::tests

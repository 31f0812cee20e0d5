// A batch of graphs that share one edge list, taken apart: every graph's edges, its nodes numbered from 0.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../common/tensor.h"

namespace gattn::cpu {

struct LocalEdge {
  uint16_t src, dst;
};

// The other ends of node i's edges are other[begin[i]] .. other[begin[i + 1] - 1].
struct Neighbours {
  const int64_t* begin;
  const uint16_t* other;
};

class GraphBatch {
 public:
  static constexpr int64_t kMaxNodes = int64_t{1} << 15;  // of one graph: int16 then holds every hop count

  // Nodes ptr[b] .. ptr[b + 1] - 1 are graph b; those of more than `small` nodes get their adjacency in both
  // directions. Raises TypeError, ValueError or IndexError for anything but an edge list within the graphs.
  GraphBatch(const TensorView& edge_index, const TensorView& ptr, int64_t small, int threads);

  int64_t size() const { return static_cast<int64_t>(ptr_.size()) - 1; }
  int64_t nodes(int64_t graph) const { return ptr_[graph + 1] - ptr_[graph]; }
  const LocalEdge* edges_begin(int64_t graph) const { return edges_.get() + first_edge_[graph]; }
  const LocalEdge* edges_end(int64_t graph) const { return edges_.get() + first_edge_[graph + 1]; }
  Neighbours outgoing(int64_t graph) const { return {begin_.get() + slot(graph), targets_.get() + first_edge_[graph]}; }
  Neighbours incoming(int64_t graph) const {
    return {begin_.get() + slot(size()) + slot(graph), sources_.get() + first_edge_[graph]};
  }

 private:
  template <class In>
  void sort_edges(const TensorView& edge_index, int threads);
  int64_t slot(int64_t graph) const { return ptr_[graph] + graph; }  // a graph has one entry more than it has nodes

  std::vector<int64_t> ptr_, first_edge_;
  std::unique_ptr<LocalEdge[]> edges_;
  std::unique_ptr<int64_t[]> begin_;
  std::unique_ptr<uint16_t[]> targets_, sources_;
};

}  // namespace gattn::cpu

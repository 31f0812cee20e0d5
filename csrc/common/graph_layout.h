// The packed adjacency every kernel reads: one integer tensor (int32, or int64 where sizes need it).
//
//   header[8]  magic, num_src, num_dst, num_edges, 0, 0, 0, 0
//   rowptr[num_dst + 1]  col[E]  edge_id[E]                    target-major (CSR), stable in the caller's edge order
//   colptr[num_src + 1]  row[E]  edge_id_t[E]  csr_to_csc[E]   its transpose (CSC), targets ascending in each source
#pragma once

#include <cstdint>

namespace gattn {

constexpr int64_t kGraphHeader = 8;
constexpr int64_t kGraphMagic = 0x6774;  // "gt"

// Internal linkage: kernels for different instruction sets each compile their own copy.
namespace {

template <class I>
struct GraphView {
  int64_t num_src = 0, num_dst = 0, num_edges = 0;
  const I *rowptr = nullptr, *col = nullptr, *edge_id = nullptr;
  const I *colptr = nullptr, *row = nullptr, *edge_id_t = nullptr, *csr_to_csc = nullptr;
};

inline int64_t graph_numel(int64_t num_src, int64_t num_dst, int64_t num_edges) {
  return kGraphHeader + (num_dst + 1) + (num_src + 1) + 5 * num_edges;
}

template <class I>
GraphView<I> view_graph(const I* packed) {
  GraphView<I> g;
  g.num_src = packed[1];
  g.num_dst = packed[2];
  g.num_edges = packed[3];
  g.rowptr = packed + kGraphHeader;
  g.col = g.rowptr + g.num_dst + 1;
  g.edge_id = g.col + g.num_edges;
  g.colptr = g.edge_id + g.num_edges;
  g.row = g.colptr + g.num_src + 1;
  g.edge_id_t = g.row + g.num_edges;
  g.csr_to_csc = g.edge_id_t + g.num_edges;
  return g;
}

}  // namespace
}  // namespace gattn

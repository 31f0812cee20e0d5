// The packed adjacency every kernel reads: one integer tensor (int32, or int64 where sizes need it).
//
//   header[8]  magic, num_src, num_dst, num_edges, 0, 0, 0, 0
//   rowptr[num_dst + 1]  col[E]  edge_id[E]                    target-major (CSR), stable in the caller's edge order
//   colptr[num_src + 1]  row[E]  edge_id_t[E]  csr_to_csc[E]   its transpose (CSC), targets ascending in each source
#pragma once

#include <cstdint>

#include "host_device.h"

namespace gattn {

constexpr int64_t kGraphHeader = 8;
constexpr int64_t kGraphMagic = 0x6774;  // "gt"

// Kernels for different instruction sets each compile their own copy; elsewhere a type is the same in every file.
#ifdef GATTN_ISA
namespace {
#endif

// An array of either width. A branch that always goes the same way costs nothing beside the rows that an index
// fetches; kernels compiled for one width each would double the build.
struct Index {
  const void* data = nullptr;
  bool wide = false;

  GATTN_HOST_DEVICE int64_t operator[](int64_t i) const {
    return wide ? static_cast<const int64_t*>(data)[i] : static_cast<const int32_t*>(data)[i];
  }
  Index operator+(int64_t count) const {
    return {static_cast<const char*>(data) + count * (wide ? sizeof(int64_t) : sizeof(int32_t)), wide};
  }
};

// A packed graph, taken apart. Array is a pointer to int32 or int64 where one is written, Index where it is read.
template <class Array>
struct GraphView {
  int64_t num_src = 0, num_dst = 0, num_edges = 0;
  Array rowptr{}, col{}, edge_id{};
  Array colptr{}, row{}, edge_id_t{}, csr_to_csc{};
};

using Adjacency = GraphView<Index>;

inline int64_t graph_numel(int64_t num_src, int64_t num_dst, int64_t num_edges) {
  return kGraphHeader + (num_dst + 1) + (num_src + 1) + 5 * num_edges;
}

// Of known sizes: the header is not read.
template <class Array>
GraphView<Array> view_graph(Array packed, int64_t num_src, int64_t num_dst, int64_t num_edges) {
  GraphView<Array> g;
  g.num_src = num_src;
  g.num_dst = num_dst;
  g.num_edges = num_edges;
  g.rowptr = packed + kGraphHeader;
  g.col = g.rowptr + g.num_dst + 1;
  g.edge_id = g.col + g.num_edges;
  g.colptr = g.edge_id + g.num_edges;
  g.row = g.colptr + g.num_src + 1;
  g.edge_id_t = g.row + g.num_edges;
  g.csr_to_csc = g.edge_id_t + g.num_edges;
  return g;
}

template <class Array>
GraphView<Array> view_graph(Array packed) {
  return view_graph(packed, packed[1], packed[2], packed[3]);
}

#ifdef GATTN_ISA
}  // namespace
#endif
}  // namespace gattn

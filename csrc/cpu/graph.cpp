#include "graph.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "../common/graph_layout.h"
#include "buffer.h"
#include "parallel.h"

namespace gattn::cpu {

namespace {

constexpr int64_t kEdgesPerWorker = 1 << 15;     // fewer are not worth a thread
constexpr int kMaxSortWorkers = 16;              // each holds a histogram over all nodes
constexpr int64_t kMaxNodes = int64_t{1} << 40;  // sizes in bytes stay far from the end of int64

struct Bounds {
  int64_t low = std::numeric_limits<int64_t>::max();
  int64_t high = std::numeric_limits<int64_t>::min();
  int64_t loops = 0;
};

struct Chunks {
  int64_t total;
  int count;
  int64_t begin(int64_t chunk) const { return total * chunk / count; }
};

template <class In>
void find_bounds(const In* src, const In* dst, Chunks chunks, int threads, Bounds* src_bounds, Bounds* dst_bounds) {
  std::vector<Bounds> of_src(chunks.count), of_dst(chunks.count);
  parallel_tasks(chunks.count, threads, [&](int64_t chunk, int) {
    In src_low = std::numeric_limits<In>::max(), src_high = std::numeric_limits<In>::min();
    In dst_low = src_low, dst_high = src_high;
    int64_t loops = 0;
    for (int64_t e = chunks.begin(chunk); e < chunks.begin(chunk + 1); ++e) {
      src_low = std::min(src_low, src[e]);
      src_high = std::max(src_high, src[e]);
      dst_low = std::min(dst_low, dst[e]);
      dst_high = std::max(dst_high, dst[e]);
      loops += src[e] == dst[e];
    }
    of_src[chunk] = {src_low, src_high, loops};
    of_dst[chunk] = {dst_low, dst_high, loops};
  });
  for (int chunk = 0; chunk < chunks.count; ++chunk) {
    src_bounds->low = std::min(src_bounds->low, of_src[chunk].low);
    src_bounds->high = std::max(src_bounds->high, of_src[chunk].high);
    src_bounds->loops += of_src[chunk].loops;
    dst_bounds->low = std::min(dst_bounds->low, of_dst[chunk].low);
    dst_bounds->high = std::max(dst_bounds->high, of_dst[chunk].high);
  }
}

void check_range(int64_t low, int64_t high, int64_t size, const char* side) {
  if (low < 0)
    raise<IndexError>("Found negative indices in 'edge_index' (got ", low, " in the ", side,
                      " row). Please ensure that all indices in 'edge_index' point to valid indices in the interval "
                      "[0, ",
                      size, ") in your node feature matrix and try again.");
  if (high >= size)
    raise<IndexError>("Found indices in 'edge_index' that are larger than ", size - 1, " (got ", high, " in the ", side,
                      " row). Please ensure that all indices in 'edge_index' point to valid indices in the interval "
                      "[0, ",
                      size, ") in your node feature matrix and try again.");
}

// Turns per-chunk counts into the first slot of every (node, chunk), and the node totals into a row pointer.
template <class I>
void scan_counts(I* counts, int chunks, int64_t nodes, int64_t extra_ones, I* pointer) {
  I running = 0;
  for (int64_t node = 0; node < nodes; ++node) {
    pointer[node] = running;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      I& slot = counts[chunk * nodes + node];
      const I count = slot;
      slot = running;
      running += count;
    }
    running += node < extra_ones;
  }
  pointer[nodes] = running;
}

template <class In, class I>
void fill(const In* src, const In* dst, const GraphOptions& options, int64_t num_edges, Chunks chunks, I* packed) {
  const int64_t num_src = options.num_src, num_dst = options.num_dst;
  const int64_t loops = options.self_loops ? std::min(num_src, num_dst) : 0;
  std::fill(packed, packed + kGraphHeader, I{0});
  packed[0] = static_cast<I>(kGraphMagic);
  packed[1] = static_cast<I>(num_src);
  packed[2] = static_cast<I>(num_dst);
  packed[3] = static_cast<I>(num_edges);
  const GraphView<I*> view = view_graph(packed);
  I *rowptr = view.rowptr, *col = view.col, *edge_id = view.edge_id;
  I *colptr = view.colptr, *row = view.row, *edge_id_t = view.edge_id_t, *csr_to_csc = view.csr_to_csc;
  const auto dropped = [&](int64_t e) { return options.self_loops && src[e] == dst[e]; };

  Buffer<I> counts(chunks.count * std::max(num_src, num_dst));
  std::vector<int64_t> first_id(chunks.count + 1, 0);
  parallel_tasks(chunks.count, options.threads, [&](int64_t chunk, int) {
    I* mine = counts.get() + chunk * num_dst;
    std::fill(mine, mine + num_dst, I{0});
    int64_t kept = 0;
    for (int64_t e = chunks.begin(chunk); e < chunks.begin(chunk + 1); ++e) {
      if (dropped(e)) continue;
      ++mine[dst[e]];
      ++kept;
    }
    first_id[chunk + 1] = kept;
  });
  for (int chunk = 0; chunk < chunks.count; ++chunk) first_id[chunk + 1] += first_id[chunk];
  scan_counts(counts.get(), chunks.count, num_dst, loops, rowptr);
  parallel_tasks(chunks.count, options.threads, [&](int64_t chunk, int) {
    I* next = counts.get() + chunk * num_dst;
    int64_t id = first_id[chunk];
    for (int64_t e = chunks.begin(chunk); e < chunks.begin(chunk + 1); ++e) {
      if (dropped(e)) continue;
      const I slot = next[dst[e]]++;
      col[slot] = static_cast<I>(src[e]);
      edge_id[slot] = static_cast<I>(id++);
    }
  });
  for (int64_t i = 0; i < loops; ++i) {
    col[rowptr[i + 1] - 1] = static_cast<I>(i);
    edge_id[rowptr[i + 1] - 1] = static_cast<I>(num_edges - loops + i);
  }

  // The transpose, read off the CSR in its own order; chunks are slot ranges, whose first row is found by
  // bisection.
  const Chunks slots{num_edges, chunks.count};
  parallel_tasks(slots.count, options.threads, [&](int64_t chunk, int) {
    I* mine = counts.get() + chunk * num_src;
    std::fill(mine, mine + num_src, I{0});
    for (int64_t k = slots.begin(chunk); k < slots.begin(chunk + 1); ++k) ++mine[col[k]];
  });
  scan_counts(counts.get(), slots.count, num_src, 0, colptr);
  parallel_tasks(slots.count, options.threads, [&](int64_t chunk, int) {
    I* next = counts.get() + chunk * num_src;
    const int64_t begin = slots.begin(chunk), end = slots.begin(chunk + 1);
    int64_t i = std::upper_bound(rowptr, rowptr + num_dst + 1, static_cast<I>(begin)) - rowptr - 1;
    for (int64_t k = begin; k < end; ++k) {
      while (k >= rowptr[i + 1]) ++i;
      const I slot = next[col[k]]++;
      row[slot] = static_cast<I>(i);
      edge_id_t[slot] = edge_id[k];
      csr_to_csc[k] = slot;
    }
  });
}

template <class In>
void check_range(const TensorView& edge_index, int64_t num_nodes) {
  const int64_t edges = edge_index.shape[1];
  if (edges == 0) return;
  const In* src = edge_index.as<const In>();
  Bounds src_bounds, dst_bounds;
  find_bounds(src, src + edges, {edges, 1}, 1, &src_bounds, &dst_bounds);
  check_range(src_bounds.low, src_bounds.high, num_nodes, "source");
  check_range(dst_bounds.low, dst_bounds.high, num_nodes, "target");
}

template <class In>
PackedGraph build(const TensorView& edge_index, GraphOptions options) {
  const int64_t edges = edge_index.shape[1];
  const In* first = edge_index.as<const In>();
  const In *src = first, *dst = first + edges;
  if (options.swap_rows) std::swap(src, dst);
  const int64_t workers = std::min<int64_t>({options.threads, edges / kEdgesPerWorker + 1, kMaxSortWorkers});
  const Chunks chunks{edges, static_cast<int>(std::max<int64_t>(workers, 1))};

  Bounds src_bounds, dst_bounds;
  if (edges > 0) find_bounds(src, dst, chunks, options.threads, &src_bounds, &dst_bounds);
  const auto check_size = [](int64_t nodes) {
    if (nodes > kMaxNodes)
      raise<ValueError>("Expected at most 2^40 nodes (got ", nodes, "). Check the indices and num_nodes.");
  };
  if (options.num_src < 0 && options.num_dst < 0) {
    check_size(std::max(src_bounds.high, dst_bounds.high));
    const int64_t size = edges > 0 ? std::max<int64_t>(std::max(src_bounds.high, dst_bounds.high) + 1, 0) : 0;
    options.num_src = options.num_dst = size;
  }
  if (edges > 0) {
    check_range(src_bounds.low, src_bounds.high, options.num_src, "source");
    check_range(dst_bounds.low, dst_bounds.high, options.num_dst, "target");
  }
  check_size(std::max(options.num_src, options.num_dst));

  PackedGraph graph;
  graph.num_src = options.num_src;
  graph.num_dst = options.num_dst;
  graph.num_edges = edges;
  if (options.self_loops) graph.num_edges += std::min(options.num_src, options.num_dst) - src_bounds.loops;
  constexpr int64_t narrow = std::numeric_limits<int32_t>::max();
  const bool wide = options.wide || std::max({graph.num_src, graph.num_dst, graph.num_edges}) >= narrow;
  graph.allocate(graph_numel(graph.num_src, graph.num_dst, graph.num_edges), wide ? DType::i64 : DType::i32);
  if (wide)
    fill(src, dst, options, graph.num_edges, chunks, static_cast<int64_t*>(graph.data.get()));
  else
    fill(src, dst, options, graph.num_edges, chunks, static_cast<int32_t*>(graph.data.get()));
  return graph;
}

}  // namespace

void check_edge_index(const TensorView& edge_index) {
  if (edge_index.dtype != DType::i64 && edge_index.dtype != DType::i32)
    raise<ValueError>("Expected 'edge_index' to be of integer type int32 or int64 (got '", dtype_name(edge_index.dtype),
                      "'). Convert it with .long().");
  if (edge_index.ndim != 2)
    raise<ValueError>("Expected 'edge_index' to be two-dimensional (got ", edge_index.ndim,
                      " dimensions). It has shape [2, num_edges].");
  if (edge_index.shape[0] != 2)
    raise<ValueError>("Expected 'edge_index' to have size '2' in the first dimension (got '", edge_index.shape[0],
                      "'). It has shape [2, num_edges].");
  if (!edge_index.contiguous()) raise<ValueError>("Expected 'edge_index' to be contiguous. Call .contiguous() first.");
}

void check_indices(const TensorView& edge_index, int64_t num_nodes) {
  edge_index.dtype == DType::i64 ? check_range<int64_t>(edge_index, num_nodes)
                                 : check_range<int32_t>(edge_index, num_nodes);
}

PackedGraph build_graph(const TensorView& edge_index, GraphOptions options) {
  check_edge_index(edge_index);
  if ((options.num_src < 0) != (options.num_dst < 0) || options.num_src < -1 || options.num_dst < -1)
    raise<ValueError>("Expected non-negative numbers of nodes (got ", options.num_src, " sources and ", options.num_dst,
                      " targets).");
  return edge_index.dtype == DType::i64 ? build<int64_t>(edge_index, options) : build<int32_t>(edge_index, options);
}

void check_graph(const TensorView& packed, int64_t* num_src, int64_t* num_dst, int64_t* num_edges) {
  const auto fail = [] {
    raise<ValueError>("Expected 'graph' to be the packed adjacency of a gattn.Graph. Pass Graph.data unchanged.");
  };
  if ((packed.dtype != DType::i32 && packed.dtype != DType::i64) || packed.ndim != 1 || !packed.contiguous() ||
      packed.shape[0] < kGraphHeader)
    fail();
  int64_t header[4];
  for (int i = 0; i < 4; ++i)
    header[i] = packed.dtype == DType::i32 ? packed.as<const int32_t>()[i] : packed.as<const int64_t>()[i];
  for (int i = 1; i < 4; ++i)
    if (header[i] < 0 || header[i] > packed.shape[0]) fail();
  if (header[0] != kGraphMagic || graph_numel(header[1], header[2], header[3]) != packed.shape[0]) fail();
  *num_src = header[1];
  *num_dst = header[2];
  *num_edges = header[3];
}

}  // namespace gattn::cpu

#include "graph_batch.h"

#include <algorithm>
#include <utility>

#include "graph.h"
#include "parallel.h"

namespace gattn::cpu {

namespace {

constexpr int64_t kEdgesPerWorker = 1 << 15;  // fewer are not worth a thread
constexpr int64_t kMaxSortWorkers = 16;       // each holds a histogram over all graphs

std::vector<int64_t> check_arguments(const TensorView& edge_index, const TensorView& ptr) {
  check_edge_index(edge_index);
  if (ptr.dtype != DType::i64 && ptr.dtype != DType::i32)
    raise<TypeError>("Expected 'ptr' to be of dtype int32 or int64 (got ", dtype_name(ptr.dtype),
                     "). Convert it with .long().");
  if (ptr.ndim != 1 || ptr.shape[0] < 1)
    raise<ValueError>("Expected 'ptr' to have shape [num_graphs + 1] (got ", ptr.ndim, " dimensions, ", ptr.numel(),
                      " entries). Graph b has nodes ptr[b] .. ptr[b + 1] - 1.");
  if (!ptr.contiguous()) raise<ValueError>("Expected 'ptr' to be contiguous. Call .contiguous() first.");
  std::vector<int64_t> first(ptr.shape[0]);
  for (size_t b = 0; b < first.size(); ++b)
    first[b] = ptr.dtype == DType::i64 ? ptr.as<const int64_t>()[b] : ptr.as<const int32_t>()[b];
  if (first[0] != 0) raise<ValueError>("Expected 'ptr' to begin with 0 (got ", first[0], ").");
  for (size_t b = 1; b < first.size(); ++b) {
    if (first[b] < first[b - 1])
      raise<ValueError>("Expected 'ptr' not to decrease (got ", first[b - 1], " and then ", first[b], " at position ",
                        b, "). Graph b has nodes ptr[b] .. ptr[b + 1] - 1.");
    if (first[b] - first[b - 1] > GraphBatch::kMaxNodes)
      raise<ValueError>("Expected graphs of at most ", GraphBatch::kMaxNodes, " nodes (got ", first[b] - first[b - 1],
                        " in graph ", b - 1,
                        "): hop counts in a larger one may not fit int16. Split it, or take a part of it.");
  }
  return first;
}

// Finds the graph of a node. Edges of one graph mostly follow each other: has() looks into the last one found.
class Finder {
 public:
  explicit Finder(const std::vector<int64_t>& ptr) : ptr_(ptr) {}

  bool has(int64_t node) const { return static_cast<uint64_t>(node) - static_cast<uint64_t>(begin_) < nodes_; }
  // Whether one graph has both nodes; it is the last one found then.
  bool find(int64_t src, int64_t dst) {
    if (src < 0 || src >= ptr_.back()) return false;
    graph_ = std::upper_bound(ptr_.begin(), ptr_.end(), src) - ptr_.begin() - 1;
    begin_ = ptr_[graph_];
    nodes_ = static_cast<uint64_t>(ptr_[graph_ + 1] - begin_);
    return has(dst);
  }
  int64_t graph() const { return graph_; }
  int64_t begin() const { return begin_; }

 private:
  const std::vector<int64_t>& ptr_;
  int64_t graph_ = 0, begin_ = 0;
  uint64_t nodes_ = 0;
};

// Calls run(first, last, finder) for every stretch of edges that lie in one graph; returns the first edge that lies in
// none, or end.
template <class In, class Run>
int64_t each_run(const In* src, const In* dst, int64_t begin, int64_t end, const std::vector<int64_t>& ptr, Run run) {
  Finder at(ptr);
  for (int64_t e = begin; e < end;) {
    const int64_t first = e;
    if (!at.find(src[e], dst[e])) return e;
    do ++e;
    while (e < end && at.has(src[e]) && at.has(dst[e]));
    run(first, e, at);
  }
  return end;
}

// Stable.
void group_edges(const LocalEdge* first, const LocalEdge* last, int64_t nodes, uint16_t LocalEdge::* by,
                 uint16_t LocalEdge::* other, int64_t* begin, uint16_t* grouped) {
  std::fill(begin, begin + nodes + 1, 0);
  for (const LocalEdge* edge = first; edge < last; ++edge) ++begin[edge->*by];
  for (int64_t i = 1; i <= nodes; ++i) begin[i] += begin[i - 1];
  while (last-- > first) grouped[--begin[last->*by]] = last->*other;
}

}  // namespace

GraphBatch::GraphBatch(const TensorView& edge_index, const TensorView& ptr, int64_t small, int threads)
    : ptr_(check_arguments(edge_index, ptr)), first_edge_(ptr_.size(), 0), edges_(new LocalEdge[edge_index.shape[1]]) {
  edge_index.dtype == DType::i64 ? sort_edges<int64_t>(edge_index, threads) : sort_edges<int32_t>(edge_index, threads);
  std::vector<int64_t> large;
  for (int64_t b = 0; b < size(); ++b)
    if (nodes(b) > small) large.push_back(b);
  if (large.empty()) return;
  begin_.reset(new int64_t[2 * slot(size())]);
  targets_.reset(new uint16_t[edge_index.shape[1]]);
  sources_.reset(new uint16_t[edge_index.shape[1]]);
  parallel_tasks(static_cast<int64_t>(large.size()), threads, [&](int64_t task, int) {
    const int64_t b = large[task], edge = first_edge_[b];
    group_edges(edges_begin(b), edges_end(b), nodes(b), &LocalEdge::src, &LocalEdge::dst, begin_.get() + slot(b),
                targets_.get() + edge);
    group_edges(edges_begin(b), edges_end(b), nodes(b), &LocalEdge::dst, &LocalEdge::src,
                begin_.get() + slot(size()) + slot(b), sources_.get() + edge);
  });
}

// Checks every edge, and sorts them by graph; a stable, parallel counting sort.
template <class In>
void GraphBatch::sort_edges(const TensorView& edge_index, int threads) {
  const int64_t edges = edge_index.shape[1], graphs = size();
  const In *src = edge_index.as<const In>(), *dst = src + edges;
  const int64_t chunks = std::min<int64_t>({threads, edges / kEdgesPerWorker + 1, kMaxSortWorkers});
  const auto chunk_begin = [&](int64_t chunk) { return edges * chunk / chunks; };
  std::vector<int64_t> slots(chunks * graphs, 0), checked(chunks);
  parallel_tasks(chunks, threads, [&](int64_t chunk, int) {
    int64_t* counts = slots.data() + chunk * graphs;
    checked[chunk] =
        each_run(src, dst, chunk_begin(chunk), chunk_begin(chunk + 1), ptr_,
                 [&](int64_t first, int64_t last, const Finder& at) { counts[at.graph()] += last - first; });
  });
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t e = checked[chunk];
    if (e == chunk_begin(chunk + 1)) continue;
    check_indices(edge_index, ptr_.back());
    raise<ValueError>("Expected every edge to join two nodes of one graph (got edge ", e, " from node ", src[e],
                      " to node ", dst[e], ", which 'ptr' puts in different graphs). Check 'ptr' and the batching.");
  }
  int64_t running = 0;
  for (int64_t b = 0; b < graphs; ++b) {
    first_edge_[b] = running;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) running += std::exchange(slots[chunk * graphs + b], running);
  }
  first_edge_[graphs] = running;
  parallel_tasks(chunks, threads, [&](int64_t chunk, int) {
    int64_t* next = slots.data() + chunk * graphs;
    each_run(src, dst, chunk_begin(chunk), chunk_begin(chunk + 1), ptr_,
             [&](int64_t first, int64_t last, const Finder& at) {
               LocalEdge* sorted = edges_.get() + next[at.graph()];
               next[at.graph()] += last - first;
               for (int64_t e = first; e < last; ++e)
                 *sorted++ = {static_cast<uint16_t>(src[e] - at.begin()), static_cast<uint16_t>(dst[e] - at.begin())};
             });
  });
}

}  // namespace gattn::cpu

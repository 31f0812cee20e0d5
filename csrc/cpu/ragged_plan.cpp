#include "ragged_plan.h"

#include <algorithm>

namespace gattn::cpu {

namespace {

int64_t work(const RaggedTask& task, const std::vector<int64_t>& pair, const std::vector<int64_t>& node) {
  const int64_t heads = task.head_end - task.head_begin;
  if (task.sums < 0) return heads * (pair[task.graph_end] - pair[task.graph_begin]);
  const int64_t n = node[task.graph_end] - node[task.graph_begin];
  return heads * (task.row_end - task.row_begin) * n;
}

}  // namespace

RaggedPlan::RaggedPlan(const TensorView& ptr, int64_t nodes, int64_t heads, bool dropout) {
  if (ptr.ndim != 1 || ptr.shape[0] < 1) raise<ValueError>("Expected 'ptr' to have shape [graphs + 1].");
  if (ptr.dtype != DType::i32 && ptr.dtype != DType::i64)
    raise<TypeError>("Expected 'ptr' to be of dtype int32 or int64 (got ", dtype_name(ptr.dtype), ").");
  check_tensor(ptr, "ptr", ptr.dtype, {ptr.shape[0]});
  const int64_t graphs = ptr.shape[0] - 1;
  node_.resize(graphs + 1);
  pair_.resize(graphs + 1);
  for (int64_t b = 0; b <= graphs; ++b)
    node_[b] = ptr.dtype == DType::i64 ? ptr.as<int64_t>()[b] : ptr.as<int32_t>()[b];
  if (node_[0] != 0) raise<ValueError>("Expected 'ptr' to begin with 0 (got ", node_[0], ").");
  for (int64_t b = 0; b < graphs; ++b) {
    if (node_[b + 1] < node_[b])
      raise<ValueError>("Expected 'ptr' not to go down (got ", node_[b], " and then ", node_[b + 1], " at ", b + 1,
                        "). Sort the nodes by graph.");
    const int64_t n = node_[b + 1] - node_[b];
    pair_[b + 1] = pair_[b] + n * n;
    largest_ = std::max(largest_, n);
  }
  if (node_[graphs] != nodes)
    raise<ValueError>("Expected 'ptr' to end with the number of nodes, ", nodes, " (got ", node_[graphs], ").");

  for (int64_t b = 0; b < graphs; ++b)
    if (ragged_chunks(node_[b + 1] - node_[b]) > 1)
      take_apart(b, heads, dropout ? kHeadsAtOnce : 1);
    else
      add_whole(b, heads);
  // Whoever is done early then has little left to wait for.
  std::stable_sort(tasks_.begin(), tasks_.end(), [&](const RaggedTask& a, const RaggedTask& b) {
    return work(a, pair_, node_) > work(b, pair_, node_);
  });
}

// Small graphs next to each other share a task.
void RaggedPlan::add_whole(int64_t graph, int64_t heads) {
  const int64_t n = node_[graph + 1] - node_[graph];
  const bool next = !tasks_.empty() && tasks_.back().sums < 0 && tasks_.back().graph_end == graph;
  if (n == 0 && !next) return;
  if (next && (n == 0 || open_work_ < kLeastWork)) {
    tasks_.back().graph_end = graph + 1;
  } else {
    tasks_.push_back({graph, graph + 1, 0, 0, 0, heads, -1});
    open_work_ = 0;
  }
  open_work_ += n * n * heads;
}

void RaggedPlan::take_apart(int64_t graph, int64_t heads, int64_t heads_at_once) {
  const int64_t n = node_[graph + 1] - node_[graph], chunks = ragged_chunks(n), rows = (n + chunks - 1) / chunks;
  for (int64_t head = 0; head < heads; head += heads_at_once)
    for (int64_t begin = 0; begin < n; begin += rows)
      tasks_.push_back({graph, graph + 1, begin, std::min(n, begin + rows), head, std::min(heads, head + heads_at_once),
                        sum_rows_ + (head * chunks + begin / rows) * n});
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t begin = 0; begin < n; begin += kPanelRows)
      totals_.push_back({graph, head, begin, std::min(n, begin + kPanelRows), sum_rows_ + head * chunks * n});
  sum_rows_ += heads * chunks * n;
}

RaggedBatch RaggedPlan::batch() const {
  return {node_.data(),
          pair_.data(),
          tasks_.data(),
          totals_.data(),
          static_cast<int64_t>(node_.size()) - 1,
          static_cast<int64_t>(tasks_.size()),
          static_cast<int64_t>(totals_.size()),
          largest_,
          sum_rows_};
}

}  // namespace gattn::cpu

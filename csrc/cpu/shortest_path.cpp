#include "shortest_path.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "block_search.h"
#include "graph_batch.h"
#include "parallel.h"
#include "single_search.h"
#include "small_search.h"

namespace gattn::cpu {

namespace {

// More words of targets share the reading of the edges; fewer leave more searches to share out.
constexpr int64_t kMostWords = 4, kFewWords = 2;
constexpr int64_t kRowsAtATime = 64;
constexpr int64_t kPairsPerWorker = 1 << 15;  // fewer are not worth a thread

struct Task {
  enum Kind { kSmall, kBlock, kSingle } kind;
  int64_t graph, first, count;  // targets of a block, as words; sources of a single search
  int16_t* out;
};

int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

class Searches {
 public:
  Searches(const GraphBatch& batch, int64_t unreachable, int threads) : batch_(batch), unreachable_(unreachable) {
    int64_t most = 0;
    for (int64_t b = 0; b < batch.size(); ++b) {
      total_ += batch.nodes(b) * batch.nodes(b);
      most = std::max(most, batch.nodes(b));
    }
    threads_ = static_cast<int>(std::min<int64_t>(threads, total_ / kPairsPerWorker + 1));
    if (most <= kBits) return;
    int planes = 0;
    while (std::min(most, unreachable) >> planes) ++planes;
    for (int w = 0; w < threads_; ++w) scratch_.push_back(std::make_unique<Scratch>(most, most * kMostWords, planes));
  }

  int64_t total() const { return total_; }

  void run(int16_t* out) {
    const std::vector<bool> is_long = find_long();
    std::vector<Task> tasks = plan(kMostWords, is_long, out);
    if (static_cast<int64_t>(tasks.size()) < threads_) tasks = plan(kFewWords, is_long, out);
    parallel_tasks(static_cast<int64_t>(tasks.size()), threads_,
                   [&](int64_t task, int worker) { run(tasks[task], worker); });
  }

 private:
  // Whether a graph has more hops than a block has targets.
  std::vector<bool> find_long() {
    constexpr int64_t targets = kBits * kMostWords;
    std::vector<int64_t> candidates;
    for (int64_t b = 0; b < batch_.size(); ++b)
      if (std::min(batch_.nodes(b), unreachable_) > targets) candidates.push_back(b);
    std::vector<int64_t> depth(candidates.size());
    parallel_tasks(static_cast<int64_t>(candidates.size()), threads_, [&](int64_t c, int worker) {
      const int64_t b = candidates[c];
      const Scratch& scratch = *scratch_[worker];
      depth[c] = search_depth(batch_.outgoing(b), batch_.incoming(b), batch_.nodes(b), scratch.found.get(),
                              scratch.marked.get());
    });
    std::vector<bool> is_long(batch_.size());
    for (size_t c = 0; c < candidates.size(); ++c) is_long[candidates[c]] = depth[c] > targets;
    return is_long;
  }

  std::vector<Task> plan(int64_t most_words, const std::vector<bool>& is_long, int16_t* out) const {
    std::vector<Task> tasks;
    for (int64_t b = 0; b < batch_.size(); ++b) {
      const int64_t nodes = batch_.nodes(b);
      if (is_long[b]) {
        for (int64_t row = 0; row < nodes; row += kRowsAtATime)
          tasks.push_back({Task::kSingle, b, row, std::min(kRowsAtATime, nodes - row), out});
      } else if (nodes > kBits) {
        const int64_t words = ceil_divide(nodes, kBits), each = ceil_divide(words, ceil_divide(words, most_words));
        for (int64_t word = 0; word < words; word += each) tasks.push_back({Task::kBlock, b, word * kBits, each, out});
      } else if (nodes > 0) {
        tasks.push_back({Task::kSmall, b, 0, nodes, out});
      }
      out += nodes * nodes;
    }
    return tasks;
  }

  void run(const Task& task, int worker) {
    const int64_t b = task.graph, nodes = batch_.nodes(b);
    if (task.kind == Task::kSmall)
      search_small(batch_.edges_begin(b), batch_.edges_end(b), nodes, unreachable_, task.out);
    else if (task.kind == Task::kSingle)
      search_singly(batch_.outgoing(b), nodes, task.first, task.first + task.count, unreachable_,
                    scratch_[worker]->found.get(), task.out);
    else if (task.count <= 2)
      search_block<2>(task, *scratch_[worker]);
    else if (task.count == 3)
      search_block<3>(task, *scratch_[worker]);
    else
      search_block<4>(task, *scratch_[worker]);
  }

  template <int Words>
  void search_block(const Task& task, const Scratch& scratch) {
    static_assert(Words <= kMostWords);
    BlockSearch<Words>(scratch, batch_.outgoing(task.graph), batch_.incoming(task.graph), batch_.nodes(task.graph))
        .run(task.first, std::min(kBits * task.count, batch_.nodes(task.graph) - task.first), unreachable_, task.out);
  }

  const GraphBatch& batch_;
  const int64_t unreachable_;
  int threads_ = 1;
  int64_t total_ = 0;
  std::vector<std::unique_ptr<Scratch>> scratch_;  // one a worker
};

}  // namespace

OwnedArray shortest_path(const TensorView& edge_index, const TensorView& ptr, int64_t unreachable, int threads) {
  constexpr int64_t largest = std::numeric_limits<int16_t>::max();
  if (unreachable < 0 || unreachable > largest)
    raise<ValueError>("Expected 'unreachable' in [0, ", largest, "], which int16 holds (got ", unreachable, ").");
  if (threads < 1) raise<ValueError>("Expected at least one thread (got ", threads, ").");
  const GraphBatch batch(edge_index, ptr, kBits, threads);
  Searches searches(batch, unreachable, threads);
  OwnedArray distances;
  distances.allocate(searches.total(), DType::i16);
  searches.run(static_cast<int16_t*>(distances.data.get()));
  return distances;
}

}  // namespace gattn::cpu

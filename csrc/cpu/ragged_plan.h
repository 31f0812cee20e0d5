// How the work of all-pairs attention within graphs of different sizes is shared out.
#pragma once

#include <vector>

#include "ragged.h"

namespace gattn::cpu {

// Shares out the work by the sizes of the graphs, the number of heads and dropout alone, never by the number of
// threads, so that results do not depend on that.
class RaggedPlan {
 public:
  // Raises TypeError or ValueError unless ptr [graphs + 1], int32 or int64, goes from 0 to `nodes`, never down.
  RaggedPlan(const TensorView& ptr, int64_t nodes, int64_t heads, bool dropout);
  RaggedBatch batch() const;

 private:
  void add_whole(int64_t graph, int64_t heads);
  void take_apart(int64_t graph, int64_t heads, int64_t heads_at_once);

  std::vector<int64_t> node_, pair_;
  std::vector<RaggedTask> tasks_;
  std::vector<RaggedTotal> totals_;
  int64_t largest_ = 0, sum_rows_ = 0, open_work_ = 0;
};

}  // namespace gattn::cpu

// Statistics of activations, one pass over [rows, width].
#include "../parallel.h"
#include "row_statistics.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

constexpr int64_t kBlockRows = 4096;  // a multiple of every vector's lanes; sums are kept by block

template <class A, class S>
void run(const ActivationProblem& problem, const ActivationOutputs& outputs) {
  constexpr int W = kLanes<A>;
  const int64_t rows = problem.rows, width = problem.width, blocks = (rows + kBlockRows - 1) / kBlockRows;
  const auto* x = static_cast<const S*>(problem.x);
  const RowStatistics<A, S> statistics(rows, width, problem.limits, outputs, problem.threads, blocks);
  parallel_tasks(blocks, problem.threads, [&](int64_t block, int worker) {
    const int64_t begin = block * kBlockRows, end = begin + kBlockRows < rows ? begin + kBlockRows : rows;
    for (int64_t first = begin; first < end; first += W) {
      const S* row[W];
      int64_t ids[W];
      for (int i = 0; i < W; ++i) {
        ids[i] = first + i < end ? first + i : end - 1;
        row[i] = x + ids[i] * width;
      }
      const int count = end - first < W ? static_cast<int>(end - first) : W;
      // The next rows: no prefetcher sees a stream in rows that are read across.
      const char *next = reinterpret_cast<const char*>(x + (first + W) * width),
                 *last = reinterpret_cast<const char*>(x + (first + 2 * W < rows ? first + 2 * W : rows) * width);
      for (; next < last; next += 64) __builtin_prefetch(next);
      statistics.take(row, x + rows * width, ids, count, worker, block);
    }
  });
  statistics.add_up();
}

}  // namespace

void activation_stats(const ActivationProblem& problem, const ActivationOutputs& outputs) {
  switch (problem.dtype) {
    case DType::bf16:
      return run<float, bfloat16>(problem, outputs);
    case DType::f16:
      return run<float, float16>(problem, outputs);
    case DType::f64:
      return run<double, double>(problem, outputs);
    default:
      return run<float, float>(problem, outputs);
  }
}

}  // namespace gattn::cpu::GATTN_ISA

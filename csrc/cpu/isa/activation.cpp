// Statistics of activations, one pass over [rows, width].
#include "../parallel.h"
#include "row_loop.h"
#include "row_statistics.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

constexpr int64_t kBlockRows = 4096;  // a multiple of every vector's lanes; sums are kept by block
constexpr int64_t kAhead = 2048;      // numbers between the rows at work and those that are fetched, if rows are narrow

template <class A, class S>
void run(const ActivationProblem& problem, const ActivationOutputs& outputs) {
  constexpr int W = kLanes<A>;
  const int64_t rows = problem.rows, width = problem.width, blocks = (rows + kBlockRows - 1) / kBlockRows;
  const auto* x = static_cast<const S*>(problem.x);
  const int64_t distance = width * W < kAhead ? kAhead / (width * W) * W : W;
  const RowStatistics<A, S> statistics(rows, width, problem.limits, outputs, problem.threads, blocks);
  parallel_tasks(blocks, problem.threads, [&](int64_t block, int worker) {
    const int64_t begin = block * kBlockRows, end = begin + kBlockRows < rows ? begin + kBlockRows : rows;
    for (int64_t first = begin; first < end; first += W) {
      const S* at = x + first * width;
      const int64_t ahead = first + distance;
      if (first + W <= end) {
        const S* next = x + (ahead < end ? ahead : end) * width;
        const S* next_end = x + (ahead + W < end ? ahead + W : end) * width;
        statistics.take(at, x + rows * width, SuccessivePlaces{first}, W, worker, block, [&] {
          keep_this_call();
          prefetch_row(next, (next_end - next) * static_cast<int64_t>(sizeof(S)));
        });
      } else {
        const Buffer<S> last(W * width);  // so that all rows of a vector are there
        const int count = static_cast<int>(end - first);
        memcpy(last.get(), at, count * width * sizeof(S));
        memset(last.get() + count * width, 0, (W - count) * width * sizeof(S));
        statistics.take(last.get(), last.get() + W * width, SuccessivePlaces{first}, count, worker, block, [] {});
      }
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

// All-pairs attention within graphs of different sizes.
#include "ragged_backward.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

// Scores become exp(score - maximum), 0 where dropped; maximum and sum, by query, are those of all. As many queries as
// there are lanes go step by step together, so that none waits for its own maximum.
template <class A, class D>
void softmax_rows(const Block<A, D> block, A* scores, A* maximum, A* sum) {
  constexpr int W = kLanes<A>;
  using V = Floats<A>;
  const int64_t n = block.n, whole = n - n % W;
  for (int64_t first = 0; first < block.rows; first += W) {
    const int count = block.rows - first < W ? static_cast<int>(block.rows - first) : W;
    V lanes[W]{};
    for (int i = 0; i < count; ++i) {
      A* row = scores + (first + i) * block.stride;
      V best = splat<A, W>(kMinusInfinity<A>);
      const auto score = [&](int64_t j, bool last) __attribute__((always_inline)) {
        V s = load<W>(row + j) * block.factor(block.distances(first + i, j));
        if (last) s = block.only_keys(s, j, kMinusInfinity<A>);
        store<W>(row + j, s);
        best = s > best ? s : best;
      };
      for (int64_t j = 0; j < whole; j += W) score(j, false);
      if (whole < n) score(whole, true);
      lanes[i] = best;
    }
    store<W>(maximum + first, combine_lanes<A, W>(lanes, [](V a, V b) { return a > b ? a : b; }));
    for (int i = 0; i < count; ++i) {
      A* row = scores + (first + i) * block.stride;
      const V shift = splat<A, W>(maximum[first + i]);
      V total{};
      for (int64_t j = 0; j < n; j += W) {
        const V p = exp_to_one<W>(load<W>(row + j) - shift);
        total += p;
        store<W>(row + j, block.kept ? block.keep(p, first + i, j) : p);
      }
      lanes[i] = total;
    }
    store<W>(sum + first, combine_lanes<A, W>(lanes, [](V a, V b) { return a + b; }));
  }
}

template <class A>
class RaggedForward {
 public:
  RaggedForward(const RaggedProblem& problem, const RaggedOutputs& outputs)
      : problem_(problem), outputs_(outputs), all_(problem), rooms_(problem, 1, 4, 1) {}

  void run() const {
    parallel_tasks(problem_.batch.task_count, problem_.threads, [&](int64_t task, int worker) {
      for_panels(problem_.batch, problem_.batch.tasks[task], [&](const Panel& panel) {
        all_.for_head_groups(panel, [&](int64_t head, int64_t heads) {
          copy_rows(all_.k, panel.node, panel.n, head, heads, rooms_.rows(worker, 0));
          copy_rows(all_.v, panel.node, panel.n, head, heads, rooms_.rows(worker, 1));
          copy_rows(all_.q, panel.node + panel.row_begin, panel.rows, head, heads, rooms_.rows(worker, 2));
          for (int64_t h = 0; h < heads; ++h) attend(panel, head, h, worker);
        });
      });
    });
  }

 private:
  // The h-th of the heads from `first` on.
  void attend(const Panel& panel, int64_t first, int64_t h, int worker) const {
    const int64_t n = panel.n, node = panel.node + panel.row_begin, heads = all_.heads, head = first + h;
    A *scores = rooms_.block(worker, 0), *out = rooms_.rows(worker, 3);
    A *maximum = rooms_.by_query(worker, 0), *sum = rooms_.by_query(worker, 1), *factor = rooms_.by_query(worker, 2);
    const uint8_t* kept = all_.draw(panel, head, rooms_.kept(worker));
    const HeadRows<A> queries = all_.rows_of(rooms_.rows(worker, 2), panel.rows, h);
    const HeadRows<A> values = all_.rows_of(rooms_.rows(worker, 1), n, h);
    const Vectors<A> keys = transpose_rows(all_.rows_of(rooms_.rows(worker, 0), n, h).data, all_.width, n,
                                           all_.channels, rooms_.transposed(worker, 0));
    all_.for_blocks(panel, head, kept, [&](const auto& block, int64_t row) {
      const int64_t rows = block.rows;
      multiply(queries.entries(row), keys, all_.channels, scores, block.stride, rows, whole_vectors<A>(n) / kLanes<A>,
               false);
      softmax_rows(block, scores, maximum, sum);
      multiply(Entries<A, false>{scores, block.stride}, values.vectors(), n, out, all_.width, rows,
               all_.width / kLanes<A>, false);
      A* stats = static_cast<A*>(outputs_.row_stats) + (node + row) * 2 * heads + head;
      for (int64_t i = 0; i < rows; ++i, stats += 2 * heads) {
        stats[0] = maximum[i];
        stats[heads] = sum[i];
        factor[i] = (kept ? all_.dropout.scale : A{1}) / sum[i];
      }
      write_head_rows(outputs_.out, all_.q, node + row, rows, head, out, factor);
    });
  }

  const RaggedProblem& problem_;
  const RaggedOutputs& outputs_;
  const Ragged<A> all_;
  const Rooms<A> rooms_;
};

}  // namespace

void ragged_forward(const RaggedProblem& problem, const RaggedOutputs& outputs) {
  if (problem.dtype == DType::f64)
    RaggedForward<double>(problem, outputs).run();
  else
    RaggedForward<float>(problem, outputs).run();
}

void ragged_backward(const RaggedProblem& problem, const RaggedSaved& saved, const RaggedGradients& gradients) {
  if (problem.dtype == DType::f64)
    RaggedBackward<double>(problem, saved, gradients).run();
  else
    RaggedBackward<float>(problem, saved, gradients).run();
}

}  // namespace gattn::cpu::GATTN_ISA

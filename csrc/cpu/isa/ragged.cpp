// All-pairs attention within graphs of different sizes.
#include "ragged_backward.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

// Scores become exp(score - maximum), 0 where dropped; maximum and sum, by query, are those of all.
template <class A, class D>
void softmax_rows(const Block<A, D>& block, A* scores, A* maximum, A* sum) {
  constexpr int W = kLanes<A>;
  using V = Floats<A>;
  const int64_t n = block.n, whole = n - n % W;
  for (int64_t i = 0; i < block.rows; ++i) {
    A* row = scores + i * block.stride;
    V best = splat<A, W>(kMinusInfinity<A>), total{};
    const auto score = [&](int64_t j, bool last) {
      V s = load<W>(row + j) * block.factor(block.distances(i, j));
      if (last) s = block.only_keys(s, j, kMinusInfinity<A>);
      store<W>(row + j, s);
      best = s > best ? s : best;
    };
    for (int64_t j = 0; j < whole; j += W) score(j, false);
    if (whole < n) score(whole, true);
    maximum[i] = fold_to_heads<A, W, 1>(best, [](auto a, auto b) { return a > b ? a : b; });
    const V shift = splat<A, W>(maximum[i]);
    for (int64_t j = 0; j < n; j += W) {
      const V p = exp_vector<W>(load<W>(row + j) - shift);
      total += p;
      store<W>(row + j, block.kept ? block.keep(p, i, j) : p);
    }
    sum[i] = sum_lanes<A, W>(total);
  }
}

template <class A>
void forward(const RaggedProblem& problem, const RaggedOutputs& outputs) {
  const Ragged<A> all(problem);
  const Rooms<A> rooms(problem, 1, 3, 1);
  const int64_t heads = all.heads, vectors = all.width / kLanes<A>;
  auto* stats = static_cast<A*>(outputs.row_stats);
  parallel_tasks(problem.batch.task_count, problem.threads, [&](int64_t task, int worker) {
    for_panels(problem.batch, problem.batch.tasks[task], [&](const Panel& panel) {
      const int64_t n = panel.n, node = panel.node + panel.row_begin;
      A *scores = rooms.block(worker, 0), *out = rooms.rows(worker, 2);
      A *maximum = rooms.by_query(worker, 0), *sum = rooms.by_query(worker, 1), *factor = rooms.by_query(worker, 2);
      for (int64_t h = panel.head_begin; h < panel.head_end; ++h) {
        const uint8_t* kept = all.draw(panel, h, rooms.kept(worker));
        const HeadRows<A> keys = head_rows(all.k, panel.node, n, h, rooms.rows(worker, 0));
        const Vectors<A> columns = transpose_rows(keys.data, keys.stride, n, all.channels, rooms.transposed(worker, 0));
        const HeadRows<A> queries = head_rows(all.q, node, panel.rows, h, rooms.rows(worker, 0));
        const HeadRows<A> values = head_rows(all.v, panel.node, n, h, rooms.rows(worker, 1));
        all.for_blocks(panel, h, kept, [&](const auto& block, int64_t row) {
          const int64_t stride = block.stride;
          multiply(queries.entries(row), columns, all.channels, scores, stride, block.rows,
                   whole_vectors<A>(n) / kLanes<A>, false);
          softmax_rows(block, scores, maximum, sum);
          multiply(Entries<A>{scores, stride, 1}, values.vectors(), n, out, all.width, block.rows, vectors, false);
          for (int64_t i = 0; i < block.rows; ++i) {
            A* mine = stats + (node + row + i) * 2 * heads + h;
            mine[0] = maximum[i];
            mine[heads] = sum[i];
            factor[i] = (kept ? all.dropout.scale : A{1}) / sum[i];
          }
          write_head_rows(outputs.out, all.q, node + row, block.rows, h, out, all.width, factor);
        });
      }
    });
  });
}

}  // namespace

void ragged_forward(const RaggedProblem& problem, const RaggedOutputs& outputs) {
  problem.dtype == DType::f64 ? forward<double>(problem, outputs) : forward<float>(problem, outputs);
}

void ragged_backward(const RaggedProblem& problem, const RaggedSaved& saved, const RaggedGradients& gradients) {
  if (problem.dtype == DType::f64)
    RaggedBackward<double>(problem, saved, gradients).run();
  else
    RaggedBackward<float>(problem, saved, gradients).run();
}

}  // namespace gattn::cpu::GATTN_ISA

// Forward and backward of any score with any modifier. (Score gat without modifiers has kernels of its own, gat.cpp.)
#include "attention_backward.h"
#include "gat_backward.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

// gt's products w = scale * q * k * e, in edge order.
template <class Scores>
void write_products(const Scores& score, void* out, DType dtype, int threads) {
  using A = typename Scores::A;
  const auto& g = score.g;
  const int64_t heads = score.heads;
  const Buffer<A> ones(heads);
  for (int64_t h = 0; h < heads; ++h) ones[h] = 1;
  const int64_t bytes = score.edge.width() * dtype_bytes(dtype);
  for_each_piece(g.rowptr, g.num_dst, threads, [&](int64_t row, int64_t begin, int64_t end, int worker) {
    const A* q = widened(score.q, row, score.work.row(worker, kRowsAtOnce * 2));
    A* product = score.work.row(worker, kRowsAtOnce * 2 + 1);
    score.for_rows(score.k, score.edge, true, begin, end - begin, worker,
                   [&](const A* const* k, const A* const* e, int64_t first, int count) {
                     for (int u = 0; u < count; ++u) {
                       memset(product, 0, score.edge.width() * sizeof(A));
                       score.rows->edge(product, {ones.get(), nullptr}, k[u], e[u], q, score.parameters);
                       for (int64_t c = 0; c < score.edge.width(); ++c) product[c] *= e[u][c];
                       score.edge.ops->narrow(static_cast<char*>(out) + g.edge_id[begin + first + u] * bytes, product,
                                              score.edge.width());
                     }
                   });
  });
}

template <class A>
void run_forward(const Problem& problem, const AttentionInputs& in, const AttentionOutputs& outputs) {
  const Workspace<A> work(problem.threads, problem.heads, problem.heads * problem.channels);
  const DecayMask<A> decay(in, problem.heads, adjacency(problem).num_edges);
  const Attention<A> score(problem, in, decay, work);
  const Ending<A> ending{nullptr, static_cast<const A*>(in.sink_logit), static_cast<const A*>(in.sink_value),
                         static_cast<A>(in.epsilon), in.undropped};
  forward(score, score.g, Dropout<A>(problem.dropout_p, problem.seed), ending, outputs.out,
          static_cast<A*>(outputs.row_stats), static_cast<A*>(outputs.alpha), problem.threads);
  if (outputs.edge) write_products(score, outputs.edge, problem.dtype, problem.threads);
}

}  // namespace

void attention_forward(const Problem& problem, const AttentionInputs& in, const AttentionOutputs& outputs) {
  with_accumulator(problem, [&](auto zero) { run_forward<decltype(zero)>(problem, in, outputs); });
}

void attention_backward(const Problem& problem, const AttentionInputs& in, const AttentionSaved& saved,
                        const AttentionGradients& grads) {
  with_accumulator(problem, [&](auto zero) {
    using A = decltype(zero);
    if (in.score == ScoreKind::gat && in.edge_weight == nullptr && saved.grad_out != nullptr)
      GatBackward<A>(problem, in, saved, grads).run();
    else
      Backward<A>(problem, in, saved, grads).run();
  });
}

}  // namespace gattn::cpu::GATTN_ISA

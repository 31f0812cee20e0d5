// Forward and backward of any score with any modifier. (Most of what score gat is asked for goes to its own, gat.cpp.)
#include "attention_backward.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

// gt's products w = scale * q * k * e, in edge order.
template <class A>
void write_products(const Attention<A>& score, void* out, int threads) {
  const auto& g = score.g;
  const auto product_of = [&](int64_t edge) { return static_cast<char*>(out) + edge * score.edge.bytes; };
  for_each_piece(g.rowptr, g.num_dst, threads, [&](int64_t row, int64_t begin, int64_t end, int worker) {
    const A* q = widened(score.q, row, score.work.row(worker, kRowsAtOnce * 2));
    A* room = score.work.row(worker, kRowsAtOnce * 2 + 1);
    score.for_rows(score.k, score.edge, true, begin, end - begin, worker,
                   [&](const A* const* k, const A* const* e, int64_t first, int count) {
                     for (int u = 0; u < count; ++u) {
                       char* to = product_of(g.edge_id[begin + first + u]);
                       A* product = score.edge.wide ? reinterpret_cast<A*>(to) : room;
                       score.rows->terms(product, k[u], e[u], q, score.parameters);
                       if (!score.edge.wide) score.edge.ops->narrow(to, product, score.edge.width());
                     }
                   });
  });
}

template <class A>
void run_forward(const Problem& problem, const AttentionInputs& in, const AttentionOutputs& outputs,
                 const ActivationTap& tap) {
  const Workspace<A> work(problem.threads, problem.heads, problem.heads * problem.channels);
  const DecayMask<A> decay(in, problem.heads, adjacency(problem).num_edges);
  Attention<A> score(problem, in, decay, work);
  const Collector<A> collector(tap, score.g.num_edges, problem.heads * problem.channels, problem.threads,
                               partial_groups(score.g.rowptr, score.g.num_dst));
  if (tap.outputs.sums) score.collector = &collector;
  const Ending<A> ending{nullptr, static_cast<const A*>(in.sink_logit), static_cast<const A*>(in.sink_value),
                         static_cast<A>(in.epsilon), in.undropped};
  forward(score, score.g, EdgeDropout<A>(problem, score.g.edge_id), ending, outputs.out,
          static_cast<A*>(outputs.row_stats), static_cast<A*>(outputs.alpha), problem.threads);
  if (score.collector) collector.add_up();
  if (outputs.edge) write_products(score, outputs.edge, problem.threads);
}

bool fits_gat(const AttentionInputs& in) {
  return in.score == ScoreKind::gat && in.a_src && in.edge_weight == nullptr && in.epsilon == 0;
}

}  // namespace

void attention_forward(const Problem& problem, const AttentionInputs& in, const AttentionOutputs& outputs,
                       const ActivationTap& tap) {
  if (fits_gat(in)) return gat_forward(problem, {in}, outputs);
  with_accumulator(problem, [&](auto zero) { run_forward<decltype(zero)>(problem, in, outputs, tap); });
}

void attention_backward(const Problem& problem, const AttentionInputs& in, const AttentionSaved& saved,
                        const AttentionGradients& grads) {
  if (fits_gat(in) && saved.out && saved.grad_out && saved.grad_alpha == nullptr && grads.v && grads.a_src)
    return gat_backward(problem, {in}, {saved}, {grads});
  with_accumulator(problem, [&](auto zero) { Backward<decltype(zero)>(problem, in, saved, grads).run(); });
}

}  // namespace gattn::cpu::GATTN_ISA

// Forward and backward of any score with any modifier. (Most of what score gat is asked for goes to its own, gat.cpp.)
#include "attention_backward.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

template <class A>
void run_forward(const Problem& problem, const AttentionInputs& in, const AttentionOutputs& outputs,
                 const ActivationTap& tap) {
  const Workspace<A> work(problem.threads, problem.heads, problem.heads * problem.channels);
  const DecayMask<A> decay(in, problem.heads, adjacency(problem).num_edges);
  Attention<A> score(problem, in, decay, work);
  const Collector<A> collector(tap, score.g.num_edges, problem.heads * problem.channels, problem.threads,
                               partial_groups(score.g.rowptr, score.g.num_dst));
  if (tap.outputs.sums) score.collector = &collector;
  score.terms = static_cast<char*>(outputs.edge);
  advise_huge_pages(outputs.edge, score.g.num_edges * score.edge.bytes);
  const Ending<A> ending{nullptr, static_cast<const A*>(in.sink_logit), static_cast<const A*>(in.sink_value),
                         static_cast<A>(in.epsilon), in.undropped};
  forward(score, score.g, EdgeDropout<A>(problem, score.g.edge_id), ending, outputs.out,
          static_cast<A*>(outputs.row_stats), static_cast<A*>(outputs.alpha), problem.threads);
  if (score.collector) collector.add_up();
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

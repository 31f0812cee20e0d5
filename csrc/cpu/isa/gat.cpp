// Forward and backward of score gat.
#include "gat_backward.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

void gat_forward(const Problem& problem, const GatInputs& in, const AttentionOutputs& outputs) {
  with_accumulator(problem, [&](auto zero) {
    using A = decltype(zero);
    const Gat<A> score(problem, in);
    const Ending<A> ending{score.bias, static_cast<const A*>(in.sink_logit), static_cast<const A*>(in.sink_value), A{0},
                           in.undropped};
    forward(score, score.g, EdgeDropout<A>(problem, score.g.edge_id), ending, outputs.out,
            static_cast<A*>(outputs.row_stats), static_cast<A*>(outputs.alpha), problem.threads);
  });
}

void gat_backward(const Problem& problem, const GatInputs& in, const GatSaved& saved, const GatGradients& grads) {
  with_accumulator(problem, [&](auto zero) { GatBackward<decltype(zero)>(problem, in, saved, grads).run(); });
}

}  // namespace gattn::cpu::GATTN_ISA

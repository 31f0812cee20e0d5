// Softmax over each target's in-edges of logits the caller gives, [edges, heads], without values.
#include "../kernels.h"
#include "reductions.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

template <class A_, class I_>
struct EdgeLogits {
  using A = A_;
  using I = I_;
  static constexpr bool has_values = false;

  GraphView<I> g;
  const A* given;
  int64_t heads;

  void logits(int64_t, int64_t slot, int64_t edges, A* t) const {
    with_heads(heads, [&](auto h_count) {
      for (int64_t k = 0; k < edges; ++k) {
        const A* mine = given + static_cast<int64_t>(g.edge_id[slot + k]) * h_count;
        for (int64_t h = 0; h < h_count; ++h) t[k * h_count + h] = mine[h];
      }
    });
  }
};

template <class A, class I>
EdgeLogits<A, I> make_score(const Problem& problem, const EdgeInputs& in) {
  return {view_graph(static_cast<const I*>(problem.graph)), static_cast<const A*>(in.logits), problem.heads};
}

// ds_e = p_e (r_e dalpha_e - D_i),  D_i = sum over the row of alpha dalpha
template <class A, class I>
void run_backward(const Problem& problem, const EdgeInputs& in, const SavedForBackward& saved, A* grad_logits) {
  const EdgeLogits<A, I> score = make_score<A, I>(problem, in);
  const auto& g = score.g;
  const int64_t heads = problem.heads;
  const Dropout<A> dropout(problem.dropout_p, problem.seed);
  const auto *row_stats = static_cast<const A*>(saved.row_stats), *alpha = static_cast<const A*>(saved.alpha);
  const auto* grad_alpha = static_cast<const A*>(saved.grad_alpha);
  Buffer<A> d(g.num_dst * heads);
  reduce_rows<A>(
      g.rowptr, g.num_dst, heads, problem.threads,
      [&](int64_t, int64_t begin, int64_t end, A* sum) {
        add_attention_term(alpha, grad_alpha, g.edge_id, begin, end, heads, sum);
      },
      [&](int64_t row, const A* sum) { memcpy(d.get() + row * heads, sum, heads * sizeof(A)); });
  Scratch<A> scratch(problem.threads, kSegmentEdges, heads, 2);
  for_each_piece(g.rowptr, g.num_dst, problem.threads, [&](int64_t row, int64_t begin, int64_t end, int worker) {
    A *p = scratch.array(worker, 0), *factor = scratch.array(worker, 1);
    const int64_t edges = end - begin;
    score.logits(row, begin, edges, p);
    normalise(p, edges, heads, row_stats + row * 2 * heads);
    if (dropout.active()) dropout.factors(g.edge_id + begin, edges, heads, factor);
    for (int64_t k = 0; k < edges; ++k) {
      const int64_t at = static_cast<int64_t>(g.edge_id[begin + k]) * heads;
      for (int64_t h = 0; h < heads; ++h) {
        const A r = dropout.active() ? factor[k * heads + h] : A{1};
        grad_logits[at + h] = p[k * heads + h] * (r * grad_alpha[at + h] - d[row * heads + h]);
      }
    }
  });
}

}  // namespace

void edge_softmax_forward(const Problem& problem, const EdgeInputs& in, const ForwardOutputs& outputs) {
  with_types(problem, [&](auto types) {
    using A = typename decltype(types)::A;
    const auto score = make_score<A, typename decltype(types)::I>(problem, in);
    forward(score, score.g, Dropout<A>(problem.dropout_p, problem.seed), static_cast<const A*>(nullptr), nullptr,
            static_cast<A*>(outputs.row_stats), static_cast<A*>(outputs.alpha), problem.threads);
  });
}

void edge_softmax_backward(const Problem& problem, const EdgeInputs& in, const SavedForBackward& saved,
                           void* grad_logits) {
  with_types(problem, [&](auto types) {
    using A = typename decltype(types)::A;
    run_backward<A, typename decltype(types)::I>(problem, in, saved, static_cast<A*>(grad_logits));
  });
}

}  // namespace gattn::cpu::GATTN_ISA

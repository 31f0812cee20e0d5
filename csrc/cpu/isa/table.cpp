#include "table.h"

#include "reductions.h"

#define GATTN_STRING_(name) #name
#define GATTN_STRING(name) GATTN_STRING_(name)

namespace gattn::cpu::GATTN_ISA {

void gather_limit(const Problem& problem, const void* x, void* out) {
  with_accumulator(problem, [&](auto zero) {
    using A = decltype(zero);
    const auto g = adjacency(problem);
    const Rows<A> rows(x, problem.dtype, 1, problem.heads * problem.channels);
    const int64_t width = rows.width();
    Buffer<A> ones(kPieceEdges);
    for (int64_t k = 0; k < kPieceEdges; ++k) ones[k] = 1;
    advise_huge_pages(out, g.num_dst * rows.bytes);
    const auto partial = [&](int64_t, int64_t begin, int64_t end, A* acc, int) {
      memset(acc, 0, width * sizeof(A));
      aggregate(acc, rows, g.col, begin, end - begin, g.num_edges, ones.get());
    };
    const auto finish = [&](int64_t row, A* states, int64_t count, int) {
      add_states(states, count, width);
      rows.ops->write(static_cast<char*>(out) + row * rows.bytes, states, ones.get(), nullptr, 1, width);
    };
    for_each_row<A>(g.rowptr, g.num_dst, width, problem.threads, Step{partial, finish});
  });
}

void first_largest(const Problem& problem, const void* values_, int64_t* first) {
  with_accumulator(problem, [&](auto zero) {
    using A = decltype(zero);
    const auto g = adjacency(problem);
    const auto* values = static_cast<const A*>(values_);
    const int64_t heads = problem.heads, stride = state_stride<A>(2 * heads);
    // A piece's state: its maximum, and the place in it where that first is; none where all are -inf or NaN.
    const auto partial = [&](int64_t, int64_t begin, int64_t end, A* state, int) {
      with_heads<A>(heads, [&](auto h_count) {
        for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
          constexpr int W = decltype(lanes)::value;
          using V = Vec<A, W>;
          V maximum = splat<A, W>(kMinusInfinity<A>), place = splat<A, W>(-1);
          for (int64_t k = begin; k < end; ++k) {
            if (k + kScoresAhead < g.num_edges) __builtin_prefetch(values + g.col[k + kScoresAhead] * h_count + h);
            const V theirs = load<W>(values + g.col[k] * h_count + h);
            place = theirs > maximum ? splat<A, W>(static_cast<A>(k - begin)) : place;
            maximum = theirs > maximum ? theirs : maximum;
          }
          store<W>(state + h, maximum);
          store<W>(state + h_count + h, place);
        });
      });
    };
    const auto finish = [&](int64_t row, A* states, int64_t count, int) {
      for (int64_t h = 0; h < heads; ++h) {
        int64_t best = 0;
        for (int64_t s = 1; s < count; ++s)
          if (states[s * stride + h] > states[best * stride + h]) best = s;
        const auto place = states[best * stride + heads + h];
        int64_t slot = g.rowptr[row] + best * kSegmentEdges + place;
        const int64_t end = g.rowptr[row + 1];
        if (place < 0)  // the first -inf, if there is one
          for (slot = g.rowptr[row]; slot < end; ++slot)
            if (values[g.col[slot] * heads + h] == kMinusInfinity<A>) break;
        first[row * heads + h] = slot < end ? g.col[slot] : -1;
      }
    };
    for_each_row<A>(g.rowptr, g.num_dst, 2 * heads, problem.threads, Step{partial, finish});
  });
}

// The symbol dispatch.cpp declares for each instruction set.
extern const Kernels table;
const Kernels table = {GATTN_STRING(GATTN_ISA), gat_forward,   gat_backward,         node_terms,
                       node_terms_backward,     gat_divisor,   gat_divisor_backward, attention_forward,
                       attention_backward,      first_largest, ragged_forward,       ragged_backward,
                       activation_stats,        gather_limit};

}  // namespace gattn::cpu::GATTN_ISA

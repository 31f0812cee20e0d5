#include "table.h"

#include "reductions.h"

#define GATTN_STRING_(name) #name
#define GATTN_STRING(name) GATTN_STRING_(name)

namespace gattn::cpu::GATTN_ISA {

void gather_limit(const Problem& problem, const void* x, void* out) {
  with_types(problem, [&](auto types) {
    using A = typename decltype(types)::A;
    const auto g = view_graph(static_cast<const typename decltype(types)::I*>(problem.graph));
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
  with_types(problem, [&](auto types) {
    using A = typename decltype(types)::A;
    const auto g = view_graph(static_cast<const typename decltype(types)::I*>(problem.graph));
    const auto* values = static_cast<const A*>(values_);
    const int64_t heads = problem.heads;
    const auto partial = [&](int64_t, int64_t begin, int64_t end, A* maximum, int) {
      for (int64_t h = 0; h < heads; ++h) maximum[h] = kMinusInfinity<A>;
      for (int64_t k = begin; k < end; ++k) {
        const A* theirs = values + static_cast<int64_t>(g.col[k]) * heads;
        for (int64_t h = 0; h < heads; ++h) maximum[h] = theirs[h] > maximum[h] ? theirs[h] : maximum[h];
      }
    };
    const auto finish = [&](int64_t row, A* states, int64_t count, int) {
      for (int64_t s = 1; s < count; ++s)
        for (int64_t h = 0; h < heads; ++h) {
          const A theirs = states[s * state_stride<A>(heads) + h];
          states[h] = theirs > states[h] ? theirs : states[h];
        }
      for (int64_t h = 0; h < heads; ++h) {
        int64_t& found = first[row * heads + h] = -1;
        for (int64_t k = g.rowptr[row]; k < g.rowptr[row + 1] && found < 0; ++k)
          if (values[static_cast<int64_t>(g.col[k]) * heads + h] == states[h]) found = g.col[k];
      }
    };
    for_each_row<A>(g.rowptr, g.num_dst, heads, problem.threads, Step{partial, finish});
  });
}

// The symbol dispatch.cpp declares for each instruction set.
extern const Kernels table;
const Kernels table = {GATTN_STRING(GATTN_ISA), gat_forward,        gat_backward,  gat_node_scores, gat_node_gradients,
                       attention_forward,       attention_backward, first_largest, gather_limit};

}  // namespace gattn::cpu::GATTN_ISA

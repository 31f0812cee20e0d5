#include "table.h"

#include "row_loop.h"

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
    for_each_row<A>(
        g.rowptr, g.num_dst, width, problem.threads,
        [&](int64_t, int64_t begin, int64_t end, A* acc, int) {
          memset(acc, 0, width * sizeof(A));
          aggregate(acc, rows, g.col, begin, end - begin, g.num_edges, ones.get());
        },
        [&](int64_t row, A* states, int64_t count, int) {
          for (int64_t s = 1; s < count; ++s)
            for (int64_t c = 0; c < width; ++c) states[c] += states[s * state_stride<A>(width) + c];
          rows.ops->write(static_cast<char*>(out) + row * rows.bytes, states, ones.get(), nullptr, 1, width);
        });
  });
}

// The symbol dispatch.cpp declares for each instruction set.
extern const Kernels table;
const Kernels table = {GATTN_STRING(GATTN_ISA), gat_forward,          gat_backward,          gat_node_scores,
                       gat_node_gradients,      edge_softmax_forward, edge_softmax_backward, gather_limit};

}  // namespace gattn::cpu::GATTN_ISA

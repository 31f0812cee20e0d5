// Score `gat` (Velickovic et al. 2018): t_ij = a_src[j] + a_dst[i] + a_edge[ij], LeakyReLU(t_ij / c_i) times the
// decay's mask, value x[j].
#pragma once

#include "../kernels.h"
#include "decay.h"
#include "reductions.h"

namespace gattn::cpu::GATTN_ISA {

template <class A_>
struct Gat {
  using A = A_;

  Adjacency g;
  Rows<A> values;
  const A *a_src, *a_dst, *a_edge, *divisor;  // all but a_src may be null
  A slope;
  int64_t heads;
  const A* bias;  // may be null
  DType dtype;    // of the features
  const DecayMask<A> decay;

  Gat(const Problem& problem, const GatInputs& in)
      : g(adjacency(problem)),
        values(in.v, problem.dtype, problem.heads, problem.channels),
        a_src(static_cast<const A*>(in.a_src)),
        a_dst(static_cast<const A*>(in.a_dst)),
        a_edge(static_cast<const A*>(in.a_edge)),
        divisor(static_cast<const A*>(in.divisor)),
        slope(static_cast<A>(in.negative_slope)),
        heads(problem.heads),
        bias(static_cast<const A*>(in.bias)),
        dtype(problem.dtype),
        decay(in, heads, g.num_edges) {}

  // LeakyReLU's derivative
  template <class V>
  V branch(V t) const {
    return t > V{} ? V{} + A{1} : V{} + slope;
  }

  bool reweight(int64_t, int64_t, A*) const { return false; }
  void add_values(A* acc, int64_t slot, int64_t edges, const A* p) const {
    aggregate(acc, values, g.col, slot, edges, g.num_edges, p);
  }

  // t / c, the argument of LeakyReLU
  void arguments(int64_t row, int64_t slot, int64_t edges, A* t) const {
    node_logits(g, heads, a_src, a_dst, a_edge, row, slot, edges, t);
    if (divisor) divide_by_head(t, edges, heads, divisor + row * heads);
  }
  void activate(int64_t edges, A* t) const { leaky_relu_array(t, padded<A>(edges, heads), slope); }
  void logits(int64_t row, int64_t slot, int64_t edges, A* t, const Caller&) const {
    arguments(row, slot, edges, t);
    activate(edges, t);
    if (decay) decay.multiply(g.edge_id + slot, edges, g.num_edges - slot, t);
  }
};

}  // namespace gattn::cpu::GATTN_ISA

// What scores made of features compute of an edge's rows, in the accumulate type: storage types are widened first.
//
//   dot    t = scale * <q, k + e>                 gt     t = scale * sum(q * k * e)
//   gatv2  t = scale * <att, LeakyReLU(q + k + e)>
//
// q is the target's row, k the source's, e the edge's (optional but for gt); all [heads, channels].
#pragma once

#include "../kernels.h"
#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

template <class A>
struct ScoreParameters {
  const A* att;  // [heads, channels], gatv2
  A slope, scale;
  int64_t heads, channels;
};

// An edge's gradients: of t [heads], and of gt's products [heads, channels] where they are a result (else null).
template <class A>
struct EdgeGradient {
  const A *t, *products;
};

template <class A>
struct ScoreRows {
  // t[u, h] += score of four rows; e is not read by a table without edges
  void (*score)(A* t, const A* const* k, const A* const* e, const A* q, const ScoreParameters<A>&);
  // to = the terms whose sums over channels are the scores
  void (*terms)(A* to, const A* k, const A* e, const A* q, const ScoreParameters<A>&);
  // dq += and datt += this edge's part; gatv2: dq still lacks the factor att
  void (*target)(A* dq, A* datt, const EdgeGradient<A>&, const A* k, const A* e, const A* q, const ScoreParameters<A>&);
  // dk += this edge's part; gatv2: still without the factor att
  void (*source)(A* dk, const EdgeGradient<A>&, const A* k, const A* e, const A* q, const ScoreParameters<A>&);
  // de = this edge's
  void (*edge)(A* de, const EdgeGradient<A>&, const A* k, const A* e, const A* q, const ScoreParameters<A>&);
  // score() of four rows, and their terms, four rows one after the other
  void (*score_and_terms)(A* t, A* to, const A* const* k, const A* const* e, const A* q, const ScoreParameters<A>&);
};

// The table of gatv2, dot or gt.
template <class A>
const ScoreRows<A>& score_rows(ScoreKind score, bool has_edge);

}  // namespace gattn::cpu::GATTN_ISA

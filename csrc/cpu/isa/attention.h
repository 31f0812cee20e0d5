// Any score with any modifier, as the row loops read it.
#pragma once

#include "collector.h"
#include "decay.h"
#include "reductions.h"
#include "score_rows.h"

namespace gattn::cpu::GATTN_ISA {

// One worker's room: arrays over a piece's slots, and feature rows in the accumulate type.
template <class A>
struct Workspace {
  static constexpr int kArrays = 7, kRows = 4 * kRowsAtOnce;  // 16 rows: workers share no cache line
  Scratch<A> arrays;
  int64_t width;
  Buffer<A> rows;

  Workspace(int threads, int64_t heads, int64_t width_)
      : arrays(threads, kPieceEdges + kRowsAtOnce, heads, kArrays), width(width_), rows(threads * kRows * width_) {}
  A* array(int worker, int index) const { return arrays.array(worker, index); }
  A* row(int worker, int index) const { return rows.get() + (int64_t{worker} * kRows + index) * width; }
};

// A row in the accumulate type: itself where it is stored so, else widened into `room`.
template <class A>
inline const A* widened(const Rows<A>& rows, int64_t node, A* room) {
  if (rows.data == nullptr) return nullptr;
  if (rows.wide) return static_cast<const A*>(rows[node]);
  rows.ops->widen(room, rows[node], rows.width());
  return room;
}

inline bool made_of_features(ScoreKind score) { return score != ScoreKind::edge_softmax && score != ScoreKind::gat; }

template <class A_>
struct Attention {
  using A = A_;

  Adjacency g;
  ScoreKind kind;
  int64_t heads, channels;
  Rows<A> q, k, v, edge, values;
  ScoreParameters<A> parameters;
  const ScoreRows<A>* rows;  // null: a score of node and edge logits alone
  const A *a_src, *a_dst, *a_edge, *edge_weight, *divisor;
  const DecayMask<A>& decay;
  A slope, clip;
  const Workspace<A>& work;
  const Collector<A>* collector = nullptr;  // of activations, where they are wanted
  char* terms = nullptr;                    // gt's products, a row an edge in the caller's order, where they are wanted

  Attention(const Problem& problem, const AttentionInputs& in, const DecayMask<A>& decay_, const Workspace<A>& work_)
      : g(adjacency(problem)),
        kind(in.score),
        heads(problem.heads),
        channels(problem.channels),
        q(in.q, problem.dtype, heads, channels),
        k(in.k, problem.dtype, heads, channels),
        v(in.v, problem.dtype, heads, channels),
        edge(in.edge, problem.dtype, heads, channels),
        values(kind == ScoreKind::gatv2 ? k : v),
        parameters{static_cast<const A*>(in.att), static_cast<A>(in.negative_slope), static_cast<A>(in.scale), heads,
                   channels},
        rows(made_of_features(kind) ? &score_rows<A>(kind, in.edge != nullptr) : nullptr),
        a_src(static_cast<const A*>(in.a_src)),
        a_dst(static_cast<const A*>(in.a_dst)),
        a_edge(static_cast<const A*>(in.a_edge)),
        edge_weight(static_cast<const A*>(in.edge_weight)),
        divisor(static_cast<const A*>(in.divisor)),
        decay(decay_),
        slope(static_cast<A>(in.negative_slope)),
        clip(static_cast<A>(in.clip)),
        work(work_) {}

  A weight_of(int64_t slot, int64_t h) const { return edge_weight[g.edge_id[slot] * heads + h]; }
  bool edge_values() const { return kind == ScoreKind::dot && edge.data != nullptr; }

  // Calls function(source rows, edge rows, k, count) for the slots of a piece, four at a time, in the accumulate type.
  // Fewer than four are filled up with the first. Rows that are not in the caches yet (`cold`) are fetched ahead.
  template <class Function>
  void for_rows(const Rows<A>& sources, const Rows<A>& edge_rows, bool cold, int64_t slot, int64_t edges, int worker,
                const Function& function) const {
    const Index edge_id = g.edge_id + slot;
    const int64_t ahead = prefetch_distance(sources.bytes), rest = cold ? g.num_edges - slot : 0;
    gather(sources, g.col, slot, edges, cold ? g.num_edges : 0, [&](const void* const* row, int64_t first, int count) {
      const A *source[kRowsAtOnce], *theirs[kRowsAtOnce];
      for (int u = 0; u < kRowsAtOnce; ++u) {
        const int64_t at = first + (u < count ? u : 0);
        if (sources.wide) {
          source[u] = static_cast<const A*>(row[u < count ? u : 0]);
        } else if (u < count) {
          sources.ops->widen(work.row(worker, u), row[u], sources.width());
          source[u] = work.row(worker, u);
        } else {
          source[u] = source[0];
        }
        theirs[u] = u < count ? widened(edge_rows, edge_id[at], work.row(worker, kRowsAtOnce + u)) : theirs[0];
        if (edge_rows.data && u < count && at + ahead < rest)
          prefetch_row(edge_rows[edge_id[at + ahead]], edge_rows.bytes);
      }
      function(source, theirs, first, count);
    });
  }

  // t[k, h] += score of mine with the source's (and edge's) row, for the slots of a piece. Writes whole fours, so t has
  // room for kRowsAtOnce more edges.
  void add_scores(const ScoreRows<A>& table, const ScoreParameters<A>& p, const Rows<A>& sources,
                  const Rows<A>& edge_rows, bool cold, const A* mine, int64_t slot, int64_t edges, int worker,
                  A* t) const {
    for_rows(sources, edge_rows, cold, slot, edges, worker,
             [&](const A* const* source, const A* const* theirs, int64_t first, int) {
               table.score(t + first * heads, source, theirs, mine, p);
             });
  }

  // t / c, the argument of the activation
  void raw_scores(int64_t row, int64_t slot, int64_t edges, A* t, const Caller& caller) const {
    node_logits(g, heads, a_src, a_dst, a_edge, row, slot, edges, t);
    if (rows) {
      const A* mine = widened(q, row, work.row(caller, kRowsAtOnce * 2));
      if ((collector || terms) && caller.group != kNoGroup)
        scores_and_terms(mine, slot, edges, caller, t);
      else
        add_scores(*rows, parameters, k, edge, true, mine, slot, edges, caller, t);
    }
    if (divisor) divide_by_head(t, edges, heads, divisor + row * heads);
  }
  // The same, with the terms of the scores for the collector, for the caller or for both.
  void scores_and_terms(const A* mine, int64_t slot, int64_t edges, const Caller& caller, A* t) const {
    const int64_t all = g.num_edges, ahead = prefetch_distance(edge.bytes);
    for_rows(k, edge, true, slot, edges, caller,
             [&](const A* const* source, const A* const* theirs, int64_t first, int count) {
               const Index ids = g.edge_id + slot + first;
               A* room = collector ? collector->room(caller) : work.row(caller, 2 * kRowsAtOnce + 1);
               rows->score_and_terms(t + first * heads, room, source, theirs, mine, parameters);
               const int64_t rest = all - slot - first;
               if (terms)
                 for (int u = 0; u < count; ++u) {
                   if (ahead + u < rest) prefetch_row<true>(terms + ids[ahead + u] * edge.bytes, edge.bytes);
                   edge.ops->narrow(terms + ids[u] * edge.bytes, room + u * k.width(), k.width());
                 }
               if (!collector) return;
               for (int64_t at = kScoresAhead; at < kScoresAhead + count && at < rest; ++at) collector->fetch(ids[at]);
               collector->add(ids, count, caller);
             });
  }

  void activate(int64_t edges, A* t) const {
    if (kind == ScoreKind::gat) leaky_relu_array(t, padded<A>(edges, heads), slope);
    if (kind != ScoreKind::gt) return;
    constexpr int W = kLanes<A>;
    const Vec<A, W> high = splat<A, W>(clip), low = -high;
    for (int64_t i = 0; i < padded<A>(edges, heads); i += W) {
      const Vec<A, W> v = load<W>(t + i), below = v > high ? high : v;
      store<W>(t + i, below < low ? low : below);
    }
  }
  // values *= the activation's derivative, from its argument
  void multiply_branch(A* values_, const A* argument, int64_t edges) const {
    constexpr int W = kLanes<A>;
    const Vec<A, W> zero{}, high = splat<A, W>(clip);
    if (kind != ScoreKind::gat && kind != ScoreKind::gt) return;
    for (int64_t i = 0; i < padded<A>(edges, heads); i += W) {
      const Vec<A, W> v = load<W>(values_ + i), t = load<W>(argument + i);
      store<W>(values_ + i, kind == ScoreKind::gat ? (t > zero ? v : v * slope)
                                                   : (t > high    ? zero
                                                      : t < -high ? zero
                                                                  : v));
    }
  }

  // What forward() asks of a score.
  void logits(int64_t row, int64_t slot, int64_t edges, A* t, const Caller& caller) const {
    raw_scores(row, slot, edges, t, caller);
    finish_scores(slot, edges, t, work.array(caller, 0), nullptr);
    if (edge_weight == nullptr) return;  // an edge without weight has no part in the row's maximum
    for (int64_t i = 0; i < edges; ++i)
      for (int64_t h = 0; h < heads; ++h)
        if (weight_of(slot + i, h) == A{0}) t[i * heads + h] = kMinusInfinity<A>;
  }
  // From t / c to the score; leaves the mask and what else DecayMask computes.
  void finish_scores(int64_t slot, int64_t edges, A* t, A* mask, A* by_hop) const {
    activate(edges, t);
    if (!decay) return;
    decay.compute(g.edge_id + slot, edges, g.num_edges - slot, mask, by_hop);
    fill_padding(t, edges, heads, A{0});
    multiply_array(t, mask, padded<A>(edges, heads));
  }
  bool reweight(int64_t slot, int64_t edges, A* p) const {
    if (edge_weight == nullptr) return false;
    for (int64_t i = 0; i < edges; ++i)
      for (int64_t h = 0; h < heads; ++h) {
        const A weight = weight_of(slot + i, h);
        p[i * heads + h] = weight == A{0} ? A{0} : p[i * heads + h] * weight;  // p may be infinite where none counts
      }
    return true;
  }
  void add_values(A* acc, int64_t slot, int64_t edges, const A* p) const {
    aggregate(acc, values, g.col, slot, edges, kind == ScoreKind::gatv2 ? 0 : g.num_edges, p);
    if (edge_values()) aggregate(acc, edge, g.edge_id, slot, edges, g.num_edges, p);
  }
};

}  // namespace gattn::cpu::GATTN_ISA

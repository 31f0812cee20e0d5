// The backward of any score with any modifier.
#pragma once

#include "attention.h"
#include "edge_order.h"
#include "sink.h"

namespace gattn::cpu::GATTN_ISA {

// With g_i = dL/dout_i, q = the softmax without edge weights u and dropout factors r, p = u q:
//   dalpha = r g_i . value + dL/dalpha,  D_i = sum p dalpha (with the sink's share),  ds = p (dalpha - D_i)
// The target pass finds D a row at a time and then everything that is a sum over a target's edges; what the source
// pass needs it leaves in transposed order: dt and r p, [E, heads].
template <class A>
struct Backward {
  const Problem& problem;
  const AttentionInputs& in;
  const AttentionSaved& saved;
  const AttentionGradients& grads;
  const Workspace<A> work;
  const DecayMask<A> decay;
  const Attention<A> score;
  const Adjacency& g;
  const int64_t heads, width;
  const Rows<A> grad_out, grad_edge;
  const EdgeDropout<A> dropout;
  const ScoreParameters<A> unscaled;  // of the products of grad_out and values
  const ScoreRows<A>& products;
  const bool features, keeps_t;
  Buffer<A> dt, weight, t, d;
  const GroupSums<A> sums;  // datt, dhop, dsink_value
  const SinkGradients<A> sink;

  // The second step's state.
  const int64_t at_att, at_dst, at_divisor, at_hop, state_size;

  Backward(const Problem& problem_, const AttentionInputs& in_, const AttentionSaved& saved_,
           const AttentionGradients& grads_)
      : problem(problem_),
        in(in_),
        saved(saved_),
        grads(grads_),
        work(problem.threads, problem.heads, problem.heads * problem.channels),
        decay(in, problem.heads, adjacency(problem).num_edges),
        score(problem, in, decay, work),
        g(score.g),
        heads(problem.heads),
        width(problem.heads * problem.channels),
        grad_out(saved.grad_out, problem.dtype, heads, problem.channels),
        grad_edge(saved.grad_edge, problem.dtype, heads, problem.channels),
        dropout(problem, g.edge_id),
        unscaled{nullptr, A{0}, A{1}, heads, problem.channels},
        products(score_rows<A>(ScoreKind::dot, score.edge_values())),
        features(made_of_features(in.score)),
        keeps_t(in.score == ScoreKind::gat || in.score == ScoreKind::gt || in.divisor || in.distance),
        dt(g.num_edges * heads),
        weight(g.num_edges * heads),
        t(keeps_t ? g.num_edges * heads : 0),
        d(g.num_dst * heads),
        sums(row_groups(g.rowptr, g.num_dst), (grads.att ? width : 0) + heads + (grads.sink_value ? width : 0)),
        sink{in, saved, grads, grad_out},
        at_att(features ? width : 0),
        at_dst(at_att + (in.att ? width : 0)),
        at_divisor(at_dst + heads),
        at_hop(at_divisor + heads),
        state_size(at_hop + heads) {}

  void run() {
    if (grads.q) advise_huge_pages(grads.q, g.num_dst * score.q.bytes);
    if (grads.k) advise_huge_pages(grads.k, g.num_src * score.k.bytes);
    if (grads.v) advise_huge_pages(grads.v, g.num_src * score.v.bytes);
    if (grads.edge) advise_huge_pages(grads.edge, g.num_edges * score.edge.bytes);
    target_pass();
    if (needs_source_pass()) source_pass();
  }

  bool needs_source_pass() const { return grads.k || grads.v || grads.a_src; }
  int64_t sum_hop() const { return grads.att ? width : 0; }
  int64_t sum_sink() const { return sum_hop() + heads; }

  // Between a piece's slots and the transposed order.
  void put(const A* from, A* to, int64_t begin, int64_t edges) const {
    scatter_edges(from, g.csr_to_csc + begin, edges, heads, to);
  }
  void fetch(const A* from, A* to, int64_t begin, int64_t edges) const {
    gather_edges(from, g.csr_to_csc + begin, edges, g.num_edges - begin, heads, to);
  }
  // To the caller's order.
  void scatter(const A* from, void* to, int64_t begin, int64_t edges) const {
    scatter_edges(from, g.edge_id + begin, edges, heads, to);
  }

  // Heavy rows' segments meet other workers between the steps, so they keep their arrays in memory; a light row's
  // stay in its worker's room.
  bool heavy(int64_t row) const { return g.rowptr[row + 1] - g.rowptr[row] > kHubDegree; }

  // Step 1: q, dalpha, and the sums of p dalpha and of p.
  void weigh(int64_t row, int64_t begin, int64_t end, A* sum, int worker) {
    const int64_t edges = end - begin;
    A *q = work.array(worker, 1), *dalpha = work.array(worker, 2), *arg = work.array(worker, 4);
    score.raw_scores(row, begin, edges, q, Caller{worker, kNoGroup});
    if (keeps_t) memcpy(arg, q, edges * heads * sizeof(A));
    score.finish_scores(begin, edges, q, work.array(worker, 0), grads.hop ? work.array(worker, 3) : nullptr);
    normalise(q, edges, heads, static_cast<const A*>(saved.row_stats) + row * 2 * heads);

    weigh_values(row, begin, edges, dalpha, worker);
    if (heavy(row)) {
      put(q, weight.get(), begin, edges);
      put(dalpha, dt.get(), begin, edges);
      if (keeps_t) put(arg, t.get(), begin, edges);
    }
    const A* p = q;
    if (in.edge_weight) {
      A* weighted = work.array(worker, 5);
      memcpy(weighted, q, edges * heads * sizeof(A));
      score.reweight(begin, edges, weighted);
      p = weighted;
    }
    with_heads<A>(heads, [&](auto h_count) {
      for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
        constexpr int W = decltype(lanes)::value;
        Vec<A, W> total{}, weights{};
        for (int64_t i = h; i < edges * h_count; i += h_count) {
          total += load<W>(p + i) * load<W>(dalpha + i);
          weights += load<W>(p + i);
        }
        store<W>(sum + h, total);
        store<W>(sum + h_count + h, weights);
      });
    });
  }

  void weigh_values(int64_t row, int64_t begin, int64_t edges, A* dalpha, int worker) {
    const auto* grad_alpha = static_cast<const A*>(saved.grad_alpha);
    const Index edge_id = g.edge_id + begin;
    memset(dalpha, 0, (edges + kRowsAtOnce) * heads * sizeof(A));
    if (grad_out.data) {
      const Rows<A> none(nullptr, problem.dtype, heads, problem.channels);
      score.add_scores(products, unscaled, score.values, score.edge_values() ? score.edge : none,
                       in.score != ScoreKind::gatv2, widened(grad_out, row, work.row(worker, kRowsAtOnce * 2)), begin,
                       edges, worker, dalpha);
    }
    if (grad_alpha && !in.undropped) add_by_edge(grad_alpha, edge_id, edges, heads, dalpha);
    if (dropout.active()) {
      dropout.apply(dropout.draw(begin, edges, worker), edges, dalpha, dalpha);
    }
    if (grad_alpha && in.undropped) add_by_edge(grad_alpha, edge_id, edges, heads, dalpha);
  }

  void total_d(int64_t row, A* states, int64_t count, const Caller& caller) {
    for (int64_t s = 1; s < count; ++s)
      for (int64_t i = 0; i < 2 * heads; ++i) states[i] += states[s * state_stride<A>(state_size) + i];
    if (in.sink_logit) add_sink(row, states, sums.of(caller) + sum_sink(), work.array(caller, 5));
    memcpy(d.get() + row * heads, states, heads * sizeof(A));
  }
  // sum: of p dalpha and of p over the edges, [2, heads]; the first becomes D.
  void add_sink(int64_t row, A* sum, A* by_value, A* room) const {
    A *share = room, *dalpha = room + heads;
    sink.weigh(row, share, dalpha, by_value);
    for (int64_t h = 0; h < heads; ++h) {
      const A mean = sum[h] + share[h] * dalpha[h];
      A change = dalpha[h] - mean;
      // Where the sink leaves little to the edges this cancels, and the sum of their p is exact enough.
      if (A{1} - share[h] < A{0.0625} && in.epsilon == 0) change = sum[heads + h] * dalpha[h] - sum[h];
      if (grads.sink_logit) static_cast<A*>(grads.sink_logit)[row * heads + h] = share[h] * change;
      sum[h] = mean;
    }
  }

  // Step 2: from D to t and to everything that is summed over the row.
  void differentiate(int64_t row, int64_t begin, int64_t end, A* state, int worker) {
    const int64_t edges = end - begin;
    A *q = work.array(worker, 1), *ds = work.array(worker, 2), *arg = work.array(worker, 4);
    memset(state, 0, state_size * sizeof(A));
    if (heavy(row)) {
      fetch(weight.get(), q, begin, edges);
      fetch(dt.get(), ds, begin, edges);
      if (keeps_t) fetch(t.get(), arg, begin, edges);
    }
    with_heads<A>(heads, [&](auto h_count) {
      for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
        constexpr int W = decltype(lanes)::value;
        const Vec<A, W> total = load<W>(d.get() + row * h_count + h);
        for (int64_t i = h; i < edges * h_count; i += h_count)
          store<W>(ds + i, load<W>(q + i) * (load<W>(ds + i) - total));
      });
    });
    if (in.edge_weight) {
      if (grads.edge_weight) scatter(ds, grads.edge_weight, begin, edges);
      score.reweight(begin, edges, ds);
      score.reweight(begin, edges, q);
    }
    if (keeps_t) through_modifiers(row, begin, edges, arg, ds, state, worker);
    if (dropout.active()) dropout.apply(dropout.draw(begin, edges, worker), edges, q, q);
    if (needs_source_pass()) {
      put(q, weight.get(), begin, edges);
      put(ds, dt.get(), begin, edges);
    }
    if (grads.a_edge) scatter(ds, grads.a_edge, begin, edges);
    if (grads.a_dst) add_edges(ds, edges, state + at_dst);
    if (features) feature_gradients(row, begin, edges, ds, q, state, worker);
  }

  // sum[h] += sum of terms[k, h]
  void add_edges(const A* terms, int64_t edges, A* sum) const {
    with_heads<A>(heads, [&](auto h_count) {
      for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
        constexpr int W = decltype(lanes)::value;
        Vec<A, W> total = load<W>(sum + h);
        for (int64_t i = h; i < edges * h_count; i += h_count) total += load<W>(terms + i);
        store<W>(sum + h, total);
      });
    });
  }

  // ds becomes dt: through the mask, the activation and the divisor.
  void through_modifiers(int64_t row, int64_t begin, int64_t edges, const A* arg, A* ds, A* state, int worker) const {
    A *mask = work.array(worker, 0), *by_hop = work.array(worker, 3), *term = work.array(worker, 6);
    const int64_t room = padded<A>(edges, heads);
    if (in.distance) {
      if (heavy(row)) decay.compute(g.edge_id + begin, edges, edges, mask, by_hop);
      multiply_array(ds, mask, room);
      if (grads.hop) {
        memcpy(term, arg, room * sizeof(A));
        score.activate(edges, term);
        multiply_array(term, by_hop, room);
        multiply_array(term, ds, room);
        add_edges(term, edges, state + at_hop);
      }
    }
    score.multiply_branch(ds, arg, edges);
    if (in.divisor == nullptr) return;
    if (grads.divisor) {
      memcpy(term, ds, room * sizeof(A));
      multiply_array(term, arg, room);
      add_edges(term, edges, state + at_divisor);
    }
    divide_by_head(ds, edges, heads, score.divisor + row * heads);
  }

  void feature_gradients(int64_t row, int64_t begin, int64_t edges, const A* gradient, const A* p, A* state,
                         int worker) const {
    const A* mine = widened(score.q, row, work.row(worker, kRowsAtOnce * 2));
    const A* out = widened(grad_out, row, work.row(worker, kRowsAtOnce * 2 + 1));
    A* de = work.row(worker, kRowsAtOnce * 2 + 2);
    const int64_t bytes = score.edge.bytes, channels = problem.channels;
    const int64_t ahead = prefetch_distance(bytes), rest = grads.edge || grad_edge.data ? g.num_edges - begin : 0;
    score.for_rows(score.k, score.edge, false, begin, edges, worker,
                   [&](const A* const* k, const A* const* e, int64_t first, int count) {
                     for (int u = 0; u < count; ++u) {
                       const int64_t at = first + u, edge = g.edge_id[begin + at];
                       if (at + ahead < rest) fetch_gradients(g.edge_id[begin + at + ahead]);
                       const EdgeGradient<A> theirs{gradient + at * heads,
                                                    widened(grad_edge, edge, work.row(worker, kRowsAtOnce * 2 + 3))};
                       score.rows->target(state, state + at_att, theirs, k[u], e[u], mine, score.parameters);
                       if (grads.edge == nullptr) continue;
                       score.rows->edge(de, theirs, k[u], e[u], mine, score.parameters);
                       if (score.edge_values() && out)
                         for (int64_t h = 0; h < heads; ++h)
                           for (int64_t c = h * channels; c < (h + 1) * channels; ++c)
                             de[c] += p[at * heads + h] * out[c];
                       score.edge.ops->narrow(static_cast<char*>(grads.edge) + edge * bytes, de, width);
                     }
                   });
  }

  void fetch_gradients(int64_t edge) const {
    keep_this_call();
    if (grads.edge) prefetch_row<true>(static_cast<char*>(grads.edge) + edge * score.edge.bytes, score.edge.bytes);
    if (grad_edge.data) prefetch_row(grad_edge[edge], grad_edge.bytes);
  }

  void end_row(int64_t row, A* states, int64_t count, const Caller& caller) {
    add_states(states, count, state_size);
    A* total = sums.of(caller);
    if (grads.att)
      for (int64_t c = 0; c < width; ++c) total[c] += states[at_att + c];
    for (int64_t h = 0; h < heads; ++h) {
      total[sum_hop() + h] += states[at_hop + h];
      const int64_t at = row * heads + h;
      if (grads.a_dst) static_cast<A*>(grads.a_dst)[at] = states[at_dst + h];
      if (grads.divisor) static_cast<A*>(grads.divisor)[at] = -states[at_divisor + h] / score.divisor[at];
    }
    if (grads.q == nullptr) return;
    if (in.att)
      for (int64_t c = 0; c < width; ++c) states[c] *= score.parameters.att[c];
    score.q.ops->narrow(static_cast<char*>(grads.q) + row * score.q.bytes, states, width);
  }

  void target_pass() {
    const auto weigh_ = [&](int64_t row, int64_t begin, int64_t end, A* state, int worker) {
      weigh(row, begin, end, state, worker);
    };
    const auto total_ = [&](int64_t row, A* states, int64_t count, const Caller& caller) {
      total_d(row, states, count, caller);
    };
    const auto differentiate_ = [&](int64_t row, int64_t begin, int64_t end, A* state, int worker) {
      differentiate(row, begin, end, state, worker);
    };
    const auto end_ = [&](int64_t row, A* states, int64_t count, const Caller& caller) {
      end_row(row, states, count, caller);
    };
    for_each_row<A>(g.rowptr, g.num_dst, state_size, problem.threads, Step{weigh_, total_}, Step{differentiate_, end_});
    sums.total(0, width, grads.att);
    sums.total(sum_hop(), heads, grads.hop);
    sums.total(sum_sink(), width, grads.sink_value);
  }

  // Sums over a source's out-edges: dk and dv, or dx, and da_src.
  void source_pass() {
    const bool values = score.values.data != nullptr;
    const int64_t at_values = features ? width : 0, at_src = at_values + (values ? width : 0);
    const int64_t size = at_src + heads;
    const auto partial = [&](int64_t source, int64_t begin, int64_t end, A* state, int worker) {
      const int64_t edges = end - begin;
      memset(state, 0, size * sizeof(A));
      const A *gradient = dt.get() + begin * heads, *p = weight.get() + begin * heads;
      if (grads.a_src) add_edges(gradient, edges, state + at_src);
      if (values && grad_out.data) aggregate(state + at_values, grad_out, g.row, begin, edges, g.num_edges, p);
      if (!features) return;
      const A* mine = widened(score.k, source, work.row(worker, kRowsAtOnce * 2));
      const int64_t ahead = prefetch_distance(score.q.bytes), rest = g.num_edges - begin;
      gather(score.q, g.row, begin, edges, g.num_edges, [&](const void* const* row, int64_t first, int count) {
        for (int u = 0; u < count; ++u) {
          const int64_t at = first + u, edge = g.edge_id_t[begin + at];
          if (score.edge.data && at + ahead < rest) {
            const int64_t coming = g.edge_id_t[begin + at + ahead];
            prefetch_row(score.edge[coming], score.edge.bytes);
            if (grad_edge.data) prefetch_row(grad_edge[coming], grad_edge.bytes);
          }
          const A* q = static_cast<const A*>(row[u]);
          if (!score.q.wide) {
            A* room = work.row(worker, 0);
            score.q.ops->widen(room, row[u], width);
            q = room;
          }
          const EdgeGradient<A> theirs{gradient + at * heads, widened(grad_edge, edge, work.row(worker, 1))};
          score.rows->source(state, theirs, mine, widened(score.edge, edge, work.row(worker, 2)), q, score.parameters);
        }
      });
    };
    const auto finish = [&](int64_t source, A* states, int64_t count, int) {
      add_states(states, count, size);
      if (grads.a_src) memcpy(static_cast<A*>(grads.a_src) + source * heads, states + at_src, heads * sizeof(A));
      if (in.att)
        for (int64_t c = 0; c < width; ++c) states[c] = states[c] * score.parameters.att[c] + states[at_values + c];
      if (grads.k) score.k.ops->narrow(static_cast<char*>(grads.k) + source * score.k.bytes, states, width);
      if (grads.v) score.v.ops->narrow(static_cast<char*>(grads.v) + source * score.v.bytes, states + at_values, width);
    };
    for_each_row<A>(g.colptr, g.num_src, size, problem.threads, Step{partial, finish});
  }
};

}  // namespace gattn::cpu::GATTN_ISA

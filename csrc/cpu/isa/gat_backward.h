// The backward of score gat with modifiers. Its values meet nothing but the weights, so that one pass over the sources,
// which reads each edge's row of grad_out once, gives their gradient and all that the others need of feature rows.
#pragma once

#include "attention.h"
#include "edge_order.h"
#include "sink.h"

namespace gattn::cpu::GATTN_ISA {

// With g_i = dL/dout_i, u = t / c, M the mask, p the softmax and r the dropout factor, in three passes:
//
// - over sources: dv_j = sum_i r p g_i, and for every edge dalpha_ij = r g_i . v_j + dL/dalpha_ij and
//   gain_ij = p M LeakyReLU'(u) / c, so that dL/dt = gain (dalpha - D);
// - over targets: D_i = sum_j p dalpha (with the sink's share), then from ds = p (dalpha - D) all sums over a target;
// - over sources: da_src_j = sum_i gain (dalpha - D_i).
//
// dalpha and gain, [E, 2, heads] in the transpose's order, are all of size E that is stored. The pass over targets
// takes the scores anew, which is cheaper than to store them.
template <class A>
struct GatBackward {
  const Problem& problem;
  const AttentionInputs& in;
  const AttentionSaved& saved;
  const AttentionGradients& grads;
  const Adjacency g;
  const int64_t heads, width;
  const DecayMask<A> decay;
  const Rows<A> values, grad_out;
  const A *a_src, *a_dst, *a_edge, *divisor, *row_stats;
  const A slope;
  const EdgeDropout<A> dropout;
  const Scratch<A> scratch;
  const GroupSums<A> sums;  // dhop, dsink_value
  const SinkGradients<A> sink;
  Buffer<A> records, d;

  GatBackward(const Problem& problem_, const AttentionInputs& in_, const AttentionSaved& saved_,
              const AttentionGradients& grads_)
      : problem(problem_),
        in(in_),
        saved(saved_),
        grads(grads_),
        g(adjacency(problem)),
        heads(problem.heads),
        width(problem.heads * problem.channels),
        decay(in, heads, g.num_edges),
        values(in.v, problem.dtype, heads, problem.channels),
        grad_out(saved.grad_out, problem.dtype, heads, problem.channels),
        a_src(static_cast<const A*>(in.a_src)),
        a_dst(static_cast<const A*>(in.a_dst)),
        a_edge(static_cast<const A*>(in.a_edge)),
        divisor(static_cast<const A*>(in.divisor)),
        row_stats(static_cast<const A*>(saved.row_stats)),
        slope(static_cast<A>(in.negative_slope)),
        dropout(problem, g.edge_id_t),
        scratch(problem.threads, kPieceEdges, heads, 5),
        sums(row_groups(g.rowptr, g.num_dst), heads + (grads.sink_value ? width : 0)),
        sink{in, saved, grads, grad_out},
        records(g.num_edges * 2 * heads),
        d(g.num_dst * heads) {}

  void run() {
    values_pass();
    target_pass();
    if (grads.a_src) source_pass();
  }

  template <class V>
  V branch(V u) const {
    return u > V{} ? V{} + A{1} : V{} + slope;
  }

  // What values_pass() reads of a target, side by side: a_dst, row maximum, inverse row sum, divisor, [4, heads].
  void pack_targets(A* packed) const {
    const int64_t rows = g.num_dst, tasks = (rows + kTaskCost - 1) / kTaskCost;
    parallel_tasks(tasks, problem.threads, [&](int64_t task, int) {
      const int64_t end = (task + 1) * kTaskCost < rows ? (task + 1) * kTaskCost : rows;
      for (int64_t row = task * kTaskCost; row < end; ++row)
        for (int64_t h = 0; h < heads; ++h) {
          A* to = packed + row * 4 * heads + h;
          to[0] = a_dst ? a_dst[row * heads + h] : A{0};
          to[heads] = row_stats[row * 2 * heads + h];
          to[2 * heads] = A{1} / row_stats[(row * 2 + 1) * heads + h];
          to[3 * heads] = divisor ? divisor[row * heads + h] : A{1};
        }
    });
  }

  void values_pass() {
    const int64_t channels = problem.channels, bytes = 4 * heads * sizeof(A), ahead = prefetch_distance(grad_out.bytes);
    const auto* grad_alpha = static_cast<const A*>(saved.grad_alpha);
    const Buffer<A> packed(g.num_dst * 4 * heads);
    pack_targets(packed.get());
    if (grads.v) advise_huge_pages(grads.v, g.num_src * values.bytes);

    const auto partial = [&](int64_t source, int64_t begin, int64_t end, A* acc, int worker) {
      const int64_t edges = end - begin, room = padded<A>(edges, heads);
      const Index target = g.row + begin, edge_id = g.edge_id_t + begin;
      A *p = scratch.array(worker, 0), *inverse = scratch.array(worker, 1), *gain = scratch.array(worker, 2);
      A *far = scratch.array(worker, 3), *dot = scratch.array(worker, 4);
      const uint8_t* kept = nullptr;
      with_heads<A>(heads, [&](auto h_count) {
        for (int64_t k = 0; k < edges; ++k) {
          if (begin + k + ahead < g.num_edges) {
            prefetch_row(packed.get() + target[k + ahead] * 4 * h_count, bytes);
            if (decay) decay.prefetch(edge_id[k + ahead]);
          }
          const A* theirs = packed.get() + target[k] * 4 * h_count;
          const A* edge = a_edge ? a_edge + edge_id[k] * h_count : nullptr;
          const A* mask = decay ? decay.at(edge_id[k], far) : nullptr;
          for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
            constexpr int W = decltype(lanes)::value;
            Vec<A, W> u = load<W>(theirs + h);
            if (a_src) u += load<W>(a_src + source * h_count + h);
            if (edge) u += load<W>(edge + h);
            if (divisor) u /= load<W>(theirs + 3 * h_count + h);
            Vec<A, W> by_u = branch(u), score = u * by_u;
            if (divisor) by_u /= load<W>(theirs + 3 * h_count + h);
            if (mask) {
              score *= load<W>(mask + h);
              by_u *= load<W>(mask + h);
            }
            store<W>(p + k * h_count + h, score - load<W>(theirs + h_count + h));
            store<W>(inverse + k * h_count + h, load<W>(theirs + 2 * h_count + h));
            store<W>(gain + k * h_count + h, by_u);
          });
        }
      });
      fill_padding(p, edges, heads, A{0});
      exp_padded(p, room);
      multiply_array(p, inverse, room);
      multiply_array(gain, p, room);
      if (dropout.active()) {
        kept = dropout.draw(begin, edges, worker);
        dropout.apply(kept, edges, p, p);
      }
      memset(acc, 0, width * sizeof(A));
      gather(grad_out, g.row, begin, edges, g.num_edges, [&](const void* const* row, int64_t k, int count) {
        grad_out.ops->add_dot[count - 1](acc, row, p + k * heads, dot + k * heads, values[source], heads, channels);
      });
      if (grad_alpha && !in.undropped) add_by_edge(grad_alpha, edge_id, edges, heads, dot);
      if (kept) dropout.apply(kept, edges, dot, dot);
      if (grad_alpha && in.undropped) add_by_edge(grad_alpha, edge_id, edges, heads, dot);
      A* record = records.get() + begin * 2 * heads;
      with_heads<A>(heads, [&](auto h_count) {
        for (int64_t k = 0; k < edges; ++k) {
          memcpy(record + 2 * k * h_count, dot + k * h_count, h_count * sizeof(A));
          memcpy(record + (2 * k + 1) * h_count, gain + k * h_count, h_count * sizeof(A));
        }
      });
    };
    const auto finish = [&](int64_t source, A* states, int64_t count, int) {
      add_states(states, count, width);
      if (grads.v) values.ops->narrow(static_cast<char*>(grads.v) + source * values.bytes, states, width);
    };
    for_each_row<A>(g.colptr, g.num_src, width, problem.threads, Step{partial, finish});
  }

  // Step 1 of a target: u, p, dalpha, and the sum of p dalpha.
  void weigh(int64_t row, int64_t begin, int64_t end, A* sum, int worker) const {
    const int64_t edges = end - begin, rest = g.num_edges - begin;
    const Index source = g.col + begin, edge_id = g.edge_id + begin, slot = g.csr_to_csc + begin;
    A *u = scratch.array(worker, 0), *p = scratch.array(worker, 1), *dalpha = scratch.array(worker, 2);
    A* far = scratch.array(worker, 4);
    with_heads<A>(heads, [&](auto h_count) {
      const A* stats = row_stats + row * 2 * h_count;
      for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
        constexpr int W = decltype(lanes)::value;
        using V = Vec<A, W>;
        const V maximum = load<W>(stats + h);
        V mine{}, by{};
        if (a_dst) mine = load<W>(a_dst + row * h_count + h);
        if (divisor) by = load<W>(divisor + row * h_count + h);
        for (int64_t k = 0; k < edges; ++k) {
          if (k + kScoresAhead < rest) {
            __builtin_prefetch(records.get() + slot[k + kScoresAhead] * 2 * h_count + h);
            if (a_src) __builtin_prefetch(a_src + source[k + kScoresAhead] * h_count + h);
            if (decay) decay.prefetch(edge_id[k + kScoresAhead]);
          }
          V t = mine;
          if (a_src) t += load<W>(a_src + source[k] * h_count + h);
          if (a_edge) t += load<W>(a_edge + edge_id[k] * h_count + h);
          if (divisor) t /= by;
          V score = t * branch(t);
          if (decay) score *= load<W>(decay.at(edge_id[k], far) + h);
          store<W>(u + k * h_count + h, t);
          store<W>(p + k * h_count + h, score - maximum);
        }
      });
      fill_padding(p, edges, heads, A{0});
      exp_padded(p, padded<A>(edges, heads));
      for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
        constexpr int W = decltype(lanes)::value;
        const Vec<A, W> inverse = A{1} / load<W>(stats + h_count + h);
        Vec<A, W> total{};
        for (int64_t k = 0; k < edges; ++k) {
          const int64_t i = k * h_count + h;
          const Vec<A, W> weight = load<W>(p + i) * inverse;
          const Vec<A, W> gradient = load<W>(records.get() + slot[k] * 2 * h_count + h);
          store<W>(p + i, weight);
          store<W>(dalpha + i, gradient);
          total += weight * gradient;
        }
        store<W>(sum + h, total);
      });
    });
  }

  // Step 2: the sums of dt, of -dc c and of dhop, [3, heads], and da_edge.
  void differentiate(int64_t row, int64_t begin, int64_t end, A* sum, int worker) const {
    const int64_t edges = end - begin;
    const Index edge_id = g.edge_id + begin;
    A *u = scratch.array(worker, 0), *p = scratch.array(worker, 1), *dalpha = scratch.array(worker, 2);
    A *dt = dalpha, *far = scratch.array(worker, 4);
    const bool heavy = g.rowptr[row + 1] - g.rowptr[row] > kHubDegree;
    if (heavy) weigh(row, begin, end, sum, worker);  // its segments met other workers meanwhile
    with_heads<A>(heads, [&](auto h_count) {
      for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
        constexpr int W = decltype(lanes)::value;
        using V = Vec<A, W>;
        const V mean = load<W>(d.get() + row * h_count + h);
        V by{}, sum_t{}, sum_c{}, sum_hop{};
        if (divisor) by = load<W>(divisor + row * h_count + h);
        for (int64_t k = 0; k < edges; ++k) {
          const int64_t i = k * h_count + h;
          const V argument = load<W>(u + i);
          V gradient = load<W>(p + i) * (load<W>(dalpha + i) - mean) * branch(argument);
          if (decay) {
            const A* mask = decay.at(edge_id[k], far);
            gradient *= load<W>(mask + h);
            sum_hop += gradient * argument * load<W>(mask + h_count + h);
          }
          if (divisor) {
            sum_c += gradient * argument;
            gradient /= by;
          }
          sum_t += gradient;
          store<W>(dt + i, gradient);
        }
        store<W>(sum + h, sum_t);
        store<W>(sum + h_count + h, sum_c);
        store<W>(sum + 2 * h_count + h, sum_hop);
      });
    });
    if (grads.a_edge) scatter_edges(dt, edge_id, edges, heads, grads.a_edge);
  }

  void target_pass() {
    const auto weigh_ = [&](int64_t row, int64_t begin, int64_t end, A* state, int worker) {
      weigh(row, begin, end, state, worker);
    };
    const auto total_ = [&](int64_t row, A* states, int64_t count, const Caller& caller) {
      for (int64_t s = 1; s < count; ++s)
        for (int64_t h = 0; h < heads; ++h) states[h] += states[s * state_stride<A>(3 * heads) + h];
      sink.end_row(row, states, sums.of(caller) + heads, scratch.array(caller, 3));
      memcpy(d.get() + row * heads, states, heads * sizeof(A));
    };
    const auto differentiate_ = [&](int64_t row, int64_t begin, int64_t end, A* state, int worker) {
      differentiate(row, begin, end, state, worker);
    };
    const auto end_ = [&](int64_t row, A* states, int64_t count, const Caller& caller) {
      add_states(states, count, 3 * heads);
      if (grads.a_dst) memcpy(static_cast<A*>(grads.a_dst) + row * heads, states, heads * sizeof(A));
      A* dhop = sums.of(caller);
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t at = row * heads + h;
        if (grads.divisor) static_cast<A*>(grads.divisor)[at] = -states[heads + h] / divisor[at];
        dhop[h] += states[2 * heads + h];
      }
    };
    for_each_row<A>(g.rowptr, g.num_dst, 3 * heads, problem.threads, Step{weigh_, total_}, Step{differentiate_, end_});
    sums.total(0, heads, grads.hop);
    sums.total(heads, width, grads.sink_value);
  }

  void source_pass() const {
    reduce_rows<A>(
        g.colptr, g.num_src, heads, problem.threads,
        [&](int64_t, int64_t begin, int64_t end, A* sum) {
          with_heads<A>(heads, [&](auto h_count) {
            for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
              constexpr int W = decltype(lanes)::value;
              Vec<A, W> total{};
              for (int64_t m = begin; m < end; ++m) {
                if (m + kScoresAhead < g.num_edges) __builtin_prefetch(d.get() + g.row[m + kScoresAhead] * h_count + h);
                const A* record = records.get() + m * 2 * h_count + h;
                const Vec<A, W> mean = load<W>(d.get() + g.row[m] * h_count + h);
                total += load<W>(record + h_count) * (load<W>(record) - mean);
              }
              store<W>(sum + h, total);
            });
          });
        },
        [&](int64_t source, const A* sum) {
          memcpy(static_cast<A*>(grads.a_src) + source * heads, sum, heads * sizeof(A));
        });
  }
};

}  // namespace gattn::cpu::GATTN_ISA

// The backward of score gat. Its values meet nothing but the weights, and a row's mean of dalpha is g_i . out_i: one
// pass over the sources, which reads each edge's row of grad_out once, gives all that is made of feature rows.
#pragma once

#include "edge_order.h"
#include "gat.h"
#include "sink.h"

namespace gattn::cpu::GATTN_ISA {

// What the source pass reads of a target, in one short row of 4 * heads numbers (for 4 fp32 heads a cache line), and
// heads more where scores are divided.
template <class A>
struct TargetRow {
  const A *a_dst, *maximum, *inverse_sum, *d, *divisor;
  const A* d_error;  // found after the pass: takes the place of a_dst
  TargetRow(const A* rows, int64_t target, int64_t parts, int64_t heads)
      : a_dst(rows + target * parts * heads),
        maximum(a_dst + heads),
        inverse_sum(maximum + heads),
        d(inverse_sum + heads),
        divisor(d + heads),
        d_error(a_dst) {}
};

// With g_i = dL/dout_i, p the softmax, M the mask, s = M LeakyReLU(t / c) and r the dropout factor:
//
// - over sources: dx_j = sum_i r p g_i,  ds_ij = p (r (g_i . x_j + dL/dalpha_ij) - D_i),
//   dt_ij = ds_ij M LeakyReLU'(t / c) / c,  da_src_j = sum_i dt_ij;
// - over targets: da_dst_i = sum_j dt_ij,  dc_i = -sum_j ds_ij s_ij / c_i,
//   dhop = sum ds_ij s_ij (dM/dhop / M).
//
// dt, or ds where it has to be known, is the only thing of size E that is stored: [E, heads] in the transpose's order.
//
// D_i has an error, from the rounding of out, that is the same for a whole row and so does not average out. Since the
// ds of a row, the sink's among them, sum to 0, it is what they do sum to, and each has the share p of it. It is taken
// out of the sums over targets that it would spoil (dc, dhop and with them da_dst; the sink's logit), and in half
// precision, where it is largest, of everything (refine()).
template <class A>
struct GatBackward {
  const Problem& problem;
  const GatInputs& in;
  const GatSaved& saved;
  const GatGradients& grads;
  const Gat<A> score;
  const Adjacency& g;
  const int64_t heads, width;
  const Rows<A> grad_out;
  const bool half, keeps_ds;
  const int64_t parts;  // of a TargetRow
  const EdgeDropout<A> dropout;
  const GroupSums<A> sums;  // dhop, dsink_value
  const SinkGradients<A> sink;
  Buffer<A> packed, terms, signed_p, sink_ds;

  GatBackward(const Problem& problem_, const GatInputs& in_, const GatSaved& saved_, const GatGradients& grads_)
      : problem(problem_),
        in(in_),
        saved(saved_),
        grads(grads_),
        score(problem, in),
        g(score.g),
        heads(problem.heads),
        width(heads * problem.channels),
        grad_out(saved.grad_out, problem.dtype, heads, problem.channels),
        half(problem.dtype == DType::f16 || problem.dtype == DType::bf16),
        keeps_ds(grads.divisor || grads.hop || grads.sink_logit),
        parts(score.divisor ? 5 : 4),
        dropout(problem, g.edge_id_t),
        sums(row_groups(g.rowptr, g.num_dst), heads + (grads.sink_value ? width : 0)),
        sink{in, saved, grads, grad_out},
        packed(g.num_dst * parts * heads),
        terms(grads.a_dst || keeps_ds || half ? g.num_edges * heads : 0),
        signed_p(half ? g.num_edges * heads : 0),
        sink_ds(in.sink_logit ? g.num_dst * heads : 0) {}

  void run() {
    pack_targets();
    if (half || keeps_ds || score.decay)
      source_pass<true>();
    else
      source_pass<false>();
    if (half) refine();
    if (keeps_ds)
      target_pass();
    else if (grads.a_dst)
      target_sums();
    sums.total(0, heads, grads.hop);
    sums.total(heads, width, grads.sink_value);
  }

  A* packed_row(int64_t row) const { return packed.get() + row * parts * heads; }

  void pack_targets() const {
    const int64_t bytes = score.values.bytes;
    const auto* out = static_cast<const char*>(saved.out);
    const auto *row_stats = static_cast<const A*>(saved.row_stats), *alpha = static_cast<const A*>(saved.alpha);
    const auto* grad_alpha = static_cast<const A*>(saved.grad_alpha);
    const Scratch<A> scratch(problem.threads, 1, heads, 1);
    reduce_rows<A>(
        g.rowptr, g.num_dst, heads, problem.threads,
        [&](int64_t, int64_t begin, int64_t end, A* sum) {
          if (grad_alpha) add_attention_term(alpha, grad_alpha, g.edge_id, begin, end, heads, sum);
        },
        [&](int64_t row, const A* sum, const Caller& caller) {
          A *a_dst = packed_row(row), *stats = a_dst + heads, *d = stats + 2 * heads;
          for (int64_t h = 0; h < heads; ++h) {
            stats[h] = row_stats[row * 2 * heads + h];
            stats[heads + h] = A{1} / row_stats[(row * 2 + 1) * heads + h];
          }
          score.values.ops->dot(d, grad_out[row], out + row * bytes, heads, score.values.channels);
          if (score.bias) {  // D is about what attention gave, without the bias
            score.values.ops->dot_wide(a_dst, grad_out[row], score.bias, heads, score.values.channels);
            for (int64_t h = 0; h < heads; ++h) d[h] -= a_dst[h];
          }
          for (int64_t h = 0; h < heads; ++h) {
            a_dst[h] = score.a_dst ? score.a_dst[row * heads + h] : A{0};
            d[h] += sum[h];
          }
          if (score.divisor) memcpy(d + heads, score.divisor + row * heads, heads * sizeof(A));
          if (in.sink_logit == nullptr) return;
          A *dalpha = scratch.array(caller, 0), *ds = sink_ds.get() + row * heads;
          sink.weigh(row, ds, dalpha, sums.of(caller) + heads);
          for (int64_t h = 0; h < heads; ++h) ds[h] *= dalpha[h] - d[h];
        });
  }

  // Plain scores in full precision are compiled without the questions that the others ask of every edge.
  template <bool modified>
  void source_pass() const {
    const bool refined = modified && half, keeps_both = modified && keeps_ds, decays = modified && score.decay;
    const int64_t channels = problem.channels, state_size = width + heads;  // dx, da_src
    const int64_t ahead = prefetch_distance(score.values.bytes);
    const DType dx_dtype = grads.wide_v ? kWide<A> : score.dtype;
    const RowOps<A>& dx_ops = row_ops<A>(dx_dtype, channels);
    const int64_t dx_bytes = width * dtype_bytes(dx_dtype);
    auto* dx = static_cast<char*>(grads.v);
    auto *da_edge = static_cast<A*>(grads.a_edge), *da_src = static_cast<A*>(grads.a_src);
    const auto* grad_alpha = static_cast<const A*>(saved.grad_alpha);
    advise_huge_pages(dx, g.num_src * dx_bytes);
    const Scratch<A> scratch(problem.threads, kPieceEdges, heads, 4);

    const auto partial = [&](int64_t source, int64_t begin, int64_t end, A* state, int worker) {
      A *acc = state, *sum = state + width;
      A *p = scratch.array(worker, 0), *gain = scratch.array(worker, 1);
      A *weight = scratch.array(worker, 2), *dot = scratch.array(worker, 3), *inverse = dot;
      const int64_t edges = end - begin;
      with_heads<A>(heads, [&](auto h_count) {
        const A* mine = score.a_src + source * h_count;
        for (int64_t k = 0; k < edges; ++k) {
          if (begin + k + ahead < g.num_edges) {
            prefetch_row(packed.get() + g.row[begin + k + ahead] * parts * h_count, parts * h_count * sizeof(A));
            if (decays) score.decay.prefetch(g.edge_id_t[begin + k + ahead]);
          }
          const TargetRow<A> target(packed.get(), g.row[begin + k], parts, h_count);
          const int64_t edge = score.a_edge || decays ? g.edge_id_t[begin + k] : 0;
          for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
            constexpr int W = decltype(lanes)::value;
            using V = Vec<A, W>;
            V t = load<W>(mine + h) + load<W>(target.a_dst + h);
            if (score.a_edge) t += load<W>(score.a_edge + edge * h_count + h);
            if (score.divisor) t /= load<W>(target.divisor + h);
            const V branch = score.branch(t);
            V s = t * branch, by_t = branch;
            if (decays) {
              const V mask = score.decay.template mask<W>(edge, h);
              s *= mask;
              if (!refined) by_t *= mask;  // else refine() does, and the branch has to be seen
            }
            store<W>(gain + k * h_count + h, by_t);
            store<W>(p + k * h_count + h, s - load<W>(target.maximum + h));
            store<W>(inverse + k * h_count + h, load<W>(target.inverse_sum + h));
          });
        }
      });
      fill_padding(p, edges, heads, A{0});
      exp_padded(p, padded<A>(edges, heads));
      multiply_array(p, inverse, padded<A>(edges, heads));  // the very p of the forward
      const A* weights = p;
      const uint8_t* kept = nullptr;
      if (dropout.active()) {
        kept = dropout.draw(begin, edges, worker);
        dropout.apply(kept, edges, p, weight);
        weights = weight;
      }

      memset(acc, 0, width * sizeof(A));
      const void* local = score.values[source];
      gather(grad_out, g.row, begin, edges, g.num_edges, [&](const void* const* row, int64_t k, int count) {
        grad_out.ops->add_dot[count - 1](acc, row, weights + k * heads, dot + k * heads, local, heads, channels);
      });
      if (grad_alpha) add_by_edge(grad_alpha, g.edge_id_t + begin, edges, heads, dot);
      if (kept) dropout.apply(kept, edges, dot, dot);

      with_heads<A>(heads, [&](auto h_count) {
        for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
          constexpr int W = decltype(lanes)::value;
          Vec<A, W> total{};
          for (int64_t e = 0; e < edges; ++e) {
            const TargetRow<A> target(packed.get(), g.row[begin + e], parts, h_count);
            const int64_t i = e * h_count + h;
            const Vec<A, W> share = load<W>(p + i), by_t = load<W>(gain + i);
            const Vec<A, W> ds = share * (load<W>(dot + i) - load<W>(target.d + h));
            if (refined) {
              store<W>(dot + i, ds);
              store<W>(signed_p.get() + begin * heads + i, by_t == splat<A, W>(1) ? share : -share);
              continue;
            }
            Vec<A, W> dt = ds * by_t;
            if (score.divisor) dt /= load<W>(target.divisor + h);
            total += dt;
            store<W>(dot + i, keeps_both ? ds : dt);
            if (keeps_both) store<W>(gain + i, dt);
          }
          store<W>(sum + h, total);
        });
      });
      if (terms.get()) memcpy(terms.get() + begin * heads, dot, edges * heads * sizeof(A));
      if (da_edge && !refined) scatter_edges(keeps_both ? gain : dot, g.edge_id_t + begin, edges, heads, da_edge);
    };

    const auto finish = [&](int64_t source, A* states, int64_t count, int worker) {
      A* one = scratch.array(worker, 0);
      for (int64_t h = 0; h < heads; ++h) one[h] = 1;
      add_states(states, count, state_size);
      dx_ops.write(dx + source * dx_bytes, states, one, nullptr, heads, channels);
      memcpy(da_src + source * heads, states + width, heads * sizeof(A));
    };
    for_each_row<A>(g.colptr, g.num_src, state_size, problem.threads, Step{partial, finish});
  }

  // Takes the error of D out of what source_pass has stored and finishes the sources' gradients.
  void refine() const {
    auto *da_edge = static_cast<A*>(grads.a_edge), *da_src = static_cast<A*>(grads.a_src);
    reduce_rows<A>(
        g.rowptr, g.num_dst, heads, problem.threads,
        [&](int64_t, int64_t begin, int64_t end, A* sum) {
          add_gathered(terms.get(), g.csr_to_csc, begin, end, g.num_edges, heads, sum);
        },
        [&](int64_t row, A* sum, const Caller&) {
          take_error(row, sum);
          memcpy(packed_row(row), sum, heads * sizeof(A));
        });
    reduce_rows<A>(
        g.colptr, g.num_src, heads, problem.threads,
        [&](int64_t, int64_t begin, int64_t end, A* sum) {
          for (int64_t m = begin; m < end; ++m) {
            const TargetRow<A> target(packed.get(), g.row[m], parts, heads);
            for (int64_t h = 0; h < heads; ++h) {
              const A p = signed_p[m * heads + h];
              const A ds = terms[m * heads + h] - (p < A{0} ? -p : p) * target.d_error[h];
              A dt = p < A{0} ? ds * score.slope : ds;
              if (score.decay) dt *= score.decay.template mask<1>(g.edge_id_t[m], h);
              if (score.divisor) dt /= target.divisor[h];
              terms[m * heads + h] = keeps_ds ? ds : dt;
              sum[h] += dt;
              if (da_edge) da_edge[g.edge_id_t[m] * heads + h] = dt;
            }
          }
        },
        [&](int64_t source, const A* sum, const Caller&) { memcpy(da_src + source * heads, sum, heads * sizeof(A)); });
  }

  // From the sum of the edges' ds to the error of D, which leaves the sink's.
  void take_error(int64_t row, A* sum) const {
    if (in.sink_logit == nullptr) return;
    A* ds = sink_ds.get() + row * heads;
    for (int64_t h = 0; h < heads; ++h) {
      sum[h] += ds[h];
      ds[h] -= sink.share(row, h) * sum[h];
    }
  }

  void target_sums() const {
    reduce_rows<A>(
        g.rowptr, g.num_dst, heads, problem.threads,
        [&](int64_t, int64_t begin, int64_t end, A* sum) {
          add_gathered(terms.get(), g.csr_to_csc, begin, end, g.num_edges, heads, sum);
        },
        [&](int64_t row, const A* sum, const Caller&) {
          memcpy(static_cast<A*>(grads.a_dst) + row * heads, sum, heads * sizeof(A));
        });
  }

  // Everything that is summed over a target's edges. The scores are taken anew, which is cheaper than to store them.
  void target_pass() const {
    enum { kDt, kDs, kMeanGain, kDsS, kMeanS, kDsHop, kMeanHop, kSums };
    const Scratch<A> scratch(problem.threads, kPieceEdges + kRowsAtOnce, heads, 4);
    const bool weighted = grads.divisor || grads.hop;
    const auto partial = [&](int64_t row, int64_t begin, int64_t end, A* sum, const Caller& caller) {
      A *u = scratch.array(caller, 0), *p = scratch.array(caller, 1);
      A *mask = scratch.array(caller, 2), *by_hop = scratch.array(caller, 3);
      const int64_t edges = end - begin;
      const Index slot = g.csr_to_csc + begin;
      score.arguments(row, begin, edges, u);
      if (score.decay) score.decay.compute(g.edge_id + begin, edges, g.num_edges - begin, mask, by_hop);
      if (weighted) {
        memcpy(p, u, edges * heads * sizeof(A));
        score.activate(edges, p);
        if (score.decay) multiply_array(p, mask, padded<A>(edges, heads));
        normalise(p, edges, heads, static_cast<const A*>(saved.row_stats) + row * 2 * heads);
      }
      with_heads<A>(heads, [&](auto h_count) {
        for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
          constexpr int W = decltype(lanes)::value;
          using V = Vec<A, W>;
          V total[kSums] = {};
          for (int64_t k = 0; k < edges; ++k) {
            if (begin + k + kScoresAhead < g.num_edges)
              __builtin_prefetch(terms.get() + slot[k + kScoresAhead] * h_count + h);
            const V ds = load<W>(terms.get() + slot[k] * h_count + h), t = load<W>(u + k * h_count + h);
            V gain = score.branch(t);
            if (score.decay) gain *= load<W>(mask + k * h_count + h);
            total[kDt] += ds * gain;
            total[kDs] += ds;
            if (!weighted) continue;
            const V share = load<W>(p + k * h_count + h), s = t * gain, mean = share * s;
            total[kMeanGain] += share * gain;
            total[kDsS] += ds * s;
            total[kMeanS] += mean;
            if (!score.decay) continue;
            const V hop = load<W>(by_hop + k * h_count + h);
            total[kDsHop] += ds * s * hop;
            total[kMeanHop] += mean * hop;
          }
          if (score.divisor) {
            const V divisor = load<W>(score.divisor + row * h_count + h);
            total[kDt] /= divisor;
            total[kMeanGain] /= divisor;
          }
          for (int i = 0; i < kSums; ++i) store<W>(sum + i * h_count + h, total[i]);
        });
      });
    };
    const auto end_row = [&](int64_t row, A* states, int64_t count, const Caller& caller) {
      add_states(states, count, kSums * heads);
      A *error = states + kDs * heads, *dhop = sums.of(caller);
      take_error(row, error);
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t at = row * heads + h;
        if (grads.a_dst)
          static_cast<A*>(grads.a_dst)[at] = states[kDt * heads + h] - error[h] * states[kMeanGain * heads + h];
        if (grads.sink_logit) static_cast<A*>(grads.sink_logit)[at] = sink_ds[at];
        if (grads.divisor)
          static_cast<A*>(grads.divisor)[at] =
              -(states[kDsS * heads + h] - error[h] * states[kMeanS * heads + h]) / score.divisor[at];
        dhop[h] += states[kDsHop * heads + h] - error[h] * states[kMeanHop * heads + h];
      }
    };
    for_each_row<A>(g.rowptr, g.num_dst, kSums * heads, problem.threads, Step{partial, end_row});
  }
};

}  // namespace gattn::cpu::GATTN_ISA

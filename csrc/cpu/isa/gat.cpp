// Score `gat` (Velickovic et al. 2018): t_ij = a_src[j] + a_dst[i] + a_edge[ij], LeakyReLU(t_ij / c_i), value x[j].
#include "../kernels.h"
#include "reductions.h"
#include "table.h"

namespace gattn::cpu::GATTN_ISA {

namespace {

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

  template <class V>
  V activate(V t) const {
    return t > V{} ? t : t * slope;
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
  void logits(int64_t row, int64_t slot, int64_t edges, A* t, const Caller&) const {
    arguments(row, slot, edges, t);
    leaky_relu_array(t, padded<A>(edges, heads), slope);
  }
};

template <class A>
Gat<A> make_score(const Problem& problem, const GatInputs& in) {
  return {adjacency(problem),
          Rows<A>(in.x, problem.dtype, problem.heads, problem.channels),
          static_cast<const A*>(in.a_src),
          static_cast<const A*>(in.a_dst),
          static_cast<const A*>(in.a_edge),
          static_cast<const A*>(in.divisor),
          static_cast<A>(in.negative_slope),
          problem.heads,
          static_cast<const A*>(in.bias),
          problem.dtype};
}

// What the source pass reads of a target, in one short row of 4 * heads numbers (for 4 fp32 heads a cache line), and
// heads more where scores are divided.
template <class A>
struct TargetRow {
  const A *a_dst, *maximum, *inverse_sum, *d, *divisor;
  const A* d_error;  // of half precision, found after the pass: takes the place of a_dst
  TargetRow(const A* rows, int64_t target, int64_t parts, int64_t heads)
      : a_dst(rows + target * parts * heads),
        maximum(a_dst + heads),
        inverse_sum(maximum + heads),
        d(inverse_sum + heads),
        divisor(d + heads),
        d_error(a_dst) {}
};
template <class A>
int64_t target_parts(const Gat<A>& score) {
  return score.divisor ? 5 : 4;
}

template <class Score>
void pack_targets(const Score& score, const SavedForBackward& saved, typename Score::A* packed, int threads) {
  using A = typename Score::A;
  const int64_t heads = score.heads, row_bytes = score.values.bytes, parts = target_parts(score);
  const auto *out = static_cast<const char*>(saved.out), *grad_out = static_cast<const char*>(saved.grad_out);
  const auto *row_stats = static_cast<const A*>(saved.row_stats), *alpha = static_cast<const A*>(saved.alpha);
  const auto* grad_alpha = static_cast<const A*>(saved.grad_alpha);
  reduce_rows<A>(
      score.g.rowptr, score.g.num_dst, heads, threads,
      [&](int64_t, int64_t begin, int64_t end, A* sum) {
        if (grad_alpha) add_attention_term(alpha, grad_alpha, score.g.edge_id, begin, end, heads, sum);
      },
      [&](int64_t row, const A* sum) {
        A *a_dst = packed + row * parts * heads, *stats = a_dst + heads, *d = stats + 2 * heads;
        for (int64_t h = 0; h < heads; ++h) {
          stats[h] = row_stats[row * 2 * heads + h];
          stats[heads + h] = A{1} / row_stats[(row * 2 + 1) * heads + h];
        }
        const auto* gradient = grad_out + row * row_bytes;
        score.values.ops->dot(d, gradient, out + row * row_bytes, heads, score.values.channels);
        if (score.bias) {  // D is about what attention gave, without the bias
          score.values.ops->dot_wide(a_dst, gradient, score.bias, heads, score.values.channels);
          for (int64_t h = 0; h < heads; ++h) d[h] -= a_dst[h];
        }
        for (int64_t h = 0; h < heads; ++h) {
          a_dst[h] = score.a_dst ? score.a_dst[row * heads + h] : A{0};
          d[h] += sum[h];
        }
        if (score.divisor) memcpy(d + heads, score.divisor + row * heads, heads * sizeof(A));
      });
}

// One pass over the transpose. With g_i = dL/dout_i, p = alpha before dropout and r the dropout factor:
//   dx_j = sum_i r p g_i,   dt_ij = p (r (g_i . x_j + dL/dalpha_ij) - D_i) LeakyReLU'(t_ij) / c_i,
//   da_src_j = sum_i dt_ij
// dt, which da_dst, da_edge and dc are made of, is the only thing of size E that is stored: [E, heads].
//
// In half precision D_i = g_i . out_i inherits the rounding of out, an error that is the same for a whole row and so
// does not average out. There the pass stores dt without LeakyReLU's slope and c, and p with the sign of t in signed_p;
// the terms of a row sum to the error of D (sum_j p = 1), and refine() finishes the gradients.
template <class Score>
void source_pass(const Score& score, const Rows<typename Score::A>& grad_out, const typename Score::A* grad_alpha,
                 const GatGradients& grads, const EdgeDropout<typename Score::A>& dropout,
                 const typename Score::A* packed, typename Score::A* dt, typename Score::A* signed_p, int threads) {
  using A = typename Score::A;
  const auto& g = score.g;
  const int64_t heads = score.heads, channels = score.values.channels, width = heads * channels;
  const int64_t state_size = width + heads;  // dx, da_src
  const int64_t row_bytes = score.values.bytes, ahead = prefetch_distance(row_bytes), parts = target_parts(score);
  const DType dx_dtype = grads.wide_x ? kWide<A> : score.dtype;
  const RowOps<A>& dx_ops = row_ops<A>(dx_dtype, channels);
  const int64_t dx_bytes = width * dtype_bytes(dx_dtype);
  auto* dx = static_cast<char*>(grads.x);
  auto *da_edge = static_cast<A*>(grads.a_edge), *da_src = static_cast<A*>(grads.a_src);
  advise_huge_pages(dx, g.num_src * dx_bytes);
  Scratch<A> scratch(threads, kPieceEdges, heads, 4);

  const auto partial = [&](int64_t source, int64_t begin, int64_t end, A* state, int worker) {
    A *acc = state, *sum = state + width;
    A *p = scratch.array(worker, 0), *slope = scratch.array(worker, 1);
    A *weight = scratch.array(worker, 2), *dot = scratch.array(worker, 3), *inverse = dot;
    const int64_t edges = end - begin;
    with_heads<A>(heads, [&](auto h_count) {
      const A* mine = score.a_src + source * h_count;
      for (int64_t k = 0; k < edges; ++k) {
        if (begin + k + ahead < g.num_edges)
          prefetch_row(packed + g.row[begin + k + ahead] * parts * h_count, parts * h_count * sizeof(A));
        const TargetRow<A> target(packed, g.row[begin + k], parts, h_count);
        const A* edge = score.a_edge ? score.a_edge + g.edge_id_t[begin + k] * h_count : nullptr;
        for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
          constexpr int W = decltype(lanes)::value;
          using V = Vec<A, W>;
          V t = load<W>(mine + h) + load<W>(target.a_dst + h);
          if (edge) t += load<W>(edge + h);
          if (score.divisor) t /= load<W>(target.divisor + h);
          store<W>(slope + k * h_count + h, t > V{} ? splat<A, W>(1) : splat<A, W>(score.slope));
          store<W>(p + k * h_count + h, score.activate(t) - load<W>(target.maximum + h));
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

    if (grad_alpha)
      for (int64_t e = 0; e < edges; ++e)
        for (int64_t h = 0; h < heads; ++h) dot[e * heads + h] += grad_alpha[g.edge_id_t[begin + e] * heads + h];
    if (kept) dropout.apply(kept, edges, dot, dot);
    with_heads<A>(heads, [&](auto h_count) {
      for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
        constexpr int W = decltype(lanes)::value;
        Vec<A, W> total{};
        for (int64_t e = 0; e < edges; ++e) {
          const TargetRow<A> target(packed, g.row[begin + e], parts, h_count);
          const int64_t i = e * h_count + h;
          const Vec<A, W> weight_p = load<W>(p + i), branch = load<W>(slope + i);
          Vec<A, W> gradient = weight_p * (load<W>(dot + i) - load<W>(target.d + h));
          if (signed_p) {
            store<W>(signed_p + begin * heads + i, branch == splat<A, W>(1) ? weight_p : -weight_p);
          } else {
            gradient = gradient * branch;
            if (score.divisor) gradient /= load<W>(target.divisor + h);
          }
          store<W>(dot + i, gradient);
          total += gradient;
        }
        store<W>(sum + h, total);
      });
    });
    if (dt) memcpy(dt + begin * heads, dot, edges * heads * sizeof(A));
    if (da_edge && !signed_p)
      for (int64_t e = 0; e < edges; ++e)
        memcpy(da_edge + g.edge_id_t[begin + e] * heads, dot + e * heads, heads * sizeof(A));
  };

  const auto finish = [&](int64_t source, A* states, int64_t count, int worker) {
    A* one = scratch.array(worker, 0);
    for (int64_t h = 0; h < heads; ++h) one[h] = 1;
    for (int64_t s = 1; s < count; ++s)
      for (int64_t i = 0; i < state_size; ++i) states[i] += states[s * state_stride<A>(state_size) + i];
    dx_ops.write(dx + source * dx_bytes, states, one, nullptr, heads, channels);
    memcpy(da_src + source * heads, states + width, heads * sizeof(A));
  };
  for_each_row<A>(g.colptr, g.num_src, state_size, threads, Step{partial, finish});
}

// Takes the error of D out of what source_pass stored: dt = (dt - p * error of D) * slope / c.
template <class Score>
void refine(const Score& score, const GatGradients& grads, typename Score::A* packed, typename Score::A* dt,
            const typename Score::A* signed_p, int threads) {
  using A = typename Score::A;
  const auto& g = score.g;
  const int64_t heads = score.heads, parts = target_parts(score);
  auto *da_edge = static_cast<A*>(grads.a_edge), *da_src = static_cast<A*>(grads.a_src);
  reduce_rows<A>(
      g.rowptr, g.num_dst, heads, threads,
      [&](int64_t, int64_t begin, int64_t end, A* sum) {
        add_gathered(dt, g.csr_to_csc, begin, end, g.num_edges, heads, sum);
      },
      [&](int64_t row, const A* sum) { memcpy(packed + row * parts * heads, sum, heads * sizeof(A)); });
  reduce_rows<A>(
      g.colptr, g.num_src, heads, threads,
      [&](int64_t, int64_t begin, int64_t end, A* sum) {
        for (int64_t m = begin; m < end; ++m) {
          const TargetRow<A> target(packed, g.row[m], parts, heads);
          for (int64_t h = 0; h < heads; ++h) {
            const A p = signed_p[m * heads + h];
            A& gradient = dt[m * heads + h];
            gradient = (gradient - (p < A{0} ? -p : p) * target.d_error[h]) * (p < A{0} ? score.slope : A{1});
            if (score.divisor) gradient /= target.divisor[h];
            sum[h] += gradient;
          }
          if (da_edge) memcpy(da_edge + g.edge_id_t[m] * heads, dt + m * heads, heads * sizeof(A));
        }
      },
      [&](int64_t source, const A* sum) { memcpy(da_src + source * heads, sum, heads * sizeof(A)); });
}

// da_dst_i = sum_j dt_ij.
template <class A>
void target_sums(const Gat<A>& score, const A* dt, A* da_dst, int threads) {
  const auto& g = score.g;
  const int64_t heads = score.heads;
  reduce_rows<A>(
      g.rowptr, g.num_dst, heads, threads,
      [&](int64_t, int64_t begin, int64_t end, A* sum) {
        add_gathered(dt, g.csr_to_csc, begin, end, g.num_edges, heads, sum);
      },
      [&](int64_t row, const A* sum) { memcpy(da_dst + row * heads, sum, heads * sizeof(A)); });
}

// The same (optional), and with s the scores after LeakyReLU and ds their gradients: dc_i = -sum_j ds_ij s_ij / c_i.
//
// The ds of a row sum to the error of D, of which each has the share p. That is taken out, for it does not average out
// in the sum above. Under a slope of 0 the ds of scores below 0 are not known, and neither is the error.
template <class A>
void divisor_sums(const Gat<A>& score, const A* dt, const A* row_stats, A* da_dst, A* dc, int threads) {
  const auto& g = score.g;
  const int64_t heads = score.heads;
  const bool known = score.slope != A{0};
  const A inverse_slope = known ? A{1} / score.slope : A{0};
  const Scratch<A> scratch(threads, kPieceEdges + kRowsAtOnce, heads, 2);
  const auto partial = [&](int64_t row, int64_t begin, int64_t end, A* sum, const Caller& caller) {
    A *u = scratch.array(caller, 0), *p = scratch.array(caller, 1);
    const int64_t edges = end - begin;
    score.arguments(row, begin, edges, u);
    memcpy(p, u, edges * heads * sizeof(A));
    leaky_relu_array(p, padded<A>(edges, heads), score.slope);
    normalise(p, edges, heads, row_stats + row * 2 * heads);
    with_heads<A>(heads, [&](auto h_count) {
      for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
        constexpr int W = decltype(lanes)::value;
        using V = Vec<A, W>;
        const V by = load<W>(score.divisor + row * h_count + h);
        V sum_t{}, products{}, sum_s{}, mean{};
        for (int64_t k = 0; k < edges; ++k) {
          if (begin + k + kScoresAhead < g.num_edges)
            __builtin_prefetch(dt + g.csr_to_csc[begin + k + kScoresAhead] * h_count + h);
          const V gradient = load<W>(dt + g.csr_to_csc[begin + k] * h_count + h), t = load<W>(u + k * h_count + h);
          const V ds = gradient * by * (t > V{} ? V{} + A{1} : V{} + inverse_slope), value = score.activate(t);
          sum_t += gradient;
          products += ds * value;
          sum_s += ds;
          mean += load<W>(p + k * h_count + h) * value;
        }
        store<W>(sum + h, sum_t);
        store<W>(sum + h_count + h, products);
        store<W>(sum + 2 * h_count + h, sum_s);
        store<W>(sum + 3 * h_count + h, mean);
      });
    });
  };
  const auto total = [&](int64_t row, A* sums, int64_t count, const Caller&) {
    add_states(sums, count, 4 * heads);
    if (da_dst) memcpy(da_dst + row * heads, sums, heads * sizeof(A));
    for (int64_t h = 0; h < heads; ++h) {
      const A error = known ? sums[2 * heads + h] * sums[3 * heads + h] : A{0};
      dc[row * heads + h] = -(sums[heads + h] - error) / score.divisor[row * heads + h];
    }
  };
  for_each_row<A>(g.rowptr, g.num_dst, 4 * heads, threads, Step{partial, total});
}

template <class A>
void run_backward(const Problem& problem, const GatInputs& in, const SavedForBackward& saved,
                  const GatGradients& grads) {
  const Gat<A> score = make_score<A>(problem, in);
  const auto& g = score.g;
  const int64_t heads = problem.heads;
  const EdgeDropout<A> dropout(problem, g.edge_id_t);
  const Rows<A> grad_out(saved.grad_out, problem.dtype, heads, problem.channels);
  const bool half = problem.dtype == DType::f16 || problem.dtype == DType::bf16;
  const int64_t scores = g.num_edges * heads;
  const bool by_target = grads.a_dst || grads.divisor;
  Buffer<A> packed(g.num_dst * target_parts(score) * heads), dt(by_target || half ? scores : 0),
      signed_p(half ? scores : 0);
  pack_targets(score, saved, packed.get(), problem.threads);
  source_pass(score, grad_out, static_cast<const A*>(saved.grad_alpha), grads, dropout, packed.get(), dt.get(),
              signed_p.get(), problem.threads);
  if (half) refine(score, grads, packed.get(), dt.get(), signed_p.get(), problem.threads);
  auto *da_dst = static_cast<A*>(grads.a_dst), *dc = static_cast<A*>(grads.divisor);
  if (dc)
    divisor_sums(score, dt.get(), static_cast<const A*>(saved.row_stats), da_dst, dc, problem.threads);
  else if (da_dst)
    target_sums(score, dt.get(), da_dst, problem.threads);
}

}  // namespace

void gat_forward(const Problem& problem, const GatInputs& in, const ForwardOutputs& outputs) {
  with_accumulator(problem, [&](auto zero) {
    using A = decltype(zero);
    const auto score = make_score<A>(problem, in);
    forward(score, score.g, EdgeDropout<A>(problem, score.g.edge_id), Ending<A>{score.bias}, outputs.out,
            static_cast<A*>(outputs.row_stats), static_cast<A*>(outputs.alpha), problem.threads);
  });
}

void gat_backward(const Problem& problem, const GatInputs& in, const SavedForBackward& saved,
                  const GatGradients& grads) {
  with_accumulator(problem, [&](auto zero) { run_backward<decltype(zero)>(problem, in, saved, grads); });
}

}  // namespace gattn::cpu::GATTN_ISA

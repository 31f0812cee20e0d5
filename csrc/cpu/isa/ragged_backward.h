// Backward of the all-pairs attention. With p the weights, r dropout's factors, g the gradient of out and s the scores:
//
//   D_i = sum_j p_ij r_ij g_i . v_j       ds_ij = p_ij (r_ij g_i . v_j - D_i)      dt_ij = ds_ij scale M_ij
//   dq_i = sum_j dt_ij k_j     dk_j = sum_i dt_ij q_i     dv_j = sum_i p_ij r_ij g_i
//   dhop = sum_ij ds_ij s_ij (-ln gamma) rho'(distance_ij - hop)
//
// D comes from its terms, so that nothing depends on how out was rounded.
#pragma once

#include "ragged.h"

namespace gattn::cpu::GATTN_ISA {

// Sums of ds * s over the pairs beyond a head's hop, and over the others.
struct HopSums {
  double beyond = 0, near = 0;

  template <class V>
  void add(V more_beyond, V more_near) {
    for (size_t l = 0; l < sizeof(V) / sizeof(more_near[0]); ++l) {
      beyond += static_cast<double>(more_beyond[l]);
      near += static_cast<double>(more_near[l]);
    }
  }
};

// In: scores before scale and decay, and g . v. Out: dt in the place of scores, p r in that of `weights`.
template <class A, class D>
void differentiate_rows(const Block<A, D> block, A* scores, A* weights, A* products, const A* maximum, const A* sum,
                        A kept_scale, HopSums* hop) {
  constexpr int W = kLanes<A>;
  using V = Floats<A>;
  const int64_t n = block.n, whole = n - n % W;
  const auto add = [](V a, V b) { return a + b; };
  for (int64_t first = 0; first < block.rows; first += W) {
    const int count = block.rows - first < W ? static_cast<int>(block.rows - first) : W;
    V lanes[W]{}, beyond[W]{}, near[W]{};
    A mean[W];
    for (int i = 0; i < count; ++i) {
      const int64_t query = first + i, begin = query * block.stride;
      const V shift = splat<A, W>(maximum[query]), share = splat<A, W>(A{1} / sum[query]);
      V total{};
      const auto weigh = [&](int64_t j, bool last) __attribute__((always_inline)) {
        V s = load<W>(scores + begin + j) * block.factor(block.distances(query, j));
        V by_weight = load<W>(products + begin + j);
        if (block.kept) by_weight = block.keep(by_weight * kept_scale, query, j);
        V p = exp_to_one<W>(s - shift) * share;
        if (last) {
          s = block.only_keys(s, j, 0);
          by_weight = block.only_keys(by_weight, j, 0);
          p = block.only_keys(p, j, 0);
        }
        store<W>(scores + begin + j, s);
        store<W>(weights + begin + j, p);
        store<W>(products + begin + j, by_weight);
        total += p * by_weight;
      };
      for (int64_t j = 0; j < whole; j += W) weigh(j, false);
      if (whole < n) weigh(whole, true);
      lanes[i] = total;
    }
    store<W>(mean, combine_lanes<A, W>(lanes, add));
    for (int i = 0; i < count; ++i) {
      const int64_t query = first + i, begin = query * block.stride;
      const V middle = splat<A, W>(mean[i]);
      V far_sum{}, near_sum{};
      for (int64_t j = 0; j < n; j += W) {
        const V p = load<W>(weights + begin + j), ds = p * (load<W>(products + begin + j) - middle);
        const Integers<A> far = block.distances(query, j);
        if constexpr (Block<A, D>::kDecays)
          if (hop) {
            const V by_excess = ds * load<W>(scores + begin + j);
            const Integers<A> is_beyond = block.decay.beyond_hop(far);
            far_sum += is_beyond ? by_excess : V{};
            near_sum += is_beyond ? V{} : by_excess;
          }
        store<W>(scores + begin + j, ds * block.factor(far));
        if (block.kept) store<W>(weights + begin + j, block.keep(p * kept_scale, query, j));
      }
      beyond[i] = far_sum;
      near[i] = near_sum;
    }
    if (hop) hop->add(combine_lanes<A, W>(beyond, add), combine_lanes<A, W>(near, add));
  }
}

template <class A>
class RaggedBackward {
 public:
  RaggedBackward(const RaggedProblem& problem, const RaggedSaved& saved, const RaggedGradients& gradients)
      : problem_(problem),
        gradients_(gradients),
        all_(problem),
        grad_out_(saved.grad_out, problem.dtype, all_.heads, all_.channels),
        stats_(static_cast<const A*>(saved.row_stats)),
        vectors_(all_.width / kLanes<A>),
        rooms_(problem, 2, 7, 3),
        sums_(problem.batch.sum_rows * 2 * all_.width),
        by_hop_(problem.batch.task_count * all_.heads) {}

  void run() const {
    const RaggedBatch& batch = problem_.batch;
    parallel_tasks(batch.task_count, problem_.threads, [&](int64_t task, int worker) {
      double* by_hop = by_hop_.get() + task * all_.heads;
      for (int64_t h = 0; h < all_.heads; ++h) by_hop[h] = 0;
      for_panels(batch, batch.tasks[task], [&](const Panel& panel) {
        all_.for_head_groups(panel, [&](int64_t head, int64_t heads) {
          const int64_t node = panel.node + panel.row_begin;
          copy_rows(all_.k, panel.node, panel.n, head, heads, rooms_.rows(worker, 0));
          copy_rows(all_.v, panel.node, panel.n, head, heads, rooms_.rows(worker, 1));
          copy_rows(all_.q, node, panel.rows, head, heads, rooms_.rows(worker, 2));
          copy_rows(grad_out_, node, panel.rows, head, heads, rooms_.rows(worker, 3));
          for (int64_t h = 0; h < heads; ++h) by_hop[head + h] += differentiate(panel, head, h, worker);
        });
      });
    });
    parallel_tasks(batch.total_count, problem_.threads,
                   [&](int64_t total, int worker) { add_up(batch.totals[total], worker); });
    if (gradients_.hop == nullptr) return;
    for (int64_t h = 0; h < all_.heads; ++h) {
      double sum = 0;
      for (int64_t task = 0; task < batch.task_count; ++task) sum += by_hop_[task * all_.heads + h];
      static_cast<A*>(gradients_.hop)[h] = static_cast<A>(sum);
    }
  }

 private:
  // The h-th of the heads from `first` on; returns its part of the gradient by hop.
  double differentiate(const Panel& panel, int64_t first, int64_t h, int worker) const {
    const int64_t n = panel.n, node = panel.node + panel.row_begin, heads = all_.heads, width = all_.width;
    const int64_t head = first + h;
    const A* const no_scale = nullptr;
    const uint8_t* kept = all_.draw(panel, head, rooms_.kept(worker));
    const HeadRows<A> keys = all_.rows_of(rooms_.rows(worker, 0), n, h);
    const HeadRows<A> values = all_.rows_of(rooms_.rows(worker, 1), n, h);
    const HeadRows<A> queries = all_.rows_of(rooms_.rows(worker, 2), panel.rows, h);
    const HeadRows<A> grads = all_.rows_of(rooms_.rows(worker, 3), panel.rows, h);
    const Vectors<A> key_columns = transpose_rows(keys.data, width, n, all_.channels, rooms_.transposed(worker, 0));
    const Vectors<A> value_columns = transpose_rows(values.data, width, n, all_.channels, rooms_.transposed(worker, 1));

    const bool whole = panel.sums < 0;
    A* const sums =
        whole ? nullptr : sums_.get() + (panel.sums + (head - panel.head_begin) * ragged_chunks(n) * n) * width;
    A* const dk = whole ? rooms_.rows(worker, 4) : sums;
    A* const dv = whole ? rooms_.rows(worker, 5) : sums + problem_.batch.sum_rows * width;

    A *scores = rooms_.block(worker, 0), *weights = rooms_.block(worker, 1), *products = rooms_.block(worker, 2);
    A *maximum = rooms_.by_query(worker, 0), *sum = rooms_.by_query(worker, 1);
    HopSums hop;
    all_.for_blocks(panel, head, kept, [&](const auto& block, int64_t row) {
      const int64_t stride = block.stride, rows = block.rows, columns = whole_vectors<A>(n) / kLanes<A>;
      const bool add = !panel.first || row > 0;
      for (int64_t i = 0; i < rows; ++i) {
        const A* mine = stats_ + (node + row + i) * 2 * heads + head;
        maximum[i] = mine[0];
        sum[i] = mine[heads];
      }
      multiply(queries.entries(row), key_columns, all_.channels, scores, stride, rows, columns, false);
      multiply(grads.entries(row), value_columns, all_.channels, products, stride, rows, columns, false);
      differentiate_rows(block, scores, weights, products, maximum, sum, all_.dropout.scale,
                         gradients_.hop ? &hop : nullptr);
      if (gradients_.q) {
        A* const dq = rooms_.rows(worker, 6);
        multiply(Entries<A, false>{scores, stride}, keys.vectors(), n, dq, width, rows, vectors_, false);
        write_head_rows(gradients_.q, all_.q, node + row, rows, head, dq, no_scale);
      }
      if (gradients_.k)
        multiply(Entries<A, true>{scores, stride}, queries.vectors(row), rows, dk, width, n, vectors_, add);
      if (gradients_.v)
        multiply(Entries<A, true>{weights, stride}, grads.vectors(row), rows, dv, width, n, vectors_, add);
    });
    if (whole && gradients_.k) write_head_rows(gradients_.k, all_.q, panel.node, n, head, dk, no_scale);
    if (whole && gradients_.v) write_head_rows(gradients_.v, all_.q, panel.node, n, head, dv, no_scale);
    return -::log(problem_.gamma) * (hop.beyond + problem_.slope * hop.near);
  }

  // The sums of a graph taken apart, chunk after chunk.
  void add_up(const RaggedTotal& total, int worker) const {
    const RaggedBatch& batch = problem_.batch;
    const int64_t node = batch.node[total.graph], n = batch.node[total.graph + 1] - node, width = all_.width;
    const int64_t numbers = (total.row_end - total.row_begin) * width;
    A* sum = rooms_.rows(worker, 0);
    void* const to[] = {gradients_.k, gradients_.v};
    for (int which = 0; which < 2; ++which) {
      if (to[which] == nullptr) continue;
      for (int64_t chunk = 0; chunk < ragged_chunks(n); ++chunk) {
        const int64_t first = total.sums + chunk * n + total.row_begin;
        const A* more = sums_.get() + (which * batch.sum_rows + first) * width;
        for (int64_t i = 0; i < numbers; i += kLanes<A>) {
          const Floats<A> theirs = load<kLanes<A>>(more + i);
          store<kLanes<A>>(sum + i, chunk == 0 ? theirs : load<kLanes<A>>(sum + i) + theirs);
        }
      }
      write_head_rows(to[which], all_.q, node + total.row_begin, total.row_end - total.row_begin, total.head, sum,
                      static_cast<const A*>(nullptr));
    }
  }

  const RaggedProblem& problem_;
  const RaggedGradients& gradients_;
  const Ragged<A> all_;
  const Rows<A> grad_out_;
  const A* stats_;
  int64_t vectors_;
  const Rooms<A> rooms_;
  const Buffer<A> sums_;
  const Buffer<double> by_hop_;
};

}  // namespace gattn::cpu::GATTN_ISA

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
};

// In: scores before scale and decay, and g . v. Out: dt in the place of scores, p r in that of `weights`.
template <class A, class D>
void differentiate_rows(const Block<A, D>& block, A* scores, A* weights, A* products, const A* maximum, const A* sum,
                        A kept_scale, HopSums* hop) {
  constexpr int W = kLanes<A>;
  using V = Floats<A>;
  const int64_t n = block.n, whole = n - n % W;
  for (int64_t i = 0; i < block.rows; ++i) {
    A *s_row = scores + i * block.stride, *p_row = weights + i * block.stride, *g_row = products + i * block.stride;
    const V shift = splat<A, W>(maximum[i]), share = splat<A, W>(A{1} / sum[i]);
    V total{}, beyond{}, near{};
    const auto weigh = [&](int64_t j, bool last) {
      V s = load<W>(s_row + j) * block.factor(block.distances(i, j)), by_weight = load<W>(g_row + j);
      if (block.kept) by_weight = block.keep(by_weight * kept_scale, i, j);
      V p = exp_vector<W>(s - shift) * share;
      if (last) {
        s = block.only_keys(s, j, 0);
        by_weight = block.only_keys(by_weight, j, 0);
        p = block.only_keys(p, j, 0);
      }
      store<W>(s_row + j, s);
      store<W>(p_row + j, p);
      store<W>(g_row + j, by_weight);
      total += p * by_weight;
    };
    for (int64_t j = 0; j < whole; j += W) weigh(j, false);
    if (whole < n) weigh(whole, true);
    const V mean = splat<A, W>(sum_lanes<A, W>(total));
    for (int64_t j = 0; j < n; j += W) {
      const V p = load<W>(p_row + j), ds = p * (load<W>(g_row + j) - mean);
      const Integers<A> far = block.distances(i, j);
      if constexpr (Block<A, D>::kDecays)
        if (hop) {
          const V by_excess = ds * load<W>(s_row + j);
          const Integers<A> is_beyond = block.decay.beyond_hop(far);
          beyond += is_beyond ? by_excess : V{};
          near += is_beyond ? V{} : by_excess;
        }
      store<W>(s_row + j, ds * block.factor(far));
      if (block.kept) store<W>(p_row + j, block.keep(p * kept_scale, i, j));
    }
    if (hop) {
      hop->beyond += static_cast<double>(sum_lanes<A, W>(beyond));
      hop->near += static_cast<double>(sum_lanes<A, W>(near));
    }
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
        for (int64_t h = panel.head_begin; h < panel.head_end; ++h) by_hop[h] += head(panel, h, worker);
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
  // Where the gradient of some rows of one head is added up.
  struct Target {
    A* data;
    int64_t stride;
  };

  bool in_place() const { return gattn::cpu::GATTN_ISA::in_place(all_.q); }

  Target rows_of(void* gradient, int64_t node, int64_t head, A* room) const {
    if (!in_place()) return {room, all_.width};
    char* first = static_cast<char*>(gradient) + node * all_.q.bytes + head_offset(all_.q, head);
    return {reinterpret_cast<A*>(first), all_.q.width()};
  }
  void finish(void* gradient, const Panel& panel, int64_t node, int64_t count, int64_t head, const Target& from) const {
    if (in_place() || panel.sums >= 0) return;
    write_head_rows(gradient, all_.q, node, count, head, from.data, from.stride, static_cast<const A*>(nullptr));
  }

  // One head of a panel; returns its part of the gradient by hop.
  double head(const Panel& panel, int64_t h, int worker) const {
    const int64_t n = panel.n, node = panel.node + panel.row_begin, heads = all_.heads;
    const uint8_t* kept = all_.draw(panel, h, rooms_.kept(worker));
    const HeadRows<A> keys = head_rows(all_.k, panel.node, n, h, rooms_.rows(worker, 0));
    const HeadRows<A> values = head_rows(all_.v, panel.node, n, h, rooms_.rows(worker, 1));
    const HeadRows<A> queries = head_rows(all_.q, node, panel.rows, h, rooms_.rows(worker, 2));
    const HeadRows<A> grads = head_rows(grad_out_, node, panel.rows, h, rooms_.rows(worker, 3));
    const Vectors<A> key_columns =
        transpose_rows(keys.data, keys.stride, n, all_.channels, rooms_.transposed(worker, 0));
    const Vectors<A> value_columns =
        transpose_rows(values.data, values.stride, n, all_.channels, rooms_.transposed(worker, 1));

    Target dk, dv;
    if (panel.sums < 0) {
      dk = rows_of(gradients_.k, panel.node, h, rooms_.rows(worker, 4));
      dv = rows_of(gradients_.v, panel.node, h, rooms_.rows(worker, 5));
    } else {
      const int64_t first = panel.sums + (h - panel.head_begin) * ragged_chunks(n) * n;
      dk = {sums_.get() + first * 2 * all_.width, 2 * all_.width};
      dv = {dk.data + all_.width, 2 * all_.width};
    }

    A *scores = rooms_.block(worker, 0), *weights = rooms_.block(worker, 1), *products = rooms_.block(worker, 2);
    A *maximum = rooms_.by_query(worker, 0), *sum = rooms_.by_query(worker, 1);
    HopSums hop;
    all_.for_blocks(panel, h, kept, [&](const auto& block, int64_t row) {
      const int64_t stride = block.stride, rows = block.rows, columns = whole_vectors<A>(n) / kLanes<A>;
      const bool add = !panel.first || row > 0;
      for (int64_t i = 0; i < rows; ++i) {
        const A* mine = stats_ + (node + row + i) * 2 * heads + h;
        maximum[i] = mine[0];
        sum[i] = mine[heads];
      }
      multiply(queries.entries(row), key_columns, all_.channels, scores, stride, rows, columns, false);
      multiply(grads.entries(row), value_columns, all_.channels, products, stride, rows, columns, false);
      differentiate_rows(block, scores, weights, products, maximum, sum, all_.dropout.scale,
                         gradients_.hop ? &hop : nullptr);
      if (gradients_.q) {
        const Target dq = rows_of(gradients_.q, node + row, h, rooms_.rows(worker, 6));
        multiply(Entries<A>{scores, stride, 1}, keys.vectors(), n, dq.data, dq.stride, rows, vectors_, false);
        if (!in_place())
          write_head_rows(gradients_.q, all_.q, node + row, rows, h, dq.data, dq.stride,
                          static_cast<const A*>(nullptr));
      }
      if (gradients_.k)
        multiply(Entries<A>{scores, 1, stride}, queries.vectors(row), rows, dk.data, dk.stride, n, vectors_, add);
      if (gradients_.v)
        multiply(Entries<A>{weights, 1, stride}, grads.vectors(row), rows, dv.data, dv.stride, n, vectors_, add);
    });
    if (gradients_.k) finish(gradients_.k, panel, panel.node, n, h, dk);
    if (gradients_.v) finish(gradients_.v, panel, panel.node, n, h, dv);
    return -::log(problem_.gamma) * (hop.beyond + problem_.slope * hop.near);
  }

  // The sums of a graph taken apart, chunk after chunk.
  void add_up(const RaggedTotal& total, int worker) const {
    const RaggedBatch& batch = problem_.batch;
    const int64_t node = batch.node[total.graph], n = batch.node[total.graph + 1] - node;
    const int64_t rows = total.row_end - total.row_begin, chunks = ragged_chunks(n), width = all_.width;
    A* sum = rooms_.rows(worker, 0);
    void* const to[] = {gradients_.k, gradients_.v};
    for (int which = 0; which < 2; ++which) {
      if (to[which] == nullptr) continue;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const A* from = sums_.get() + ((total.sums + chunk * n + total.row_begin) * 2 + which) * width;
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t c = 0; c < width; c += kLanes<A>) {
            A* at = sum + i * width + c;
            const Floats<A> more = load<kLanes<A>>(from + i * 2 * width + c);
            store<kLanes<A>>(at, chunk == 0 ? more : load<kLanes<A>>(at) + more);
          }
      }
      write_head_rows(to[which], all_.q, node + total.row_begin, rows, total.head, sum, width,
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

// Sums over rows of edge quantities, [edges, heads] -> [rows, heads].
#pragma once

#include "row_loop.h"

namespace gattn::cpu::GATTN_ISA {

// The first of `count` states of `size` numbers becomes the sum of all.
template <class A>
inline void add_states(A* states, int64_t count, int64_t size) {
  for (int64_t s = 1; s < count; ++s)
    for (int64_t i = 0; i < size; ++i) states[i] += states[s * state_stride<A>(size) + i];
}

// add(row, begin, end, sum) adds the slots' terms to sum [heads]; finish(row, sum, caller) receives the total.
template <class A, class Add, class Finish>
void reduce_rows(const Index pointer, int64_t rows, int64_t heads, int threads, const Add& add, const Finish& finish) {
  const auto partial = [&](int64_t row, int64_t begin, int64_t end, A* sum, int) {
    for (int64_t h = 0; h < heads; ++h) sum[h] = 0;
    add(row, begin, end, sum);
  };
  const auto total = [&](int64_t row, A* sums, int64_t count, const Caller& caller) {
    add_states(sums, count, heads);
    finish(row, sums, caller);
  };
  for_each_row<A>(pointer, rows, heads, threads, Step{partial, total});
}

// sum[h] += sum over slots of term[index[slot], h]
template <class A>
inline void add_gathered(const A* term, const Index index, int64_t begin, int64_t end, int64_t all, int64_t heads,
                         A* sum) {
  constexpr int64_t ahead = 16;
  with_heads<A>(heads, [&](auto h_count) {
    for (int64_t k = begin; k < end; ++k) {
      if (k + ahead < all) __builtin_prefetch(term + index[k + ahead] * h_count);
      const A* theirs = term + index[k] * h_count;
      for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
        constexpr int W = decltype(lanes)::value;
        store<W>(sum + h, load<W>(sum + h) + load<W>(theirs + h));
      });
    }
  });
}

// sum[h] += sum over slots of alpha[e, h] * grad_alpha[e, h], e the slot's edge: what D_i gains where the attention
// weights themselves have a gradient.
template <class A>
inline void add_attention_term(const A* alpha, const A* grad_alpha, const Index edge_id, int64_t begin, int64_t end,
                               int64_t heads, A* sum) {
  for (int64_t k = begin; k < end; ++k) {
    const int64_t at = edge_id[k] * heads;
    for (int64_t h = 0; h < heads; ++h) sum[h] += alpha[at + h] * grad_alpha[at + h];
  }
}

// Sums over all rows, kept one a group of rows and added up in order.
template <class A>
struct GroupSums {
  int64_t groups, stride;
  Buffer<A> sums;
  GroupSums(int64_t groups_, int64_t size) : groups(groups_), stride(whole_lines<A>(size)), sums(groups_ * stride) {
    if (size > 0) memset(sums.get(), 0, groups * stride * sizeof(A));
  }
  A* of(const Caller& caller) const { return sums.get() + caller.group * stride; }
  void total(int64_t begin, int64_t count, void* result) const {
    if (result == nullptr) return;
    auto* to = static_cast<A*>(result);
    for (int64_t i = 0; i < count; ++i) {
      double sum = 0;
      for (int64_t group = 0; group < groups; ++group) sum += sums[group * stride + begin + i];
      to[i] = static_cast<A>(sum);
    }
  }
};

}  // namespace gattn::cpu::GATTN_ISA

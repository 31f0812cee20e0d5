// The one forward of every score: logits -> row maximum -> exp -> dropout -> aggregate.
//
// A score is a struct with
//   A                              accumulate type
//   heads
//   logits(row, slot, edges, t, caller)  writes the final scores of slots [slot, slot + edges) of a target row;
//                                        t has room for kRowsAtOnce edges more
//   reweight(slot, edges, p)             multiplies exp of the scores by the edges' own weights; false without any
//   values                               Rows: the feature rows edges carry (where there is an out)
//   add_values(acc, slot, edges, p)      acc += sum of p * value
#pragma once

#include "edge_dropout.h"
#include "row_driver.h"
#include "rows.h"

namespace gattn::cpu::GATTN_ISA {

// What only fetches has to say that it does something: GCC 12 takes a function that has no other effect for one that
// has none, and drops calls of it.
GATTN_INLINE void keep_this_call() { asm volatile(""); }

template <bool to_write = false>
inline void prefetch_row(const void* row, int64_t bytes) {
  const char* p = static_cast<const char*>(row);
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(p + at, to_write);
}

// How many edges ahead to fetch rows: about 4 KiB, enough to cover the latency of memory, few enough to stay in L1.
inline int64_t prefetch_distance(int64_t row_bytes) {
  const int64_t distance = 4096 / (row_bytes > 0 ? row_bytes : 1);
  return distance < kRowsAtOnce ? kRowsAtOnce : distance > 32 ? 32 : distance;
}

// Hands rows[other[slot]] for slots [begin, begin + edges) to function(row, k, count), at most kRowsAtOnce at a time,
// fetching ahead past the end of the piece, where the next row's slots lie. With all_edges = 0 nothing is fetched
// ahead: for rows that are in the caches.
template <class A, class Function>
inline void gather(const Rows<A>& rows, const Index other, int64_t begin, int64_t edges, int64_t all_edges,
                   const Function& function) {
  const int64_t ahead = prefetch_distance(rows.bytes);
  for (int64_t k = 0; k < edges; k += kRowsAtOnce) {
    const int count = edges - k < kRowsAtOnce ? static_cast<int>(edges - k) : kRowsAtOnce;
    const void* row[kRowsAtOnce];
    for (int u = 0; u < count; ++u) {
      const int64_t slot = begin + k + u;
      if (slot + ahead < all_edges) prefetch_row(rows[other[slot + ahead]], rows.bytes);
      row[u] = rows[other[slot]];
    }
    function(row, k, count);
  }
}

// acc += sum over slots [begin, begin + edges) of weight * rows[other[slot]]
template <class A>
inline void aggregate(A* acc, const Rows<A>& rows, const Index other, int64_t begin, int64_t edges, int64_t all_edges,
                      const A* weight) {
  const int64_t heads = rows.heads, channels = rows.channels;
  gather(rows, other, begin, edges, all_edges, [&](const void* const* row, int64_t k, int count) {
    rows.ops->add[count - 1](acc, row, weight + k * heads, heads, channels);
  });
}

constexpr int64_t kScoresAhead = 32;  // edges; a source's scores are one short read, mostly from the outer caches

// t[k, h] = a_src[source] + a_dst[row] + a_edge[edge] for the slots of a piece; each part is optional.
template <class A>
inline void node_logits(const Adjacency& g, int64_t heads, const A* a_src, const A* a_dst, const A* a_edge, int64_t row,
                        int64_t slot, int64_t edges, A* t) {
  with_heads<A>(heads, [&](auto h_count) {
    for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
      constexpr int W = decltype(lanes)::value;
      Vec<A, W> mine{};
      if (a_dst) mine = load<W>(a_dst + row * h_count + h);
      const Index source = g.col + slot;
      if (a_src == nullptr)
        for (int64_t k = 0; k < edges; ++k) store<W>(t + k * h_count + h, mine);
      else
        for (int64_t k = 0; k < edges; ++k) {
          if (slot + k + kScoresAhead < g.num_edges) __builtin_prefetch(a_src + source[k + kScoresAhead] * h_count + h);
          store<W>(t + k * h_count + h, mine + load<W>(a_src + source[k] * h_count + h));
        }
      if (a_edge == nullptr) return;
      const Index edge = g.edge_id + slot;
      for (int64_t k = 0; k < edges; ++k) {
        A* at = t + k * h_count + h;
        store<W>(at, load<W>(at) + load<W>(a_edge + edge[k] * h_count + h));
      }
    });
  });
}

// t[k, h] /= by[h]
template <class A>
inline void divide_by_head(A* t, int64_t edges, int64_t heads, const A* by) {
  with_heads<A>(heads, [&](auto h_count) {
    for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
      constexpr int W = decltype(lanes)::value;
      const Vec<A, W> divisor = load<W>(by + h);
      for (int64_t k = 0; k < edges; ++k) {
        A* at = t + k * h_count + h;
        store<W>(at, load<W>(at) / divisor);
      }
    });
  });
}

template <class A>
struct Scratch {
  int64_t stride;
  Buffer<A> memory;
  Scratch(int threads, int64_t edges, int64_t heads, int64_t arrays)
      : stride(padded<A>(edges, heads)), memory(stride * arrays * threads), arrays_(arrays) {}
  A* array(int worker, int64_t index) const { return memory.get() + stride * (worker * arrays_ + index); }

 private:
  int64_t arrays_;
};

// Scores of a piece of a row become its attention weights, by the row's statistics.
template <class A>
inline void normalise(A* p, int64_t edges, int64_t heads, const A* row_stats) {
  with_heads<A>(heads, [&](auto h_count) {
    for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
      constexpr int W = decltype(lanes)::value;
      const Vec<A, W> maximum = load<W>(row_stats + h);
      for (int64_t k = 0; k < edges; ++k) store<W>(p + k * h_count + h, load<W>(p + k * h_count + h) - maximum);
    });
    fill_padding(p, edges, heads, A{0});
    exp_padded(p, padded<A>(edges, heads));
  });
  divide_by_head(p, edges, heads, row_stats + heads);
}

// What a row ends with, besides its edges; all optional.
template <class A>
struct Ending {
  const A* bias = nullptr;        // [heads, channels], added to out
  const A* sink_logit = nullptr;  // [num_dst, heads]: one more slot of the softmax
  const A* sink_value = nullptr;  // [heads, channels]: what it carries
  A epsilon = 0;                  // added to the sum of exp, before the maximum is taken out
  bool undropped = false;         // the attention written is the one before dropout
};

// Writes alpha in the caller's edge order.
template <class Score>
void write_attention(const Score& score, const Adjacency& g, const EdgeDropout<typename Score::A>& dropout,
                     bool undropped, const typename Score::A* row_stats, typename Score::A* alpha, int threads) {
  using A = typename Score::A;
  const int64_t heads = score.heads;
  const bool drop = dropout.active() && !undropped;
  Scratch<A> scratch(threads, kSegmentEdges + kRowsAtOnce, heads, 1);
  for_each_piece(g.rowptr, g.num_dst, threads, [&](int64_t row, int64_t begin, int64_t end, int worker) {
    const int64_t edges = end - begin;
    A* p = scratch.array(worker, 0);
    score.logits(row, begin, edges, p, Caller{worker, kNoGroup});
    normalise(p, edges, heads, row_stats + row * 2 * heads);
    score.reweight(begin, edges, p);
    if (drop) {
      const uint8_t* kept = dropout.draw(begin, edges, worker);
      dropout.apply(kept, edges, p, p);
    }
    for (int64_t k = 0; k < edges; ++k) memcpy(alpha + g.edge_id[begin + k] * heads, p + k * heads, heads * sizeof(A));
  });
}

// Takes the sink and epsilon into a finished row. A sink of logit -inf is none.
template <class A>
void end_row(const Ending<A>& ending, int64_t row, bool has_edges, int64_t heads, int64_t channels, A* maximum, A* sum,
             A* acc) {
  for (int64_t h = 0; h < heads; ++h) {
    if (ending.sink_logit) {
      const A logit = ending.sink_logit[row * heads + h], top = logit > maximum[h] ? logit : maximum[h];
      const A factor = maximum[h] == kMinusInfinity<A> ? A{0} : exp_accurate(maximum[h] - top);
      const A share = logit == kMinusInfinity<A> ? A{0} : exp_accurate(logit - top);
      maximum[h] = top;
      sum[h] = sum[h] * factor + share;
      A* head = acc + h * channels;
      const A* value = ending.sink_value ? ending.sink_value + h * channels : nullptr;
      if (factor != A{1} || value)
        for_channels<A>(channels, [&](auto width, int64_t c) {
          constexpr int W = decltype(width)::value;
          const Vec<A, W> edges = load<W>(head + c) * factor;
          store<W>(head + c, value ? edges + share * load<W>(value + c) : edges);
        });
    }
    if (!has_edges && ending.sink_logit == nullptr) continue;
    if (maximum[h] == kMinusInfinity<A>) maximum[h] = 0;  // no edge weighs anything, nor does the sink
    if (ending.epsilon > A{0}) sum[h] += ending.epsilon * static_cast<A>(::exp(-maximum[h]));
    if (sum[h] == A{0} && !has_edges) sum[h] = 1;
  }
}

// out [num_dst, heads, channels] (where the score has values), row_stats [num_dst, 2, heads], alpha [edges, heads]
// (optional). A row without edges and sink gets the bias alone, and statistics of -inf and 0.
template <class Score>
void forward(const Score& score, const Adjacency& g, const EdgeDropout<typename Score::A>& dropout,
             const Ending<typename Score::A>& ending, void* out, typename Score::A* row_stats, typename Score::A* alpha,
             int threads) {
  using A = typename Score::A;
  const int64_t heads = score.heads;
  const bool has_values = out != nullptr;
  const int64_t channels = has_values ? score.values.channels : 0, out_bytes = has_values ? score.values.bytes : 0;
  advise_huge_pages(out, g.num_dst * out_bytes);
  if (alpha) advise_huge_pages(alpha, g.num_edges * heads * static_cast<int64_t>(sizeof(A)));
  const int64_t width = heads * channels, state_size = 2 * heads + width;  // maximum, sum, weighted sum of values
  Scratch<A> scratch(threads, kPieceEdges + kRowsAtOnce, heads, 2);

  const auto partial = [&](int64_t row, int64_t begin, int64_t end, A* state, Caller caller) {
    A *maximum = state, *sum = state + heads, *acc = state + 2 * heads;
    A* p = scratch.array(caller, 0);
    const int64_t edges = end - begin;
    score.logits(row, begin, edges, p, caller);
    with_heads<A>(heads, [&](auto h_count) { softmax_piece<A>(p, edges, h_count, maximum, sum); });
    if (score.reweight(begin, edges, p)) {
      for (int64_t h = 0; h < heads; ++h) sum[h] = 0;
      for (int64_t k = 0; k < edges; ++k)
        for (int64_t h = 0; h < heads; ++h) sum[h] += p[k * heads + h];
    }
    if (!has_values) return;
    if (dropout.active()) {
      const uint8_t* kept = dropout.draw(begin, edges, caller);
      dropout.apply(kept, edges, p, p);
    }
    memset(acc, 0, width * sizeof(A));
    score.add_values(acc, begin, edges, p);
  };

  const auto finish = [&](int64_t row, A* states, int64_t count, int worker) {
    const int64_t stride = state_stride<A>(state_size);
    A *maximum = states, *sum = states + heads, *acc = states + 2 * heads, *scale = scratch.array(worker, 1);
    if (count > 1) {
      for (int64_t h = 0; h < heads; ++h) {
        A top = kMinusInfinity<A>;
        for (int64_t s = 0; s < count; ++s) top = states[s * stride + h] > top ? states[s * stride + h] : top;
        A total = 0;
        for (int64_t s = 0; s < count; ++s) {
          A& m = states[s * stride + h];
          m = m == kMinusInfinity<A> ? A{0} : static_cast<A>(::exp(m - top));  // from here on the segment's factor
          total += states[s * stride + heads + h] * m;
        }
        for (int64_t c = h * channels; c < (h + 1) * channels; ++c) {
          A value = 0;
          for (int64_t s = 0; s < count; ++s) value += states[s * stride + 2 * heads + c] * states[s * stride + h];
          acc[c] = value;
        }
        maximum[h] = top;
        sum[h] = total;
      }
    }
    const bool has_edges = g.rowptr[row] < g.rowptr[row + 1], empty = !has_edges && ending.sink_logit == nullptr;
    if (ending.sink_logit || ending.epsilon > A{0}) end_row(ending, row, has_edges, heads, channels, maximum, sum, acc);
    with_heads<A>(heads, [&](auto h_count) {
      for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) {
        constexpr int W = decltype(lanes)::value;
        const Vec<A, W> total = load<W>(sum + h), zero{};
        store<W>(scale + h, empty ? zero : A{1} / total);
        A* stats = row_stats + row * 2 * heads + h;
        store<W>(stats, load<W>(maximum + h));
        store<W>(stats + heads, total);
      });
    });
    if (has_values)
      score.values.ops->write(static_cast<char*>(out) + row * out_bytes, acc, scale, ending.bias, heads, channels);
  };

  for_each_row<A>(g.rowptr, g.num_dst, state_size, threads, Step{partial, finish});
  if (alpha != nullptr) write_attention(score, g, dropout, ending.undropped, row_stats, alpha, threads);
}

}  // namespace gattn::cpu::GATTN_ISA

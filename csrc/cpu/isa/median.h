// Medians of as many rows at a time as a vector has lanes, a row a lane, of numbers that are not negative: by sorting
// networks, and where there is one by a search.
#pragma once

#include "median_search.h"
#include "networks.h"

namespace gattn::cpu::GATTN_ISA {

// Wires that are sorted without going through memory, and the widest row whose median comes out of a network.
constexpr int64_t kSortedWires = 32, kWidestNetwork = 256;

template <class A>
class Medians {
 public:
  static constexpr int W = kLanes<A>;
  using V = Vec<A, W>;

  explicit Medians(int64_t width) : width_(width), low_((width + 1) / 2), run_(4) {
    while (run_ < low_) run_ *= 2;
  }
  // Vectors of room that lower() needs, the rows' own numbers among them.
  int64_t room() const {
    if (searched()) return width_ + MedianSearch::room(width_);
    return width_ <= kWidestNetwork ? width_ + 2 * run_ : width_;
  }

  // The lower median of every lane of values [width]; what lies behind them is overwritten.
  V lower(A* values) const {
    if constexpr (kCanSearch)
      if (searched()) return MedianSearch(width_).lower(values);
    if (width_ > kWidestNetwork) return counted(values);
    switch (run_) {
      case 4:
        return sorted<4>(values);
      case 8:
        return sorted<8>(values);
      case 16:
        return sorted<16>(values);
      case 32:
        return sorted<32>(values);
      default:
        return merged(values);
    }
  }

 private:
  int64_t width_, low_, run_;  // low_: the median's rank from 1 on

  static constexpr bool kCanSearch = sizeof(A) == sizeof(float) && MedianSearch::kServes;
  bool searched() const { return kCanSearch && width_ > 2 * kSortedWires && width_ <= MedianSearch::kWidest; }

  static V beyond() { return splat<A, W>(static_cast<A>(__builtin_inf())); }
  // Wire i of the first half of the columns, filled up from below with what is less than all, and of the second, filled
  // up from above: then the median is the run_-th smallest of both together.
  V first_wire(const A* values, int64_t i) const {
    const int64_t column = i - (run_ - low_);
    return column >= 0 ? load<W>(values + column * W) : splat<A, W>(-1);
  }
  V second_wire(const A* values, int64_t i) const {
    return low_ + i < width_ ? load<W>(values + (low_ + i) * W) : beyond();
  }

  // Of two sorted runs of n the n smallest are min(a[i], b[n - 1 - i]); the last of these is wanted.
  template <int N>
  V sorted(A* values) const {
    V low[N];
#pragma GCC unroll 32
    for (int i = 0; i < N; ++i) low[i] = first_wire(values, i);
    sort_wires<0, N>(low);
    if constexpr (N == kSortedWires) {  // both runs are more than the registers hold
#pragma GCC unroll 32
      for (int i = 0; i < N; ++i) store<W>(values + (width_ + i) * W, low[i]);
    }
    V high[N];
#pragma GCC unroll 32
    for (int i = 0; i < N; ++i) high[i] = second_wire(values, i);
    sort_wires<0, N>(high);
#pragma GCC unroll 32
    for (int i = 0; i < N; ++i) {
      V other = N == kSortedWires ? load<W>(values + (width_ + i) * W) : low[i];
      put_in_order(high[N - 1 - i], other);
    }
    return largest<0, N>(high);
  }
  template <int I, int N>
  static V largest(V* wires) {
    if constexpr (N > 1) {
      largest<I, N / 2>(wires);
      largest<I + N / 2, N / 2>(wires);
      put_in_order(wires[I + N / 2], wires[I]);
    }
    return wires[I];
  }

  V merged(A* values) const {
    A *low = values + width_ * W, *high = low + run_ * W;
    for (int64_t i = 0; i < run_; ++i) {
      store<W>(low + i * W, first_wire(values, i));
      store<W>(high + i * W, second_wire(values, i));
    }
    sort_run(low);
    sort_run(high);
    V found = splat<A, W>(-1);
    for (int64_t i = 0; i < run_; ++i) {
      V a = load<W>(low + i * W), b = load<W>(high + (run_ - 1 - i) * W);
      put_in_order(a, b);
      put_in_order(a, found);
    }
    return found;
  }
  void sort_run(A* run) const {
    V wires[kSortedWires];
    for (int64_t first = 0; first < run_; first += kSortedWires) {
      load_wires(run + first * W, wires);
      sort_wires<0, kSortedWires>(wires);
      store_wires(run + first * W, wires);
    }
    for (int64_t n = 2 * kSortedWires; n <= run_; n *= 2)
      for (int64_t first = 0; first < run_; first += n) merge_run(run + first * W, n);
  }
  // Two sorted halves, one after the other, become one.
  static void merge_run(A* run, int64_t n) {
    for (int64_t i = 0; i < n / 2; ++i) order(run + i * W, run + (n - 1 - i) * W);
    for (int64_t size = n / 2; size > kSortedWires; size /= 2)
      for (int64_t first = 0; first < n; first += size)
        for (int64_t i = first; i < first + size / 2; ++i) order(run + i * W, run + (i + size / 2) * W);
    V wires[kSortedWires];
    for (int64_t first = 0; first < n; first += kSortedWires) {
      load_wires(run + first * W, wires);
      clean_wires<0, kSortedWires>(wires);
      store_wires(run + first * W, wires);
    }
  }
  static void order(A* low, A* high) {
    V a = load<W>(low), b = load<W>(high);
    put_in_order(a, b);
    store<W>(low, a);
    store<W>(high, b);
  }
  GATTN_INLINE static void load_wires(const A* from, V* wires) {
#pragma GCC unroll 32
    for (int i = 0; i < kSortedWires; ++i) wires[i] = load<W>(from + i * W);
  }
  GATTN_INLINE static void store_wires(A* to, const V* wires) {
#pragma GCC unroll 32
    for (int i = 0; i < kSortedWires; ++i) store<W>(to + i * W, wires[i]);
  }

  // Bits of numbers that are not negative rise with them: the median's, from the highest on. A bit is set where too few
  // numbers are below the one that has it set.
  V counted(const A* values) const {
    using Bits = Vec<Unsigned<A>, W>;
    using Signed = decltype(Bits{} < Bits{});
    const int64_t rank = (width_ - 1) / 2;
    Bits found{};
    for (int bit = 8 * static_cast<int>(sizeof(A)) - 2; bit >= 0; --bit) {
      const Bits candidate = found | (Unsigned<A>{1} << bit);
      Signed below{};  // minus their number
      for (int64_t c = 0; c < width_; ++c) below += (Signed)bit_cast<Bits>(load<W>(values + c * W)) < (Signed)candidate;
      found = -below <= (Signed{} + static_cast<int32_t>(rank)) ? candidate : found;
    }
    return bit_cast<V>(found);
  }
};

}  // namespace gattn::cpu::GATTN_ISA

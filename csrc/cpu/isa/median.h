// Medians of as many rows at a time as a vector has lanes, a row a lane, of numbers that are not negative: by sorting
// networks, and where there is one by a search.
#pragma once

#include "median_search.h"
#include "networks.h"

namespace gattn::cpu::GATTN_ISA {

// Wires that are sorted without going through memory, and the widest row whose median comes out of a network, of floats
// and of others.
constexpr int64_t kSortedWires = 32, kWidestOfFloats = 128, kWidestNetwork = 256;

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
    A* behind = values + width_ * W;
    const A* runs = values;
    if (width_ < 2 * run_) {
      fill_up(values, behind);
      runs = behind;
    }
    switch (run_) {
      case 4:
        return sorted<4>(runs);
      case 8:
        return sorted<8>(runs);
      case 16:
        return sorted<16>(runs);
      case 32:
        return sorted<32>(runs);
      default:
        return merged(runs, behind);
    }
  }

 private:
  int64_t width_, low_, run_;  // low_: the median's rank from 1 on

  static constexpr bool kCanSearch = sizeof(A) == sizeof(float) && MedianSearch::kServes;
  bool searched() const { return kCanSearch && width_ > kWidestOfFloats && width_ <= MedianSearch::kWidest; }

  // Two runs: the first half of the columns and what is less than all, the second and what is above all. The median is
  // the run_-th smallest of both together.
  void fill_up(const A* values, A* runs) const {
    const V below = splat<A, W>(-1), above = splat<A, W>(static_cast<A>(__builtin_inf()));
    const int64_t first = run_ - low_;
    for (int64_t i = 0; i < first; ++i) store<W>(runs + i * W, below);
    for (int64_t c = 0; c < width_; ++c) store<W>(runs + (first + c) * W, load<W>(values + c * W));
    for (int64_t i = first + width_; i < 2 * run_; ++i) store<W>(runs + i * W, above);
  }

  // Of two sorted runs of n the n smallest are min(a[i], b[n - 1 - i]); the last of these is wanted.
  template <int N>
  V sorted(const A* runs) const {
    V low[N], high[N];
    load_wires(runs, low);
    sort_wires<0, N>(low);
    load_wires(runs + N * W, high);
    sort_wires<0, N>(high);
#pragma GCC unroll 32
    for (int i = 0; i < N; ++i) put_in_order(high[N - 1 - i], low[i]);
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

  V merged(const A* runs, A* behind) const {
    sort_run(runs, behind);
    sort_run(runs + run_ * W, behind + run_ * W);
    V found = splat<A, W>(-1);
    for (int64_t i = 0; i < run_; ++i) {
      V a = load<W>(behind + i * W), b = load<W>(behind + (2 * run_ - 1 - i) * W);
      put_in_order(a, b);
      put_in_order(a, found);
    }
    return found;
  }
  void sort_run(const A* from, A* run) const {
    for (int64_t first = 0; first < run_; first += kSortedWires) {
      V wires[kSortedWires];
      load_wires(from + first * W, wires);
      sort_wires<0, kSortedWires>(wires);
      store_wires(wires, run + first * W);
    }
    for (int64_t n = 2 * kSortedWires; n <= run_; n *= 2)
      for (int64_t first = 0; first < run_; first += n) merge_run(run + first * W, n);
  }
  // Two sorted halves, one after the other, become one: two steps together, then one after the other down to so few
  // wires as stay in registers.
  static void merge_run(A* run, int64_t n) {
    constexpr int kKept = kSortedWires / 2;
    const int64_t quarter = n / 4;
    for (int64_t i = 0; i < quarter; ++i) {
      A *first = run + i * W, *last = run + (n - 1 - i) * W;
      V wires[4] = {load<W>(first), load<W>(first + quarter * W), load<W>(last - quarter * W), load<W>(last)};
      put_in_order(wires[0], wires[3]);
      put_in_order(wires[1], wires[2]);
      put_in_order(wires[0], wires[1]);
      put_in_order(wires[2], wires[3]);
      store<W>(first, wires[0]);
      store<W>(first + quarter * W, wires[1]);
      store<W>(last - quarter * W, wires[2]);
      store<W>(last, wires[3]);
    }
    for (int64_t size = quarter; size > kKept; size /= 2)
      for (int64_t part = 0; part < n; part += size)
        for (int64_t i = part; i < part + size / 2; ++i) order(run + i * W, run + (i + size / 2) * W);
    for (int64_t first = 0; first < n; first += kKept) {
      V wires[kKept];
      load_wires(run + first * W, wires);
      clean_wires<0, kKept>(wires);
      store_wires(wires, run + first * W);
    }
  }
  static void order(A* low, A* high) {
    V a = load<W>(low), b = load<W>(high);
    put_in_order(a, b);
    store<W>(low, a);
    store<W>(high, b);
  }
  template <size_t N>
  GATTN_INLINE static void load_wires(const A* from, V (&wires)[N]) {
#pragma GCC unroll 32
    for (size_t i = 0; i < N; ++i) wires[i] = load<W>(from + i * W);
  }
  template <size_t N>
  GATTN_INLINE static void store_wires(const V (&wires)[N], A* to) {
#pragma GCC unroll 32
    for (size_t i = 0; i < N; ++i) store<W>(to + i * W, wires[i]);
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

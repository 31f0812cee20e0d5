// The mask of exponential decay, gamma ** rho(distance - hop) with rho = LeakyReLU, and its derivative by hop.
#pragma once

#include "../buffer.h"
#include "../kernels.h"
#include "heads.h"

namespace gattn::cpu::GATTN_ISA {

// Distances are few and small, so every power is taken once and edges look theirs up; longer ones are computed.
template <class A>
class DecayMask {
 public:
  DecayMask(const AttentionInputs& in, int64_t heads, int64_t edges)
      : distance_(static_cast<const char*>(in.distance)),
        dtype_(in.distance_dtype),
        bytes_(dtype_bytes(in.distance_dtype)),
        heads_(heads),
        length_(in.distance == nullptr ? 0
                : edges < kLongest     ? edges
                                       : kLongest),
        hop_(static_cast<const A*>(in.hop)),
        log_gamma_(::log(in.gamma)),
        slope_(in.decay_slope),
        table_(length_ * 2 * heads) {
    for (int64_t far = 0; far < length_; ++far)
      for (int64_t h = 0; h < heads; ++h)
        power(far, h, &table_[2 * far * heads + h], &table_[(2 * far + 1) * heads + h]);
  }

  explicit operator bool() const { return distance_ != nullptr; }

  void prefetch(int64_t edge) const { __builtin_prefetch(distance_ + edge * bytes_); }

  // Of some heads: the mask, and its derivative by hop over itself.
  template <int W>
  void look_up(int64_t edge, int64_t h, Vec<A, W>* mask, Vec<A, W>* by_hop) const {
    const int64_t far = distance_of(edge);
    if (far >= 0 && far < length_) {
      const A* from = table_.get() + 2 * far * heads_ + h;
      *mask = load<W>(from);
      *by_hop = load<W>(from + heads_);
      return;
    }
    A powers[W], derivatives[W];
    for (int i = 0; i < W; ++i) power(far, h + i, powers + i, derivatives + i);
    *mask = load<W>(powers);
    *by_hop = load<W>(derivatives);
  }
  template <int W>
  Vec<A, W> mask(int64_t edge, int64_t h) const {
    Vec<A, W> found, by_hop;
    look_up<W>(edge, h, &found, &by_hop);
    return found;
  }

  // For the edges of some slots; edge_id goes on for `all` slots, whose distances are fetched ahead:
  // mask[k, h] and, where asked for, its derivative by hop over itself,
  void compute(const Index edge_id, int64_t edges, int64_t all, A* mask, A* by_hop) const {
    for_edges(edge_id, edges, all, [&](auto lanes, int64_t edge, int64_t h, int64_t at) {
      constexpr int W = decltype(lanes)::value;
      Vec<A, W> power, derivative;
      look_up<W>(edge, h, &power, &derivative);
      store<W>(mask + at, power);
      if (by_hop) store<W>(by_hop + at, derivative);
    });
  }
  // and values[k, h] *= mask.
  void multiply(const Index edge_id, int64_t edges, int64_t all, A* values) const {
    for_edges(edge_id, edges, all, [&](auto lanes, int64_t edge, int64_t h, int64_t at) {
      constexpr int W = decltype(lanes)::value;
      store<W>(values + at, load<W>(values + at) * this->template mask<W>(edge, h));
    });
  }

  static constexpr int64_t kAhead = 32;  // edges

 private:
  static constexpr int64_t kLongest = 512;

  int64_t distance_of(int64_t edge) const {
    const char* at = distance_ + edge * bytes_;
    switch (dtype_) {
      case DType::u8:
        return *reinterpret_cast<const uint8_t*>(at);
      case DType::i8:
        return *reinterpret_cast<const int8_t*>(at);
      case DType::i16:
        return *reinterpret_cast<const int16_t*>(at);
      case DType::i32:
        return *reinterpret_cast<const int32_t*>(at);
      default:
        return *reinterpret_cast<const int64_t*>(at);
    }
  }
  // Calls function(width, edge, h, k * heads + h) for vectors of heads that cover all.
  template <class Function>
  void for_edges(const Index edge_id, int64_t edges, int64_t all, const Function& function) const {
    with_heads<A>(heads_, [&](auto h_count) {
      for (int64_t k = 0; k < edges; ++k) {
        if (k + kAhead < all) prefetch(edge_id[k + kAhead]);
        const int64_t edge = edge_id[k];
        for_head_lanes<A>(h_count, [&](auto lanes, int64_t h) { function(lanes, edge, h, k * h_count + h); });
      }
    });
  }
  // In double: there are few of them, and each one's rounding would go into every edge at that distance.
  void power(int64_t far, int64_t h, A* mask, A* by_hop) const {
    const double excess = static_cast<double>(far) - hop_[h], rate = excess > 0.0 ? log_gamma_ : log_gamma_ * slope_;
    *mask = static_cast<A>(::exp(rate * excess));
    *by_hop = static_cast<A>(-rate);
  }

  const char* distance_;
  DType dtype_;
  int64_t bytes_, heads_, length_;
  const A* hop_;
  double log_gamma_, slope_;
  Buffer<A> table_;  // [length, 2, heads]
};

}  // namespace gattn::cpu::GATTN_ISA

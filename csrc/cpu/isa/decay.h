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
    for (int64_t far = 0; far < length_; ++far) power(far, &table_[2 * far * heads]);
  }

  explicit operator bool() const { return distance_ != nullptr; }

  void prefetch(int64_t edge) const { __builtin_prefetch(distance_ + edge * bytes_); }

  // An edge's mask [heads] and, after it, its derivative by hop over itself [heads]: in the table, or in `room`.
  const A* at(int64_t edge, A* room) const {
    const int64_t far = distance_of(edge);
    if (far >= 0 && far < length_) return table_.get() + 2 * far * heads_;
    power(far, room);
    return room;
  }

  // mask[k, h] and, where asked for, its derivative by hop over itself, for the edges of some slots; edge_id goes on
  // for `all` slots, whose distances are fetched ahead. `room` as above.
  void compute(const Index edge_id, int64_t edges, int64_t all, A* mask, A* by_hop, A* room) const {
    with_heads<A>(heads_, [&](auto h_count) {
      for (int64_t k = 0; k < edges; ++k) {
        if (k + kAhead < all) prefetch(edge_id[k + kAhead]);
        const A* from = at(edge_id[k], room);
        memcpy(mask + k * h_count, from, h_count * sizeof(A));
        if (by_hop) memcpy(by_hop + k * h_count, from + h_count, h_count * sizeof(A));
      }
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
  // In double: there are few of them, and each one's rounding would go into every edge at that distance.
  void power(int64_t far, A* mask) const {
    for (int64_t h = 0; h < heads_; ++h) {
      const double excess = static_cast<double>(far) - hop_[h],
                   by_hop = excess > 0.0 ? log_gamma_ : log_gamma_ * slope_;
      mask[h] = static_cast<A>(::exp(by_hop * excess));
      mask[heads_ + h] = static_cast<A>(-by_hop);
    }
  }

  const char* distance_;
  DType dtype_;
  int64_t bytes_, heads_, length_;
  const A* hop_;
  double log_gamma_, slope_;
  Buffer<A> table_;  // [length, 2, heads]
};

}  // namespace gattn::cpu::GATTN_ISA

// Which weights dropout keeps, by the edges' ids alone: see common/philox.h.
#pragma once

#include "../../common/graph_layout.h"
#include "../../common/philox.h"
#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

#if defined(__AVX2__)
constexpr int kPhiloxEdges = kVectorBytes / 8;

using PhiloxLanes = Vec<uint64_t, kPhiloxEdges>;

// word[w]: the w-th words of philox(seed, edge, head_group), an edge in each 64-bit lane, above 32 bits that mean
// nothing: the product of low halves ignores what the exclusive-ors leave in the high ones.
inline void philox_lanes(uint64_t seed, PhiloxLanes edge, uint32_t head_group, PhiloxLanes (&word)[4]) {
  using V = PhiloxLanes;
  const auto multiply = [](V a, uint32_t b) {
#if defined(__AVX512F__)
    return (V)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, _mm512_set1_epi64(b));  // the plain one warns in GCC 12
#else
    return (V)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
#endif
  };
  V c0 = edge, c1 = edge >> 32, c2 = V{} + head_group, c3{};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const V p0 = multiply(c0, 0xD2511F53u), p1 = multiply(c2, 0xCD9E8D57u);
    c0 = (p1 >> 32) ^ c1 ^ (V{} + k0);
    c1 = p1;
    c2 = (p0 >> 32) ^ c3 ^ (V{} + k1);
    c3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  word[0] = c0;
  word[1] = c1;
  word[2] = c2;
  word[3] = c3;
}
#else
constexpr int kPhiloxEdges = 1;
#endif

namespace {  // as Index is

// The ids of edges: consecutive ones, or a list's.
struct EdgeRange {
  uint64_t first;
  uint64_t operator[](int64_t k) const { return first + static_cast<uint64_t>(k); }
#if defined(__AVX2__)
  PhiloxLanes lanes(int64_t k, int) const {
    PhiloxLanes lane{};
    for (int l = 0; l < kPhiloxEdges; ++l) lane[l] = l;
    return lane + (*this)[k];
  }
#endif
};
struct EdgeList {
  Index id;
  uint64_t operator[](int64_t k) const { return static_cast<uint64_t>(id[k]); }
#if defined(__AVX2__)
  // The lanes from `count` on hold anything.
  PhiloxLanes lanes(int64_t k, int count) const {
    PhiloxLanes lane{};
    if (count == kPhiloxEdges && !id.wide) {
      Vec<uint32_t, kPhiloxEdges> narrow;
      memcpy(&narrow, static_cast<const int32_t*>(id.data) + k, sizeof(narrow));
      lane = __builtin_convertvector(narrow, PhiloxLanes);
    } else {
      for (int l = 0; l < count; ++l) lane[l] = (*this)[k + l];
    }
    return lane;
  }
#endif
};

}  // namespace

// Inverted dropout: kept weights grow by 1 / (1 - p).
template <class A>
struct Dropout {
  uint64_t seed, threshold;
  A scale;

  Dropout(double p, uint64_t seed_) : seed(seed_), threshold(dropout_threshold(p)), scale(0) {
    if (p < 1.0) scale = static_cast<A>(1.0 / (1.0 - p));
  }
  bool active() const { return threshold != 0; }

  // Bit b of kept[k]: whether the weight of edge k and head 4 * head_group + b is kept. Writes whole vectors.
  template <class Edges>
  void draw(const Edges& edge, int64_t edges, uint32_t head_group, uint8_t* kept) const {
#if defined(__AVX2__)
    using V = PhiloxLanes;
    const V low = V{} + 0xFFFFFFFFu, least = V{} + threshold;
    for (int64_t k = 0; k < edges; k += kPhiloxEdges) {
      const int count = edges - k < kPhiloxEdges ? static_cast<int>(edges - k) : kPhiloxEdges;
      V word[4], bits{};
      philox_lanes(seed, edge.lanes(k, count), head_group, word);
      for (int b = 0; b < 4; ++b) bits |= (V)((word[b] & low) >= least) & (V{} + (1u << b));
      const auto bytes = __builtin_convertvector(bits, Vec<uint8_t, kPhiloxEdges>);
      memcpy(kept + k, &bytes, sizeof(bytes));
    }
#else
    for (int64_t k = 0; k < edges; ++k) {
      const PhiloxWords words = philox(seed, edge[k], head_group);
      kept[k] = 0;
      for (int b = 0; b < 4; ++b) kept[k] |= static_cast<uint8_t>((words.word[b] >= threshold) << b);
    }
#endif
  }
};

}  // namespace gattn::cpu::GATTN_ISA

// Dropout's factors, by the edges' ids alone: see common/philox.h.
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

// words[k] = philox(seed, edge[k], head_group)
inline void philox_edges(uint64_t seed, const uint64_t* edge, uint32_t head_group, PhiloxWords* words) {
  PhiloxLanes ids, word[4];
  memcpy(&ids, edge, sizeof(ids));
  philox_lanes(seed, ids, head_group, word);
  const PhiloxLanes low = PhiloxLanes{} + 0xFFFFFFFFu;
  const PhiloxLanes first = (word[0] & low) | (word[1] << 32), second = (word[2] & low) | (word[3] << 32);
  for (int k = 0; k < kPhiloxEdges; ++k) {
    const uint64_t halves[] = {first[k], second[k]};
    memcpy(words + k, halves, sizeof(halves));
  }
}
#else
constexpr int kPhiloxEdges = 1;
inline void philox_edges(uint64_t seed, const uint64_t* edge, uint32_t head_group, PhiloxWords* words) {
  *words = philox(seed, *edge, head_group);
}
#endif

// Inverted dropout: kept weights grow by 1 / (1 - p).
template <class A>
struct Dropout {
  uint64_t seed, threshold;
  A scale;

  Dropout(double p, uint64_t seed_) : seed(seed_), threshold(dropout_threshold(p)), scale(0) {
    if (p < 1.0) scale = static_cast<A>(1.0 / (1.0 - p));
  }
  bool active() const { return threshold != 0; }

  // Bit b of kept[k]: whether the weight of edge first + k and head 4 * head_group + b is kept. Writes whole vectors.
  void keep_bits(uint64_t first, int64_t edges, uint32_t head_group, uint8_t* kept) const {
#if defined(__AVX2__)
    using V = PhiloxLanes;
    V lane{};
    for (int l = 0; l < kPhiloxEdges; ++l) lane[l] = l;
    const V low = V{} + 0xFFFFFFFFu, least = V{} + threshold;
    for (int64_t k = 0; k < edges; k += kPhiloxEdges) {
      V word[4], bits{};
      philox_lanes(seed, lane + (first + static_cast<uint64_t>(k)), head_group, word);
      for (int b = 0; b < 4; ++b) bits |= (V)((word[b] & low) >= least) & (V{} + (1u << b));
      const auto bytes = __builtin_convertvector(bits, Vec<uint8_t, kPhiloxEdges>);
      memcpy(kept + k, &bytes, sizeof(bytes));
    }
#else
    for (int64_t k = 0; k < edges; ++k) {
      const PhiloxWords words = philox(seed, first + static_cast<uint64_t>(k), head_group);
      kept[k] = 0;
      for (int b = 0; b < 4; ++b) kept[k] |= static_cast<uint8_t>((words.word[b] >= threshold) << b);
    }
#endif
  }

  // factor[k, h] = 0 or scale, by the edge's id.
  void factors(const Index edge_id, int64_t edges, int64_t heads, A* factor) const {
    const A either[] = {A{0}, scale};  // looked up: a branch would be mispredicted every other time
    for (int64_t begin = 0; begin < edges; begin += kPhiloxEdges) {
      const int count = edges - begin < kPhiloxEdges ? static_cast<int>(edges - begin) : kPhiloxEdges;
      uint64_t edge[kPhiloxEdges];
      for (int k = 0; k < kPhiloxEdges; ++k) edge[k] = static_cast<uint64_t>(edge_id[begin + (k < count ? k : 0)]);
      for (int64_t h = 0; h < heads; h += 4) {
        PhiloxWords words[kPhiloxEdges];
        philox_edges(seed, edge, static_cast<uint32_t>(h / 4), words);
        const int64_t last = heads - h < 4 ? heads - h : 4;
        for (int k = 0; k < count; ++k)
          for (int64_t i = 0; i < last; ++i)
            factor[(begin + k) * heads + h + i] = either[words[k].word[i] >= threshold];
      }
    }
  }
};

}  // namespace gattn::cpu::GATTN_ISA

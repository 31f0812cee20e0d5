// Distances of many pairs of nodes, bit-sliced: bit b of a word in plane p is bit p of the distance of pair b.
//
// Searches record a distance with a few ORs of words, and write the int16 once, in order, when all are known.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

namespace gattn::cpu {

// Internal linkage, as buffer.h has it, whose types the searches hold.
namespace {

constexpr int64_t kBits = 64;  // pairs a word

// A word whose lowest `count` bits are set, all of them from 64 on.
inline uint64_t ones(int64_t count) { return count >= kBits ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

typedef int16_t Lanes __attribute__((vector_size(16)));  // of GCC and Clang, for every machine

struct alignas(16) LaneArray {
  int16_t lane[8];
};

constexpr std::array<LaneArray, 256> spread_bits() {
  std::array<LaneArray, 256> table{};
  for (int byte = 0; byte < 256; ++byte)
    for (int bit = 0; bit < 8; ++bit) table[byte].lane[bit] = static_cast<int16_t>(byte >> bit & 1);
  return table;
}
constexpr std::array<LaneArray, 256> kSpreadBits = spread_bits();

// Lane j is bit `first + j` of the word.
inline Lanes spread(uint64_t word, int64_t first) {
  Lanes lanes;
  std::memcpy(&lanes, &kSpreadBits[word >> first & 0xFF], sizeof lanes);
  return lanes;
}

// Writes the distances of the first `count` pairs of a word; the planes' words are `stride` apart. Pairs in `missing`
// have no path, and zeros in all planes.
inline void unpack(const uint64_t* word, int num_planes, int64_t stride, uint64_t missing, int16_t unreachable,
                   int64_t count, int16_t* out) {
  const int16_t u = unreachable;
  for (int64_t first = 0; first < count; first += 8) {
    Lanes distance{};
    for (int p = num_planes - 1; p >= 0; --p) distance = distance + distance + spread(word[p * stride], first);
    if (missing != 0) distance |= -spread(missing, first) & Lanes{u, u, u, u, u, u, u, u};
    if (first + 8 <= count)
      std::memcpy(out + first, &distance, sizeof distance);
    else
      std::memcpy(out + first, &distance, sizeof(int16_t) * (count - first));
  }
}

}  // namespace
}  // namespace gattn::cpu

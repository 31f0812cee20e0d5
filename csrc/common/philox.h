// Philox4x32-10 (Salmon et al., SC 2011), the counter-based generator behind dropout on every backend.
//
// Counter: (edge id low, edge id high, head / 4, 0); key: (seed low, seed high); word head % 4 belongs to the head.
// A weight is dropped where its word is below dropout_threshold(p): the mask depends on nothing else.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace gattn {

struct PhiloxWords {
  uint32_t word[4];
};

GATTN_HOST_DEVICE static inline PhiloxWords philox(uint64_t seed, uint64_t edge, uint32_t head_group) {
  uint32_t c0 = static_cast<uint32_t>(edge), c1 = static_cast<uint32_t>(edge >> 32), c2 = head_group, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
    const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// p = 1 must drop every word, hence 64 bits: the threshold 2^32 does not fit in 32.
static inline uint64_t dropout_threshold(double p) { return static_cast<uint64_t>(p * 4294967296.0 + 0.5); }

}  // namespace gattn

// As much of CUB as csrc/cuda/sort.cu calls, in plain C++: see cuda_runtime.h beside it.
#pragma once

#include <cuda_runtime.h>

#include <numeric>
#include <vector>

namespace cub {

struct DeviceRadixSort {
  template <class Key, class Value, class Count>
  static cudaError_t SortPairs(void* scratch, size_t& bytes, const Key* keys, Key* sorted_keys, const Value* values,
                               Value* sorted_values, Count count, int begin_bit, int end_bit, cudaStream_t) {
    if (scratch == nullptr) {
      bytes = 1;
      return cudaSuccess;
    }
    std::vector<Count> order(count);
    std::iota(order.begin(), order.end(), Count{0});
    const Key mask = static_cast<Key>((Key{1} << end_bit) - 1) >> begin_bit << begin_bit;
    std::stable_sort(order.begin(), order.end(), [&](Count a, Count b) { return (keys[a] & mask) < (keys[b] & mask); });
    for (Count i = 0; i < count; ++i) sorted_keys[i] = keys[order[i]], sorted_values[i] = values[order[i]];
    return cudaSuccess;
  }
};

}  // namespace cub

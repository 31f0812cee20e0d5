// Stable sorts of integer keys on a GPU's stream, by CUB.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>

namespace gattn::cuda {

// Keys [count] of a type of four or eight bytes, and what moves with them, of the same type.
struct Sort {
  bool wide = false;  // int64, else int32
  int64_t count = 0;
  const void *keys = nullptr, *values = nullptr;
  void *sorted_keys = nullptr, *sorted_values = nullptr;
  int bits = 0;  // the lowest ones, which alone are compared
  cudaStream_t stream = nullptr;
  std::function<void*(int64_t bytes)> allocate;  // memory that lives until the sort has run
};

void stable_sort(const Sort& sort);

}  // namespace gattn::cuda

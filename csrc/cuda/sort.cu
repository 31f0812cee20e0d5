// Radix sort: each pass of some eight bits moves every key and value once, so bits that no key has are left out.
#include "sort.h"

#include <cub/device/device_radix_sort.cuh>

#include "common/errors.h"

namespace gattn::cuda {

namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess)
    raise<std::runtime_error>("CUB could not sort the edges on the GPU: ", cudaGetErrorString(error), ".");
}

// Unsigned keys: of a negative one, which no graph has, only the lowest bits count too.
template <class Key, class Value>
void sort_pairs(const Sort& sort) {
  const auto* keys = static_cast<const Key*>(sort.keys);
  const auto* values = static_cast<const Value*>(sort.values);
  auto* sorted_keys = static_cast<Key*>(sort.sorted_keys);
  auto* sorted_values = static_cast<Value*>(sort.sorted_values);
  const auto count = static_cast<Key>(sort.count);
  const auto run = [&](void* scratch, size_t& bytes) {
    check(cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, sorted_keys, values, sorted_values, count, 0, sort.bits,
                                          sort.stream));
  };
  size_t bytes = 0;
  run(nullptr, bytes);  // only says how much it needs
  run(sort.allocate(static_cast<int64_t>(bytes)), bytes);
}

}  // namespace

void stable_sort(const Sort& sort) {
  if (sort.count == 0) return;
  if (sort.wide)
    sort_pairs<uint64_t, int64_t>(sort);
  else
    sort_pairs<uint32_t, int32_t>(sort);
}

}  // namespace gattn::cuda

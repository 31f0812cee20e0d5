// A one-dimensional array that the core allocates and its caller takes over.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "../common/tensor.h"
#include "buffer.h"

namespace gattn::cpu {

struct OwnedArray {
  std::unique_ptr<void, void (*)(void*)> data{nullptr, nullptr};
  int64_t numel = 0;
  DType dtype = DType::i32;

  void allocate(int64_t count, DType type) {
    const int64_t bytes = count * dtype_bytes(type);
    void* block = nullptr;
    if (posix_memalign(&block, bytes >= kHugePage ? kHugePage : 64, static_cast<size_t>(bytes)) != 0)
      throw std::bad_alloc();
    advise_huge_pages(block, bytes);
    data = {block, std::free};
    numel = count;
    dtype = type;
  }
};

}  // namespace gattn::cpu

// Scratch memory whose first touch is cheap: large blocks ask the kernel for huge pages.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

namespace gattn::cpu {

// Internal linkage: a copy compiled for one instruction set must not serve the code of another.
namespace {

constexpr int64_t kHugePage = int64_t{1} << 21;
constexpr int64_t kCacheLine = 64;

// Room for `count` numbers that shares no cache line with what another thread writes.
template <class T>
constexpr int64_t whole_lines(int64_t count) {
  constexpr int64_t line = kCacheLine / sizeof(T);
  return (count + line - 1) / line * line;
}

// A hint only: a fresh 4 KiB page costs a fault of about 0.25 us, several times the write that causes it.
inline void advise_huge_pages(void* data, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  const auto begin = (reinterpret_cast<uintptr_t>(data) + kHugePage - 1) & ~static_cast<uintptr_t>(kHugePage - 1);
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) & ~static_cast<uintptr_t>(kHugePage - 1);
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    if (count <= 0) return;
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    const size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
    if (posix_memalign(&data_, alignment, static_cast<size_t>(bytes)) != 0) throw std::bad_alloc();
    if (bytes >= kHugePage) advise_huge_pages(data_, bytes);
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const { return static_cast<T*>(data_); }
  T& operator[](int64_t i) const { return get()[i]; }

 private:
  void* data_ = nullptr;
};

}  // namespace
}  // namespace gattn::cpu

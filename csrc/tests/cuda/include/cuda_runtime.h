// As much of CUDA as the kernels use, in plain C++, for tests on machines without a GPU. A launch runs its blocks in
// turn and a block's threads as fibres, each until it waits for others, in an order drawn anew at every step: what
// needs a barrier and has none gives wrong numbers, and sanitizers see every access. Found first on the include path
// of the test build, in place of the real header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <algorithm>
#include <cmath>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static  // blocks run in turn
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

using std::exp;
using std::max;
using std::min;

namespace gattn::emulation {

enum class Exchange { shuffle, vote, barrier };

// Waits for the lanes of `mask` to come to the same exchange; the result is then what lane `from` of them brought, of a
// vote all that they brought together, by `or`.
uint64_t exchange(unsigned mask, Exchange kind, uint64_t mine, unsigned from = 0);
void run(dim3 grid, dim3 block, const std::function<void()>& thread);

// Of the order of threads; the same seed gives the same order.
void set_seed(uint64_t seed);

// Thrown out of a launch whose threads wait for each other in vain.
struct Deadlock : std::exception {
  const char* what() const noexcept override { return "threads wait at barriers or exchanges that others never reach"; }
};

}  // namespace gattn::emulation

void __syncthreads();

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  gattn::emulation::exchange(mask, gattn::emulation::Exchange::barrier, 0);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const unsigned from = (threadIdx.x ^ static_cast<unsigned>(lane_mask)) % 32;
  bits = gattn::emulation::exchange(mask, gattn::emulation::Exchange::shuffle, bits, from);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline int __any_sync(unsigned mask, int predicate) {
  return gattn::emulation::exchange(mask, gattn::emulation::Exchange::vote, predicate != 0) != 0;
}

// The host's side: launches have run when they return.
using cudaStream_t = struct CUstream_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };
inline const char* cudaGetErrorString(cudaError_t) { return "invalid configuration argument"; }

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  void* attrs;
  unsigned numAttrs;
};

template <class... Formal, class... Actual>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Formal...), Actual&&... arguments) {
  const dim3 grid = config->gridDim, block = config->blockDim;
  if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || block.x == 0 || block.x > 1024)
    return cudaErrorInvalidConfiguration;
  gattn::emulation::run(grid, block, [&] { kernel(arguments...); });
  return cudaSuccess;
}

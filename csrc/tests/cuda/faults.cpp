#include "faults.h"

#include <cuda_runtime.h>

#include <vector>

namespace gattn {

#if defined(GATTN_SANITIZED)
const bool kSanitized = true;
#else
const bool kSanitized = false;
#endif

namespace {

constexpr int kThreads = 64;

__global__ void take_neighbours(const int* from, int* to, bool synchronise) {
  __shared__ int room[kThreads];
  room[threadIdx.x] = from[threadIdx.x];
  if (synchronise) __syncthreads();
  to[threadIdx.x] = room[(threadIdx.x + 1) % kThreads];
  __syncthreads();
  room[threadIdx.x] = -1;
}

__global__ void read(const int* from, int* to, int at) {
  if (threadIdx.x == 0) *to = from[at];
}

__global__ void wait_in_vain() {
  if (threadIdx.x % 2 == 0) __any_sync(0xffffffffu, 1);
}

cudaLaunchConfig_t one_block() {
  cudaLaunchConfig_t config{};
  config.gridDim = {1, 1, 1};
  config.blockDim = {kThreads, 1, 1};
  return config;
}

}  // namespace

bool neighbours_are_right(bool synchronise) {
  std::vector<int> from(kThreads), to(kThreads);
  for (int i = 0; i < kThreads; ++i) from[i] = i;
  const cudaLaunchConfig_t config = one_block();
  cudaLaunchKernelEx(&config, take_neighbours, from.data(), to.data(), synchronise);
  for (int i = 0; i < kThreads; ++i)
    if (to[i] != (i + 1) % kThreads) return false;
  return true;
}

int read_at(int at) {
  const std::vector<int> from(8);
  int to = 0;
  const cudaLaunchConfig_t config = one_block();
  cudaLaunchKernelEx(&config, read, from.data(), &to, at);
  return to;
}

void diverge() {
  const cudaLaunchConfig_t config = one_block();
  cudaLaunchKernelEx(&config, wait_in_vain);
}

}  // namespace gattn

// Sums and maxima over threads, in an order that depends on the layout alone.
#pragma once

#include "rows.cuh"

namespace gattn::cuda {

// Over the lanes of a head; every one of them gets it.
template <class W>
__device__ __forceinline__ W head_sum(W x, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

struct Sum {
  template <class W>
  __device__ W operator()(W a, W b) const {
    return a + b;
  }
};
struct Max {
  template <class W>
  __device__ W operator()(W a, W b) const {
    return a > b || a != a ? a : b;  // keeps NaN
  }
};
struct Min {
  template <class W>
  __device__ W operator()(W a, W b) const {
    return a < b ? a : b;
  }
};

// Over the slots of a warp, those `span` threads apart.
template <class Op, int N, class W>
__device__ __forceinline__ void combine_slots(W (&x)[N], int span, Op op) {
  for (int offset = span; offset < kWarp; offset *= 2) {
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = op(x[i], __shfl_xor_sync(0xffffffffu, x[i], offset));
  }
}

// Over the warps of a block, thread by thread. All the block's threads call it.
template <class Op, int N, class W>
__device__ void combine_warps(W (&x)[N], Op op) {
  __shared__ W room[kWarps][N][kWarp];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, thread = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int i = 0; i < N; ++i) room[warp][i][thread] = x[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; ++i) {
    W total = room[0][i][thread];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) total = op(total, room[w][i][thread]);
    x[i] = total;
  }
  __syncthreads();  // the room is used again
}

template <class Op, int N, class W>
__device__ __forceinline__ void combine_block(W (&x)[N], int span, Op op) {
  combine_slots(x, span, op);
  combine_warps(x, op);
}

// Over the threads that share a row; every one of them gets it.
template <class Op, int N, class W, int V, int M>
__device__ __forceinline__ void combine_row(W (&x)[N], const Row& row, const Place<V, M>& at, Op op) {
  if (row.block) combine_block(x, kWarp / at.slots, op);
}
template <class Op, class W, int V, int M>
__device__ __forceinline__ W combine_row(W x, const Row& row, const Place<V, M>& at, Op op) {
  W one[1] = {x};
  combine_row(one, row, at, op);
  return one[0];
}

}  // namespace gattn::cuda

// How numbers lie in memory and are computed with: features in the storage type, everything else in the wide one.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace gattn::cuda {

template <class T>
struct Wide {
  using type = float;
};
template <>
struct Wide<double> {
  using type = double;
};
template <class T>
using wide_t = typename Wide<T>::type;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

__device__ __forceinline__ void narrow(float x, float& to) { to = x; }
__device__ __forceinline__ void narrow(double x, double& to) { to = x; }
__device__ __forceinline__ void narrow(float x, __half& to) { to = __float2half_rn(x); }
__device__ __forceinline__ void narrow(float x, __nv_bfloat16& to) { to = __float2bfloat16_rn(x); }

// Channels that a thread moves at once, with one access of 16 bytes where they fill it.
template <class T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Pack {
  T x[V];
};

template <int V, class T>
__device__ __forceinline__ void load_pack(const T* from, wide_t<T>* to) {
  const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(from);
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = widen(pack.x[i]);
}

template <int V, class T>
__device__ __forceinline__ void store_pack(T* to, const wide_t<T>* from) {
  Pack<T, V> pack;
#pragma unroll
  for (int i = 0; i < V; ++i) narrow(from[i], pack.x[i]);
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// Asks for memory that is read soon; nothing waits for it.
__device__ __forceinline__ void prefetch([[maybe_unused]] const void* from) {
#ifdef __CUDA_ARCH__
  asm volatile("prefetch.global.L1 [%0];" ::"l"(from));
#endif
}

}  // namespace gattn::cuda

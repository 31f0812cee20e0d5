// Every instance of a score's kernels.
#pragma once

#include "forward.cuh"
#include "kernels.h"
#include "target_pass.cuh"

namespace gattn::cuda {

// Calls with the storage type and channels_of(width) as template arguments.
template <class T, class F>
auto with_width(Width width, const F& call) {
  constexpr int full = channels_of(Width::narrow, sizeof(T)).thread,
                broad = channels_of(Width::broad, sizeof(T)).thread;
  switch (width) {
    case Width::narrow:
      return call.template operator()<T, full, full>();
    case Width::broad:
      return call.template operator()<T, full, broad>();
    default:
      return call.template operator()<T, 1, 4>();
  }
}
template <class F>
auto with_types(DType dtype, Width width, const F& call) {
  switch (dtype) {
    case DType::f64:
      return with_width<double>(width, call);
    case DType::f16:
      return with_width<__half>(width, call);
    case DType::bf16:
      return with_width<__nv_bfloat16>(width, call);
    default:
      return with_width<float>(width, call);
  }
}

template <class S, class T, int V, int N>
Kernels kernels_of() {
  return {forward_kernel<S, T, V, N>, d_kernel<S, T, V, N>, source_kernel<S, T, V, N>, target_kernel<S, T, V, N>};
}

template <class S>
struct KernelsOf {
  template <class T, int V, int N>
  Kernels operator()() const {
    return kernels_of<S, T, V, N>();
  }
};

template <class S>
Kernels find_kernels(DType dtype, Width width) {
  return with_types(dtype, width, KernelsOf<S>());
}

}  // namespace gattn::cuda

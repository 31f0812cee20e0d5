// Score `gat` (Velickovic et al. 2018): LeakyReLU(a_src[j] + a_dst[i] + a_edge[ij]); value v[j].
#include "instances.cuh"

namespace gattn::cuda {

struct Gat : Score {
  static constexpr bool kLogits = true;

  template <class W>
  __device__ static W activate(W x, const Numbers<W>& n) {
    return leaky_relu(x, n.slope);
  }
  template <class W>
  __device__ static W through_activation(W dx, W x, const Numbers<W>& n) {
    return x > 0 ? dx : dx * n.slope;
  }
};

Kernels gat_kernels(DType dtype, Width width) { return find_kernels<Gat>(dtype, width); }

}  // namespace gattn::cuda

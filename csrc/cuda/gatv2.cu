// Score `gatv2` (Brody et al. 2022): att . LeakyReLU(k[j] + q[i] + edge[ij]); value k[j].
#include "instances.cuh"

namespace gattn::cuda {

struct Gatv2 : Score {
  static constexpr bool kProducts = true, kAtt = true, kKeysAreValues = true;

  template <class W>
  __device__ static W sum(const Channel<W>& c) {
    return c.k + c.q + c.e;
  }
  template <class W>
  __device__ static W term(const Channel<W>& c, const Numbers<W>& n) {
    return c.att * leaky_relu(sum(c), n.slope);
  }
  template <class W>
  __device__ static ByFeature<W> gradient(W dt, W, const Channel<W>& c, const Numbers<W>& n) {
    const W dz = (sum(c) > 0 ? c.att : c.att * n.slope) * dt;
    return {dz, dz, dz};
  }
  template <class W>
  __device__ static W att_gradient(W dt, const Channel<W>& c, const Numbers<W>& n) {
    return dt * leaky_relu(sum(c), n.slope);
  }
};

Kernels gatv2_kernels(DType dtype, Width width) { return find_kernels<Gatv2>(dtype, width); }

}  // namespace gattn::cuda

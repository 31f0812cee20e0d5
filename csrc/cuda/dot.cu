// Score `dot` (Shi et al. 2021): scale * q[i] . (k[j] + edge[ij]); value v[j] + edge[ij].
#include "instances.cuh"

namespace gattn::cuda {

struct Dot : Score {
  static constexpr bool kProducts = true, kEdgesAreValues = true;

  template <class W>
  __device__ static W term(const Channel<W>& c, const Numbers<W>& n) {
    return c.q * (c.k + c.e) * n.scale;
  }
  template <class W>
  __device__ static ByFeature<W> gradient(W dt, W, const Channel<W>& c, const Numbers<W>& n) {
    const W scaled = dt * n.scale, dk = scaled * c.q;
    return {scaled * (c.k + c.e), dk, dk};
  }
};

Kernels dot_kernels(DType dtype, Width width) { return find_kernels<Dot>(dtype, width); }

}  // namespace gattn::cuda

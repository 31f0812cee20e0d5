// Score `gt` (Dwivedi and Bresson 2021): the sum of w = scale * q[i] * k[j] * edge[ij], clipped; value v[j]; the edge
// stream is w.
#include "instances.cuh"

namespace gattn::cuda {

struct Gt : Score {
  static constexpr bool kProducts = true, kEdgeStream = true;

  template <class W>
  __device__ static W term(const Channel<W>& c, const Numbers<W>& n) {
    return c.q * c.k * n.scale * c.e;
  }
  template <class W>
  __device__ static ByFeature<W> gradient(W dt, W dw, const Channel<W>& c, const Numbers<W>& n) {
    const W d = (dt + dw) * n.scale;
    return {d * c.k * c.e, d * c.q * c.e, d * c.q * c.k};
  }
  template <class W>
  __device__ static W activate(W x, const Numbers<W>& n) {
    return x > n.clip ? n.clip : x < -n.clip ? -n.clip : x;  // keeps NaN
  }
  template <class W>
  __device__ static W through_activation(W dx, W x, const Numbers<W>& n) {
    return x > n.clip || x < -n.clip ? W(0) : dx;
  }
};

Kernels gt_kernels(DType dtype, Width width) { return find_kernels<Gt>(dtype, width); }

}  // namespace gattn::cuda

// Score `edge_softmax`: the caller's logits themselves, without values.
#include "instances.cuh"

namespace gattn::cuda {

struct EdgeSoftmax : Score {
  static constexpr bool kLogits = true;
  static constexpr bool kValues = false;
};

// Logits have the wide type and one number a head, whatever the width.
Kernels edge_softmax_kernels(DType dtype, Width) {
  return dtype == DType::f64 ? kernels_of<EdgeSoftmax, double, 1, 1>() : kernels_of<EdgeSoftmax, float, 1, 1>();
}

}  // namespace gattn::cuda

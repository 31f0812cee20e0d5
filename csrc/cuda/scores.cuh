// What a score is made of. A score's own file derives from Score, says what it takes and hides what differs.
#pragma once

#include "storage.cuh"

namespace gattn::cuda {

// One channel of an edge's features; 0 for those there are not.
template <class W>
struct Channel {
  W q, k, v, e, att;
};

template <class W>
struct Numbers {
  W slope, scale, clip;
};

// A gradient's parts by q, k and e.
template <class W>
struct ByFeature {
  W q, k, e;
};

struct Score {
  static constexpr bool kProducts = false;        // the score is a sum over channels of q, k and perhaps e
  static constexpr bool kAtt = false;             // and of att
  static constexpr bool kLogits = false;          // it is a sum of a_src, a_dst and a_edge
  static constexpr bool kValues = true;           // there are values
  static constexpr bool kKeysAreValues = false;   // they are the keys, else v
  static constexpr bool kEdgesAreValues = false;  // edge is added to them
  static constexpr bool kEdgeStream = false;      // the channels' parts of the score are a result

  template <class W>
  __device__ static W activate(W x, const Numbers<W>&) {
    return x;
  }
  // The gradient by the activation's argument, from the one by its value.
  template <class W>
  __device__ static W through_activation(W dx, W, const Numbers<W>&) {
    return dx;
  }
  template <class W>
  __device__ static W term(const Channel<W>&, const Numbers<W>&) {
    return 0;
  }
  // From the gradients of the score and of the edge stream.
  template <class W>
  __device__ static ByFeature<W> gradient(W, W, const Channel<W>&, const Numbers<W>&) {
    return {0, 0, 0};
  }
  template <class W>
  __device__ static W att_gradient(W, const Channel<W>&, const Numbers<W>&) {
    return 0;
  }
};

template <class W>
__device__ __forceinline__ W leaky_relu(W x, W slope) {
  return x > 0 ? x : x * slope;
}

}  // namespace gattn::cuda

// The gradients of the sink slot, which takes part in a row's softmax like an edge without dropout.
#pragma once

#include "row_loop.h"

namespace gattn::cpu::GATTN_ISA {

template <class A>
struct SinkGradients {
  const AttentionInputs& in;
  const AttentionSaved& saved;
  const AttentionGradients& grads;
  const Rows<A>& grad_out;

  // Its weight in a row's softmax.
  A share(int64_t row, int64_t h) const {
    const A* stats = static_cast<const A*>(saved.row_stats) + row * 2 * grad_out.heads + h;
    const A logit = static_cast<const A*>(in.sink_logit)[row * grad_out.heads + h];
    return exp_accurate(logit - stats[0]) / stats[grad_out.heads];
  }

  // Its weights, and its dalpha, the product of grad_out and the sink's value, [heads] each; by_value, the sum of the
  // value's gradient, gains the row's part.
  void weigh(int64_t row, A* weights, A* dalpha, A* by_value) const {
    const int64_t heads = grad_out.heads, channels = grad_out.channels;
    const bool has_values = in.sink_value && grad_out.data;
    for (int64_t h = 0; h < heads; ++h) {
      weights[h] = share(row, h);
      dalpha[h] = 0;
    }
    if (!has_values) return;
    const void* gradient = grad_out[row];
    grad_out.ops->dot_wide(dalpha, gradient, in.sink_value, heads, channels);
    if (grads.sink_value) grad_out.ops->add[0](by_value, &gradient, weights, heads, channels);
  }
};

}  // namespace gattn::cpu::GATTN_ISA

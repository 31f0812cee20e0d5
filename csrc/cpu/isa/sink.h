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

  // d [heads], the sum of p dalpha over a row's edges, gains the sink's part; by_value is the sum of the sink value's
  // gradient, room takes 2 * heads numbers.
  void end_row(int64_t row, A* d, A* by_value, A* room) const {
    if (in.sink_logit == nullptr) return;
    const int64_t heads = grad_out.heads, channels = grad_out.channels;
    const A* logit = static_cast<const A*>(in.sink_logit) + row * heads;
    const A* stats = static_cast<const A*>(saved.row_stats) + row * 2 * heads;
    A *share = room, *dalpha = room + heads;
    const bool has_values = in.sink_value && grad_out.data;
    const void* gradient = has_values ? grad_out[row] : nullptr;
    if (has_values) grad_out.ops->dot_wide(dalpha, gradient, in.sink_value, heads, channels);
    for (int64_t h = 0; h < heads; ++h) {
      share[h] = exp_accurate(logit[h] - stats[h]) / stats[heads + h];
      if (!has_values) dalpha[h] = 0;
      d[h] += share[h] * dalpha[h];
      if (grads.sink_logit) static_cast<A*>(grads.sink_logit)[row * heads + h] = share[h] * (dalpha[h] - d[h]);
    }
    if (has_values && grads.sink_value) grad_out.ops->add[0](by_value, &gradient, share, heads, channels);
  }
};

}  // namespace gattn::cpu::GATTN_ISA

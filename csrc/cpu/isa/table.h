// The entry points of one instruction set, and the switch from run-time to compile-time types.
#pragma once

#include "../kernels.h"
#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

void gat_forward(const Problem&, const GatInputs&, const ForwardOutputs&);
void gat_backward(const Problem&, const GatInputs&, const SavedForBackward&, const GatGradients&);
void gat_node_scores(const Problem&, const void* x, const GatParameters&, void* a_src, void* a_dst);
void gat_node_gradients(const Problem&, const void* x, const GatParameters&, const void* grad_out, const GatGradients&,
                        const GatLayerGradients&);
void attention_forward(const Problem&, const AttentionInputs&, const AttentionOutputs&);
void attention_backward(const Problem&, const AttentionInputs&, const AttentionSaved&, const AttentionGradients&);
void first_largest(const Problem&, const void* values, int64_t* first);
void gather_limit(const Problem&, const void* x, void* out);

// Accumulate and index types; the storage type only matters inside the row operations (rows.h).
template <class A_, class I_>
struct Types {
  using A = A_;
  using I = I_;
};

template <class Function>
inline void with_types(const Problem& problem, const Function& function) {
  const bool fp64 = problem.dtype == DType::f64;
  if (problem.wide)
    fp64 ? function(Types<double, int64_t>{}) : function(Types<float, int64_t>{});
  else
    fp64 ? function(Types<double, int32_t>{}) : function(Types<float, int32_t>{});
}

}  // namespace gattn::cpu::GATTN_ISA

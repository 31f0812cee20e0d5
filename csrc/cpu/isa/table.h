// The entry points of one instruction set, and the switch from run-time to compile-time types.
#pragma once

#include "../kernels.h"
#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

void gat_forward(const Problem&, const GatInputs&, const AttentionOutputs&);
void gat_backward(const Problem&, const GatInputs&, const GatSaved&, const GatGradients&);
void node_terms(const Problem&, int64_t nodes, const void* x, const NodeParameters&, const NodeTerms&);
void node_terms_backward(const Problem&, int64_t nodes, const void* x, const NodeParameters&, const NodeSaved&,
                         const NodeGradients&);
void gat_divisor(const Problem&, int64_t nodes, const DivisorInputs&, void* divisor);
void gat_divisor_backward(const Problem&, int64_t nodes, const DivisorInputs&, const void* grad_divisor,
                          const DivisorGradients&);
void attention_forward(const Problem&, const AttentionInputs&, const AttentionOutputs&, const ActivationTap&);
void attention_backward(const Problem&, const AttentionInputs&, const AttentionSaved&, const AttentionGradients&);
void first_largest(const Problem&, const void* values, int64_t* first);
void ragged_forward(const RaggedProblem&, const RaggedOutputs&);
void ragged_backward(const RaggedProblem&, const RaggedSaved&, const RaggedGradients&);
void activation_stats(const ActivationProblem&, const ActivationOutputs&);
void gather_limit(const Problem&, const void* x, void* out);

// Calls function with a zero of the type to accumulate in; the storage type only matters inside the row operations
// (rows.h).
template <class Function>
inline void with_accumulator(const Problem& problem, const Function& function) {
  problem.dtype == DType::f64 ? function(double{}) : function(float{});
}

}  // namespace gattn::cpu::GATTN_ISA

// The attention that all scores share, on a GPU's stream: allocations and launches, without a synchronisation.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>

#include "common/attention.h"

namespace gattn::cuda {

// One direction's degree groups, as gattn/groups.py's Side has them: offsets into the packed groups, then numbers of
// nodes that are exact or upper bounds.
struct Side {
  int64_t counts = 0, order = 0, chunk_ptr = 0, chunk_hub = 0;
  int64_t hubs = 0, chunks = 0, middle = 0, small = 0, chunk = 0;
};

// Everything a call has on the device; pointers of what it has not are null. Nothing here is read on the host.
struct Call {
  DType dtype = DType::f32;  // of features
  int64_t heads = 0, channels = 0;
  int64_t num_src = 0, num_dst = 0, num_edges = 0;
  const void *graph = nullptr, *groups = nullptr;  // packed; both int64 if `wide`, else int32
  bool wide = false;
  Side rows, columns;  // by target, by source
  AttentionInputs in;
  double dropout_p = 0;
  const int64_t* seed = nullptr;  // null without dropout
  cudaStream_t stream = nullptr;
  // Memory that lives until the launches have run, aligned to 16 bytes.
  std::function<void*(int64_t bytes)> allocate;
};

void attention_forward(const Call& call, const AttentionOutputs& results);
void attention_backward(const Call& call, const AttentionSaved& saved, const AttentionGradients& gradients);
// found [N_dst, H]: the source of each target's first in-edge with the largest of values [N_src, H], -1 without any.
void first_largest(const Call& call, const void* values, int64_t* found);

}  // namespace gattn::cuda

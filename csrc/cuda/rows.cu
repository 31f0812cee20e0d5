// Kernels that no score changes: merging chunks, weights, sums of parts, maxima of neighbourhoods.
#include "instances.cuh"

namespace gattn::cuda {

namespace {

constexpr int64_t kNone = INT64_MAX;

// found [nodes, width] of hubs from parts [chunks, width]; blockIdx.y and the block's threads are columns.
template <class T>
GATTN_KERNEL void sum_chunks_kernel(const Arguments a) {
  using W = wide_t<T>;
  const int64_t hub = blockIdx.x, column = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (hub >= a.walk.counts[0] || column >= a.count) return;
  const int64_t end = a.walk.chunk_ptr[hub + 1];
  W total = 0;
  for (int64_t chunk = a.walk.chunk_ptr[hub]; chunk < end; ++chunk)
    total += static_cast<const W*>(a.parts)[chunk * a.count + column];
  narrow(total, static_cast<T*>(a.sums)[a.walk.order[hub] * a.count + column]);
}

// found [width] from parts [blocks, width], in double: there are many parts. A warp has one column.
template <class W>
GATTN_KERNEL void sum_blocks_kernel(const Arguments a) {
  const int thread = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  double total = 0;
  if (column < a.count)
    for (int64_t block = thread; block < a.blocks; block += kWarp)
      total += static_cast<const W*>(a.parts)[block * a.count + column];
  total = head_sum(total, kWarp);
  if (thread == 0 && column < a.count) static_cast<W*>(a.sums)[column] = static_cast<W>(total);
}

// found [N_dst, H]: the source of each target's first edge with the largest value [N_src, H], -1 without edges.
template <class W>
GATTN_KERNEL void largest_kernel(const Arguments a) {
  const Place<1, 1> at(a);
  const Row row = find_row(a.walk, at, blockIdx.x);
  W largest = -static_cast<W>(INFINITY);
  int64_t first = kNone;
  for (int64_t slot = row.begin + row.slot; slot < row.end; slot += row.slots) {
    const int64_t source = a.walk.node[slot];
    const W value = load_head(a.parts, source, true, at, -static_cast<W>(INFINITY));
    if (value > largest || first == kNone) largest = value, first = slot;
  }
  const W best = combine_row(largest, row, at, Max());
  first = combine_row(largest == best ? first : kNone, row, at, Min());
  if (row.exists && row.slot == 0 && at.writes_heads())
    store_head(a.sums, row.node, at, first == kNone ? int64_t{-1} : a.walk.node[first]);
}

struct RowKernelsOf {
  template <class T, int V, int N>
  RowKernels operator()() const {
    return {merge_kernel<T, V, N>, d_of_out_kernel<T, V, N>};
  }
};

}  // namespace

RowKernels row_kernels(DType dtype, Width width) { return with_types(dtype, width, RowKernelsOf()); }

Kernel alpha_kernel_of(DType wide) { return wide == DType::f64 ? alpha_kernel<double> : alpha_kernel<float>; }

Kernel largest_kernel_of(DType wide) { return wide == DType::f64 ? largest_kernel<double> : largest_kernel<float>; }

Kernel sum_chunks_kernel_of(DType found) {
  return found == DType::f64   ? sum_chunks_kernel<double>
         : found == DType::f32 ? sum_chunks_kernel<float>
         : found == DType::f16 ? sum_chunks_kernel<__half>
                               : sum_chunks_kernel<__nv_bfloat16>;
}

Kernel sum_blocks_kernel_of(DType wide) {
  return wide == DType::f64 ? sum_blocks_kernel<double> : sum_blocks_kernel<float>;
}

}  // namespace gattn::cuda

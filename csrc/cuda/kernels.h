// The kernels that the host launches, found by score, storage type and width.
#pragma once

#include "arguments.h"

namespace gattn::cuda {

using Kernel = void (*)(const Arguments);

struct Kernels {
  Kernel forward, d, source, target;
};
struct RowKernels {  // those that no score changes
  Kernel merge, d_of_out;
};

// How many channels a thread has, and how many of them it moves at once.
//   narrow  one access of 16 bytes
//   broad   16 channels, 8 in double, by accesses of 16 bytes
//   odd     4 channels one by one: rows that are not made of 16 bytes
enum class Width { narrow, broad, odd };
struct Channels {
  int pack, thread;
};
constexpr Channels channels_of(Width width, int64_t bytes) {
  const int full = static_cast<int>(16 / bytes), broad = bytes == 8 ? 8 : 16;  // of more, registers spill
  return width == Width::narrow ? Channels{full, full} : width == Width::broad ? Channels{full, broad} : Channels{1, 4};
}

Kernels edge_softmax_kernels(DType dtype, Width width);
Kernels gat_kernels(DType dtype, Width width);
Kernels gatv2_kernels(DType dtype, Width width);
Kernels dot_kernels(DType dtype, Width width);
Kernels gt_kernels(DType dtype, Width width);
RowKernels row_kernels(DType dtype, Width width);

Kernel alpha_kernel_of(DType wide);
Kernel largest_kernel_of(DType wide);
// Second stages of sums: of a hub's chunks, rounded to the type its nodes' sums have; of blocks over all rows.
Kernel sum_chunks_kernel_of(DType found);
Kernel sum_blocks_kernel_of(DType wide);

}  // namespace gattn::cuda

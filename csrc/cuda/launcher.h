// What all launches of a call share.
#pragma once

#include <initializer_list>

#include "attention.h"
#include "common/errors.h"
#include "common/graph_layout.h"
#include "common/philox.h"
#include "kernels.h"

namespace gattn::cuda {

class Launcher {
 public:
  // `pointers`: features that the call's kernels move, beside the inputs.
  Launcher(const Call& call, std::initializer_list<const void*> pointers);

  const Call& call;
  const DType wide = accumulate_dtype(call.dtype);
  Width width = Width::odd;
  Kernels of_score{};

  // With the inputs, one side of the graph and the layout of features, or of one number a head.
  Arguments arguments(bool by_target) const;
  Arguments head_arguments(bool by_target) const;
  // Its arrays lie on the device.
  Adjacency graph() const;

  const Side& side(bool by_target) const { return by_target ? call.rows : call.columns; }
  // Blocks that a group's nodes take, and those that a number of rows of one slot each takes.
  int64_t blocks(const Arguments& a, bool by_target) const;
  static int64_t blocks_of(const Arguments& a, int64_t rows);

  void launch(Kernel kernel, int64_t blocks, const Arguments& a) const { launch(kernel, blocks, columns_of(a), a); }
  void launch(Kernel kernel, int64_t blocks, int64_t columns, const Arguments& a) const;

  // Memory for so many numbers of the wide type.
  void* empty(int64_t numbers) const { return call.allocate(numbers * dtype_bytes(wide)); }

 private:
  static int64_t columns_of(const Arguments& a) { return static_cast<int64_t>(a.layout.head_blocks) * a.layout.tiles; }
  bool fills_accesses(std::initializer_list<const void*> pointers) const;
};

}  // namespace gattn::cuda

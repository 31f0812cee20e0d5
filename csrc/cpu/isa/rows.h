// Operations on feature rows [heads, channels] of any storage type.
//
// The loops over a graph know rows only as addresses and call these through a table, so that they are compiled once
// per accumulate type and not once per storage type and vector width too: one call handles all heads of up to four
// rows, so its cost does not show.
#pragma once

#include "../../common/tensor.h"
#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

constexpr int kRowsAtOnce = 4;

// The storage type that is the accumulate type itself.
template <class A>
constexpr DType kWide = sizeof(A) == 8 ? DType::f64 : DType::f32;

// Weights and dots of several rows lie as [rows, heads]; add[u] and add_dot[u] take u + 1 rows.
template <class A>
struct RowOps {
  using Row = const void*;
  // acc[h, c] += sum_u weight[u, h] * row[u][h, c]
  void (*add[kRowsAtOnce])(A* acc, const Row* row, const A* weight, int64_t heads, int64_t channels);
  // the same, and dot[u, h] = <row[u][h], local[h]>
  void (*add_dot[kRowsAtOnce])(A* acc, const Row* row, const A* weight, A* dot, Row local, int64_t heads,
                               int64_t channels);
  // dot[h] = <a[h], b[h]>, b stored as a or as A
  void (*dot)(A* dot, Row a, Row b, int64_t heads, int64_t channels);
  void (*dot_wide)(A* dot, Row a, Row b, int64_t heads, int64_t channels);
  // out[h, c] = acc[h, c] * scale[h] + shift[h, c], rounded to the storage type; shift is optional
  void (*write)(void* out, const A* acc, const A* scale, const A* shift, int64_t heads, int64_t channels);
  // `count` numbers from the storage type, and rounded to it
  void (*widen)(A* to, Row from, int64_t count);
  void (*narrow)(void* to, const A* from, int64_t count);
};

// The operations for rows stored as `dtype` (whose accumulate type is A).
template <class A>
const RowOps<A>& row_ops(DType dtype, int64_t channels);

// Feature rows [nodes, heads, channels] of any storage type.
template <class A>
struct Rows {
  const char* data;
  int64_t heads, channels, bytes;  // bytes of one row
  bool wide;                       // stored in the accumulate type
  const RowOps<A>* ops;

  Rows(const void* data_, DType dtype, int64_t heads_, int64_t channels_)
      : data(static_cast<const char*>(data_)),
        heads(heads_),
        channels(channels_),
        bytes(heads_ * channels_ * dtype_bytes(dtype)),
        wide(dtype == kWide<A>),
        ops(&row_ops<A>(dtype, channels_)) {}
  const void* operator[](int64_t node) const { return data + node * bytes; }
  int64_t width() const { return heads * channels; }
};

}  // namespace gattn::cpu::GATTN_ISA

// A borrowed, typed, strided view of a tensor, and the checks every entry point makes before it touches memory.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "errors.h"

namespace gattn {

enum class DType { f32, f64, f16, bf16, i8, i16, i32, i64, u8, boolean, other };

const char* dtype_name(DType dtype);
int64_t dtype_bytes(DType dtype);

// The type numbers accumulate in: fp64 for fp64, fp32 for everything else.
inline DType accumulate_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::other;
  int ndim = 0;
  const int64_t* shape = nullptr;
  const int64_t* strides = nullptr;  // in elements; null means C-contiguous

  explicit operator bool() const { return ndim > 0; }  // an absent optional tensor has no dimensions
  int64_t numel() const;
  bool contiguous() const;
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// Raises TypeError or ValueError that names the tensor, says what was got, what was expected and what to do.
void check_tensor(const TensorView& tensor, const char* name, DType dtype, std::initializer_list<int64_t> shape);
void check_floating(const TensorView& tensor, const char* name, int ndim);

}  // namespace gattn

#include "tensor.h"

#include <string>

namespace gattn {

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::i8:
      return "int8";
    case DType::i16:
      return "int16";
    case DType::i32:
      return "int32";
    case DType::i64:
      return "int64";
    case DType::u8:
      return "uint8";
    case DType::boolean:
      return "bool";
    default:
      return "an unsupported dtype";
  }
}

int64_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
    case DType::i16:
      return 2;
    default:
      return 1;
  }
}

int64_t TensorView::numel() const {
  int64_t count = 1;
  for (int d = 0; d < ndim; ++d) count *= shape[d];
  return count;
}

bool TensorView::contiguous() const {
  if (strides == nullptr || numel() == 0) return true;
  int64_t expected = 1;
  for (int d = ndim - 1; d >= 0; --d) {
    if (shape[d] != 1 && strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

namespace {

std::string shape_text(const int64_t* shape, int ndim) {
  std::string text = "[";
  for (int d = 0; d < ndim; ++d) text += (d ? ", " : "") + std::to_string(shape[d]);
  return text + "]";
}

void check_contiguous(const TensorView& tensor, const char* name) {
  if (!tensor.contiguous())
    raise<ValueError>("Expected '", name, "' to be contiguous (got a strided view). Call .contiguous() first.");
}

}  // namespace

void check_tensor(const TensorView& tensor, const char* name, DType dtype, std::initializer_list<int64_t> shape) {
  if (tensor.dtype != dtype)
    raise<TypeError>("Expected '", name, "' to be of dtype ", dtype_name(dtype), " (got ", dtype_name(tensor.dtype),
                     "). Convert it with .to() first.");
  bool same = tensor.ndim == static_cast<int>(shape.size());
  for (int d = 0; same && d < tensor.ndim; ++d) same = tensor.shape[d] == shape.begin()[d];
  if (!same)
    raise<ValueError>("Expected '", name, "' to have shape ", shape_text(shape.begin(), static_cast<int>(shape.size())),
                      " (got ", shape_text(tensor.shape, tensor.ndim), ").");
  check_contiguous(tensor, name);
}

void check_floating(const TensorView& tensor, const char* name, int ndim) {
  switch (tensor.dtype) {
    case DType::f32:
    case DType::f64:
    case DType::f16:
    case DType::bf16:
      break;
    default:
      raise<TypeError>("Expected '", name, "' to be float32, float64, float16 or bfloat16 (got ",
                       dtype_name(tensor.dtype), "). Convert it with .to() first.");
  }
  if (tensor.ndim != ndim)
    raise<ValueError>("Expected '", name, "' to have ", ndim, " dimensions (got shape ",
                      shape_text(tensor.shape, tensor.ndim), ").");
  check_contiguous(tensor, name);
}

}  // namespace gattn

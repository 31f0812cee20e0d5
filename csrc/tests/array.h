// A tensor in a block of exactly its size, so that one element too far is one byte out of bounds for the
// sanitizer.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "common/tensor.h"

namespace gattn::tests {

class Array {
 public:
  // The data start one element into the block: aligned for the element and, like a slice of a tensor, no
  // better.
  Array(DType dtype, std::vector<int64_t> shape) : dtype_(dtype), shape_(std::move(shape)) {
    size_ = view().numel();
    block_ = std::make_unique<unsigned char[]>((size_ + 1) * dtype_bytes(dtype));
    // All bits set is a NaN in every floating type: an output that a kernel forgets to write shows.
    std::memset(block_.get(), 0xFF, (size_ + 1) * dtype_bytes(dtype));
  }

  TensorView view() const { return {data(), dtype_, static_cast<int>(shape_.size()), shape_.data(), nullptr}; }
  void* data() const { return block_ ? block_.get() + dtype_bytes(dtype_) : nullptr; }
  int64_t size() const { return size_; }
  DType dtype() const { return dtype_; }

  double get(int64_t i) const {
    switch (dtype_) {
      case DType::f64:
        return at<double>(i);
      case DType::f32:
        return at<float>(i);
      case DType::i64:
        return static_cast<double>(at<int64_t>(i));
      case DType::i32:
        return at<int32_t>(i);
      case DType::i16:
        return at<int16_t>(i);
      case DType::i8:
        return at<int8_t>(i);
      case DType::u8:
        return at<uint8_t>(i);
      case DType::bf16: {
        const uint32_t bits = static_cast<uint32_t>(at<uint16_t>(i)) << 16;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
      }
      default:
        return from_half(at<uint16_t>(i));
    }
  }

  // Only values that the type holds exactly: the driver compares kernels, not roundings of its own.
  void set(int64_t i, double value) {
    switch (dtype_) {
      case DType::f64:
        at<double>(i) = value;
        break;
      case DType::f32:
        at<float>(i) = static_cast<float>(value);
        break;
      case DType::i64:
        at<int64_t>(i) = static_cast<int64_t>(value);
        break;
      case DType::i32:
        at<int32_t>(i) = static_cast<int32_t>(value);
        break;
      case DType::i16:
        at<int16_t>(i) = static_cast<int16_t>(value);
        break;
      case DType::i8:
        at<int8_t>(i) = static_cast<int8_t>(value);
        break;
      case DType::u8:
        at<uint8_t>(i) = static_cast<uint8_t>(value);
        break;
      case DType::bf16:
        at<uint16_t>(i) = static_cast<uint16_t>(float_bits(value) >> 16);
        break;
      default:
        at<uint16_t>(i) = to_half(value);
    }
    CHECK(get(i) == value, "not exact: " + std::to_string(value));
  }

  template <class T>
  T& at(int64_t i) const {
    return static_cast<T*>(data())[i];
  }

 private:
  static uint32_t float_bits(double value) {
    const auto narrow = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &narrow, sizeof bits);
    return bits;
  }
  static uint16_t to_half(double value) {
    const uint32_t bits = float_bits(value), sign = bits >> 31 << 15;
    if (value == 0) return static_cast<uint16_t>(sign);
    return static_cast<uint16_t>(sign | ((bits >> 23 & 0xFF) - 127 + 15) << 10 | (bits >> 13 & 0x3FF));
  }
  static double from_half(uint16_t bits) {
    const double sign = bits >> 15 ? -1.0 : 1.0;
    const int exponent = bits >> 10 & 31, mantissa = bits & 0x3FF;
    if (exponent == 31) return mantissa ? std::nan("") : sign * INFINITY;
    return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
  }

  DType dtype_;
  std::vector<int64_t> shape_;
  int64_t size_ = 0;
  std::unique_ptr<unsigned char[]> block_;
};

}  // namespace gattn::tests

// The ABI of DLPack (https://dmlc.github.io/dlpack), through which tensors cross without copying and without torch.
#pragma once

#include <cstdint>

namespace gattn::dlpack {

enum DeviceType : int32_t { kCpu = 1, kCuda = 2 };
enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

struct Tensor {
  void* data;
  struct {
    int32_t type;
    int32_t id;
  } device;
  int32_t ndim;
  struct {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
  } dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

// Of DLPack 1.3: what a tensor's Python type offers C code, under kExchangeAttribute, as a capsule named kExchangeName.
struct ExchangeApi {
  uint32_t major, minor;
  const ExchangeApi* previous;
  void *allocate, *export_managed, *import_managed;
  int (*view)(void* object, Tensor* tensor);  // borrows; -1 with a Python error set
  void* current_stream;
};
constexpr const char* kExchangeAttribute = "__dlpack_c_exchange_api__";
constexpr const char* kExchangeName = "dlpack_exchange_api";

}  // namespace gattn::dlpack

// Arguments of the entry points: tensors by DLPack, checked before use.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>
#include <vector>

#include "common/dlpack.h"
#include "cpu/graph.h"
#include "cpu/kernels.h"

namespace gattn {

namespace py = pybind11;

inline DType dtype_of(const dlpack::Tensor& tensor) {
  const auto is = [&](uint8_t code, uint8_t bits) {
    return tensor.dtype.code == code && tensor.dtype.bits == bits && tensor.dtype.lanes == 1;
  };
  if (is(dlpack::kFloat, 32)) return DType::f32;
  if (is(dlpack::kFloat, 64)) return DType::f64;
  if (is(dlpack::kFloat, 16)) return DType::f16;
  if (is(dlpack::kBfloat, 16)) return DType::bf16;
  if (is(dlpack::kInt, 8)) return DType::i8;
  if (is(dlpack::kInt, 16)) return DType::i16;
  if (is(dlpack::kInt, 32)) return DType::i32;
  if (is(dlpack::kInt, 64)) return DType::i64;
  if (is(dlpack::kUInt, 8)) return DType::u8;
  if (is(dlpack::kBool, 8)) return DType::boolean;
  return DType::other;
}

// What a type offers C code to look into its tensors with; null if nothing. Types that do are kept, with the answer:
// asking costs more than looking.
inline const dlpack::ExchangeApi* exchange_api(py::handle type) {
  static std::vector<std::pair<PyObject*, const dlpack::ExchangeApi*>> known;  // the GIL guards it
  for (const auto& [seen, api] : known)
    if (seen == type.ptr()) return api;
  const py::object offer = py::getattr(type, dlpack::kExchangeAttribute, py::none());
  if (!PyCapsule_IsValid(offer.ptr(), dlpack::kExchangeName)) return nullptr;
  const auto* api = static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(offer.ptr(), dlpack::kExchangeName));
  if (api->major != 1 || api->view == nullptr) return nullptr;
  known.emplace_back(type.inc_ref().ptr(), api);
  return api;
}

// A DLPack capsule's tensor, or one whose type lets C code look into it. BufferError: this one's memory cannot be seen.
inline dlpack::Tensor tensor_of(py::handle object, const char* name) {
  if (PyCapsule_IsValid(object.ptr(), "dltensor"))
    return static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(object.ptr(), "dltensor"))->tensor;
  const py::handle type = py::type::handle_of(object);
  const dlpack::ExchangeApi* api = exchange_api(type);
  if (api == nullptr)
    raise<TypeError>("Expected '", name, "' to be a tensor that C code can look into or a DLPack capsule (got ",
                     py::str(type).cast<std::string>(), "). Pass torch.utils.dlpack.to_dlpack(tensor).");
  dlpack::Tensor tensor{};
  if (api->view(object.ptr(), &tensor) != 0) {
    py::raise_from(PyExc_BufferError, "Expected a tensor with memory of its own.");
    throw py::error_already_set();
  }
  return tensor;
}

// A tensor argument. The caller keeps it for the length of the call.
struct Argument {
  TensorView view;
  Argument(py::handle object, const char* name, bool optional = false, int32_t device = dlpack::kCpu) {
    if (optional && object.is_none()) return;
    const dlpack::Tensor tensor = tensor_of(object, name);
    if (tensor.device.type != device)
      raise<ValueError>("Expected '", name, "' on ", device == dlpack::kCpu ? "the CPU" : "a GPU",
                        " (got DLPack device type ", tensor.device.type, "). Move it",
                        device == dlpack::kCpu ? " with .cpu()" : "", " or choose another backend.");
    view.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
    view.dtype = dtype_of(tensor);
    view.ndim = tensor.ndim;
    view.shape = tensor.shape;
    view.strides = tensor.strides;
  }
  const TensorView* operator->() const { return &view; }
  explicit operator bool() const { return static_cast<bool>(view); }
};

inline void check_optional(const Argument& argument, const char* name, DType dtype,
                           std::initializer_list<int64_t> shape) {
  if (argument) check_tensor(argument.view, name, dtype, shape);
}

struct Sizes {
  int64_t num_src = 0, num_dst = 0, num_edges = 0;
};

inline Sizes sizes_of(const Argument& graph) {
  Sizes sizes;
  cpu::check_graph(graph.view, &sizes.num_src, &sizes.num_dst, &sizes.num_edges);
  return sizes;
}

inline void check_numbers(int64_t heads, int64_t channels, double dropout_p) {
  if (!(dropout_p >= 0.0 && dropout_p <= 1.0))
    raise<ValueError>("Expected 'dropout_p' to be a probability in [0, 1] (got ", dropout_p, ").");
  if (heads < 1 || channels < 1)
    raise<ValueError>("Expected at least one head and one channel (got ", heads, " heads and ", channels,
                      " channels).");
}

inline void check_threads(int threads) {
  if (threads < 1) raise<ValueError>("Expected at least one thread (got ", threads, ").");
}

// What all ops share. The features' shape gives heads and channels; logits alone give heads.
inline cpu::Problem make_problem(const Argument& graph, DType dtype, int64_t heads, int64_t channels, double dropout_p,
                                 int64_t seed, int threads, Sizes* sizes) {
  *sizes = sizes_of(graph);
  check_numbers(heads, channels, dropout_p);
  check_threads(threads);
  cpu::Problem problem;
  problem.dtype = dtype;
  problem.wide = graph->dtype == DType::i64;
  problem.graph = graph->data;
  problem.heads = heads;
  problem.channels = channels;
  problem.dropout_p = dropout_p;
  problem.seed = static_cast<uint64_t>(seed);
  problem.threads = threads;
  return problem;
}

// Errors as the Python exceptions of their names.
inline void translate_errors() {
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const ValueError& error) {
      PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const TypeError& error) {
      PyErr_SetString(PyExc_TypeError, error.what());
    } catch (const IndexError& error) {
      PyErr_SetString(PyExc_IndexError, error.what());
    }
  });
}

}  // namespace gattn

// The Python module of the emulated kernels: the entry points of csrc/cuda/bindings.cpp for tensors on the CPU, the
// order of threads, and planted faults.
#include <cuda_runtime.h>

#include "arguments.h"
#include "faults.h"

namespace gattn {

void bind_cuda(py::module_& module);

}  // namespace gattn

PYBIND11_MODULE(gattn_emulated, module) {
  gattn::translate_errors();
  gattn::bind_cuda(module);
  module.attr("sanitized") = gattn::kSanitized;
  module.def("set_seed", gattn::emulation::set_seed, "Of the order in which threads run.");
  module.def("neighbours_are_right", gattn::neighbours_are_right, "neighbours_are_right(synchronise)");
  module.def("read_at", gattn::read_at, "read_at(i): reads element i of 8 in a kernel");
  module.def("diverge", gattn::diverge, "Half a warp votes, for all of it.");
}

// Entry points of the attention on GPUs. Beside what attention_arguments.h says, a call takes the graph's sizes and
// degree groups as numbers, lest the device be asked, the stream to launch on and a function that allocates.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <array>

#include "attention.h"
#include "attention_arguments.h"
#include "common/graph_layout.h"
#include "sort.h"

namespace gattn {

namespace {

#ifdef GATTN_EMULATED
constexpr int32_t kDevice = dlpack::kCpu;
#else
constexpr int32_t kDevice = dlpack::kCuda;
#endif

using Numbers = std::array<int64_t, 3>;      // num_src, num_dst, num_edges
using SideNumbers = std::array<int64_t, 9>;  // gattn.groups.Side
using Allocate = std::function<uintptr_t(int64_t)>;

std::function<void*(int64_t)> allocator(const Allocate& allocate) {
  return [allocate](int64_t bytes) { return reinterpret_cast<void*>(bytes == 0 ? 0 : allocate(bytes)); };
}

cuda::Side side_of(const SideNumbers& n, int64_t nodes, int64_t numel) {
  const cuda::Side side{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]};
  for (const int64_t number : n)
    if (number < 0) raise<ValueError>("Expected degree groups as gattn.groups.sides gives them (got ", number, ").");
  if (side.counts + 4 > numel || side.order + nodes > numel || side.chunk_ptr + side.hubs + 1 > numel ||
      side.chunk_hub + side.chunks > numel || side.hubs > nodes || side.middle > nodes || side.small > nodes)
    raise<ValueError>("Expected degree groups of this graph (got ", numel, " numbers, too few for ", nodes, " nodes).");
  return side;
}

// The graph and what it shares with every op.
struct GraphArguments {
  Argument graph, groups;
  Sizes sizes;
  cuda::Call call;

  GraphArguments(py::handle graph_, py::handle groups_, const Numbers& numbers, const SideNumbers& rows,
                 const SideNumbers& columns, uintptr_t stream, const Allocate& allocate)
      : graph(graph_, "graph", false, kDevice),
        groups(groups_, "groups", false, kDevice),
        sizes{numbers[0], numbers[1], numbers[2]} {
    if (sizes.num_src < 0 || sizes.num_dst < 0 || sizes.num_edges < 0)
      raise<ValueError>("Expected sizes of a graph (got ", sizes.num_src, ", ", sizes.num_dst, ", ", sizes.num_edges,
                        ").");
    const DType dtype = graph->dtype;
    if (dtype != DType::i32 && dtype != DType::i64) raise<TypeError>("Expected 'graph' to be int32 or int64.");
    check_tensor(graph.view, "graph", dtype, {graph_numel(sizes.num_src, sizes.num_dst, sizes.num_edges)});
    check_tensor(groups.view, "groups", dtype, {groups.view.numel()});
    call.num_src = sizes.num_src;
    call.num_dst = sizes.num_dst;
    call.num_edges = sizes.num_edges;
    call.graph = graph->data;
    call.groups = groups->data;
    call.wide = dtype == DType::i64;
    call.rows = side_of(rows, sizes.num_dst, groups.view.numel());
    call.columns = side_of(columns, sizes.num_src, groups.view.numel());
    call.stream = reinterpret_cast<cudaStream_t>(stream);
    call.allocate = allocator(allocate);
  }

  AttentionArguments attention(const py::dict& inputs, const py::tuple& settings, py::handle seed_) {
    const AttentionArguments arguments(sizes, inputs, settings, kDevice);
    check_numbers(arguments.heads, arguments.channels, arguments.dropout_p);
    const Argument seed(seed_, "seed", true, kDevice);
    if (arguments.dropout_p > 0) check_tensor(scalar(seed.view), "seed", DType::i64, {1});
    call.dtype = arguments.storage;
    call.heads = arguments.heads;
    call.channels = arguments.channels;
    call.in = arguments.inputs;
    call.dropout_p = arguments.dropout_p;
    call.seed = seed.view.as<const int64_t>();
    return arguments;
  }

 private:
  // A tensor without dimensions as one of a single element.
  static TensorView scalar(TensorView view) {
    static constexpr int64_t kOne = 1;
    if (view.data != nullptr && view.ndim == 0) view.ndim = 1, view.shape = &kOne, view.strides = nullptr;
    return view;
  }
};

void attention_forward(py::handle graph, py::handle groups, const Numbers& numbers, const SideNumbers& rows,
                       const SideNumbers& columns, const py::dict& inputs, const py::tuple& settings, py::handle seed,
                       const py::dict& results, uintptr_t stream, const Allocate& allocate) {
  GraphArguments arguments(graph, groups, numbers, rows, columns, stream, allocate);
  const AttentionArguments call = arguments.attention(inputs, settings, seed);
  cuda::attention_forward(arguments.call, call.outputs(results));
}

void attention_backward(py::handle graph, py::handle groups, const Numbers& numbers, const SideNumbers& rows,
                        const SideNumbers& columns, const py::dict& inputs, const py::tuple& settings, py::handle seed,
                        const py::dict& saved, const py::dict& results, uintptr_t stream, const Allocate& allocate) {
  GraphArguments arguments(graph, groups, numbers, rows, columns, stream, allocate);
  const AttentionArguments call = arguments.attention(inputs, settings, seed);
  const AttentionSaved found = call.saved(saved);
  if (given(saved, "out") && call.storage != call.wide)
    raise<TypeError>("Expected 'out' of the accumulate dtype (got ", dtype_name(call.storage), ", rounded).");
  cuda::attention_backward(arguments.call, found, call.gradients(inputs, results));
}

void first_largest(py::handle graph, py::handle groups, const Numbers& numbers, const SideNumbers& rows,
                   const SideNumbers& columns, py::handle values_, py::handle first_, uintptr_t stream,
                   const Allocate& allocate) {
  GraphArguments arguments(graph, groups, numbers, rows, columns, stream, allocate);
  const Argument values(values_, "values", false, kDevice), first(first_, "first", false, kDevice);
  check_floating(values.view, "values", 2);
  cuda::Call& call = arguments.call;
  call.heads = values->shape[1];
  call.channels = 1;
  call.dtype = accumulate_dtype(values->dtype);
  call.in.score = ScoreKind::edge_softmax;
  check_numbers(call.heads, call.channels, 0.0);
  check_tensor(values.view, "values", call.dtype, {call.num_src, call.heads});
  check_tensor(first.view, "first", DType::i64, {call.num_dst, call.heads});
  cuda::first_largest(call, values->data, first.view.as<int64_t>());
}

void stable_sort(py::handle keys_, py::handle values_, py::handle sorted_keys_, py::handle sorted_values_, int bits,
                 uintptr_t stream, const Allocate& allocate) {
  const Argument keys(keys_, "keys", false, kDevice), values(values_, "values", false, kDevice),
      sorted_keys(sorted_keys_, "sorted_keys", false, kDevice),
      sorted_values(sorted_values_, "sorted_values", false, kDevice);
  const DType dtype = keys->dtype;
  if (dtype != DType::i32 && dtype != DType::i64)
    raise<TypeError>("Expected 'keys' to be int32 or int64 (got ", dtype_name(dtype), ").");
  cuda::Sort sort;
  sort.wide = dtype == DType::i64;
  sort.count = keys.view.numel();
  for (const auto& [argument, name] :
       {std::pair(&keys, "keys"), std::pair(&values, "values"), std::pair(&sorted_keys, "sorted_keys"),
        std::pair(&sorted_values, "sorted_values")})
    check_tensor(argument->view, name, dtype, {sort.count});
  const int most = sort.wide ? 63 : 31;
  if (bits < 1 || bits > most) raise<ValueError>("Expected 1 to ", most, " bits (got ", bits, ").");
  sort.keys = keys->data;
  sort.values = values->data;
  sort.sorted_keys = sorted_keys->data;
  sort.sorted_values = sorted_values->data;
  sort.bits = bits;
  sort.stream = reinterpret_cast<cudaStream_t>(stream);
  sort.allocate = allocator(allocate);
  cuda::stable_sort(sort);
}

}  // namespace

void bind_cuda(py::module_& module) {
  module.attr("cuda_device") = kDevice == dlpack::kCpu ? "cpu" : "cuda";
  module.def("cuda_attention_forward", attention_forward,
             "cuda_attention_forward(graph, groups, sizes, rows, columns, inputs, settings, seed, results, stream, "
             "allocate)");
  module.def("cuda_attention_backward", attention_backward,
             "cuda_attention_backward(graph, groups, sizes, rows, columns, inputs, settings, seed, saved, gradients, "
             "stream, allocate)");
  module.def("cuda_first_largest", first_largest,
             "cuda_first_largest(graph, groups, sizes, rows, columns, values, first, stream, allocate)");
  module.def("cuda_stable_sort", stable_sort,
             "cuda_stable_sort(keys, values, sorted_keys, sorted_values, bits, stream, allocate)");
}

}  // namespace gattn

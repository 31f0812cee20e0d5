#include "launcher.h"

#include <algorithm>
#include <cmath>

namespace gattn::cuda {

namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t power_of_two(int64_t least, int64_t most) {
  int64_t power = 1;
  while (power < least && power < most) power *= 2;
  return power;
}

Layout layout_of(int64_t heads, int64_t channels, Channels of) {
  const int64_t pieces = of.thread / of.pack, packs = divide_up(channels, of.pack);
  const int64_t lanes = power_of_two(divide_up(packs, pieces), kWarp), block = power_of_two(heads, kWarp / lanes);
  Layout layout;
  layout.lanes = static_cast<int32_t>(lanes);
  layout.heads = static_cast<int32_t>(block);
  layout.tiles = static_cast<int32_t>(divide_up(packs, lanes * pieces));
  layout.head_blocks = static_cast<int32_t>(divide_up(heads, block));
  return layout;
}

Kernels kernels_of(ScoreKind score, DType dtype, Width width) {
  switch (score) {
    case ScoreKind::edge_softmax:
      return edge_softmax_kernels(dtype, width);
    case ScoreKind::gat:
      return gat_kernels(dtype, width);
    case ScoreKind::gatv2:
      return gatv2_kernels(dtype, width);
    case ScoreKind::dot:
      return dot_kernels(dtype, width);
    default:
      return gt_kernels(dtype, width);
  }
}

}  // namespace

Launcher::Launcher(const Call& call_, std::initializer_list<const void*> pointers) : call(call_) {
  if (fills_accesses(pointers))
    width = call.channels * dtype_bytes(call.dtype) <= 16 * kWarp ? Width::narrow : Width::broad;
  of_score = kernels_of(call.in.score, call.dtype, width);
}

bool Launcher::fills_accesses(std::initializer_list<const void*> pointers) const {
  if (call.channels * dtype_bytes(call.dtype) % 16 != 0) return false;
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  const AttentionInputs& in = call.in;
  return aligned(in.q) && aligned(in.k) && aligned(in.v) && aligned(in.edge) && aligned(in.att) &&
         aligned(in.sink_value) && std::all_of(pointers.begin(), pointers.end(), aligned);
}

Adjacency Launcher::graph() const {
  return view_graph(Index{call.graph, call.wide}, call.num_src, call.num_dst, call.num_edges);
}

Arguments Launcher::arguments(bool by_target) const {
  const Adjacency g = graph();
  const Index groups{call.groups, call.wide};
  const Side& of = side(by_target);
  Arguments a;
  a.in = call.in;
  a.walk.ptr = by_target ? g.rowptr : g.colptr;
  a.walk.node = by_target ? g.col : g.row;
  a.walk.edge = by_target ? g.edge_id : g.edge_id_t;
  a.walk.counts = groups + of.counts;
  a.walk.order = groups + of.order;
  a.walk.chunk_ptr = groups + of.chunk_ptr;
  a.walk.chunk_hub = groups + of.chunk_hub;
  a.walk.chunk = of.chunk;
  a.layout = layout_of(call.heads, call.channels, channels_of(width, dtype_bytes(call.dtype)));
  a.heads = call.heads;
  a.channels = call.channels;
  a.log_gamma = std::log(call.in.gamma);
  a.seed = call.dropout_p > 0 ? call.seed : nullptr;
  a.threshold = dropout_threshold(call.dropout_p);
  a.keep = call.dropout_p < 1 ? 1 / (1 - call.dropout_p) : 0;
  return a;
}

Arguments Launcher::head_arguments(bool by_target) const {
  Arguments a = arguments(by_target);
  a.channels = 1;
  a.layout = layout_of(call.heads, 1, {1, 1});
  return a;
}

int64_t Launcher::blocks_of(const Arguments& a, int64_t rows) {
  return divide_up(rows, kWarps * (kWarp / (a.layout.lanes * a.layout.heads)));
}

int64_t Launcher::blocks(const Arguments& a, bool by_target) const {
  const Side& of = side(by_target);
  switch (a.walk.group) {
    case Group::hub:
      return of.hubs;
    case Group::chunk:
      return of.chunks;
    case Group::middle:
      return of.middle;
    default:
      return blocks_of(a, of.small);
  }
}

void Launcher::launch(Kernel kernel, int64_t blocks, int64_t columns, const Arguments& a) const {
  if (blocks == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim.x = static_cast<unsigned>(blocks);
  config.gridDim.y = static_cast<unsigned>(columns);
  config.blockDim.x = kThreads;
  config.stream = call.stream;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, a);
  if (error != cudaSuccess)
    raise<std::runtime_error>("A CUDA kernel could not be launched on ", blocks, " x ", columns,
                              " blocks: ", cudaGetErrorString(error), ".");
}

}  // namespace gattn::cuda

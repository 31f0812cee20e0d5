// Building the adjacency: every order, type and option against the obvious way, and input that must be
// refused.
#include <algorithm>
#include <limits>
#include <numeric>

#include "graphs.h"
#include "tests.h"

namespace gattn::tests {

namespace {

using cpu::build_graph;
using cpu::GraphOptions;
using Edges = std::vector<std::pair<int64_t, int64_t>>;

Edges rewrite_loops(const EdgeList& list) {
  Edges edges;
  for (const auto& edge : list.edges)
    if (edge.first != edge.second) edges.push_back(edge);
  for (int64_t i = 0; i < std::min(list.num_src, list.num_dst); ++i) edges.emplace_back(i, i);
  return edges;
}

template <class I>
void compare(const EdgeList& list, const Edges& edges, const void* packed) {
  const auto view = view_graph(static_cast<const I*>(packed));
  const auto count = static_cast<int64_t>(edges.size());
  CHECK(view.num_src == list.num_src && view.num_dst == list.num_dst && view.num_edges == count, list.name);
  std::vector<int64_t> by_target(count);
  std::iota(by_target.begin(), by_target.end(), 0);
  std::vector<int64_t> by_source = by_target;
  std::stable_sort(by_target.begin(), by_target.end(),
                   [&](int64_t a, int64_t b) { return edges[a].second < edges[b].second; });
  std::stable_sort(by_source.begin(), by_source.end(), [&](int64_t a, int64_t b) { return edges[a] < edges[b]; });
  for (int64_t k = 0; k < count; ++k) {
    CHECK(view.edge_id[k] == by_target[k] && view.col[k] == edges[by_target[k]].first, list.name);
    CHECK(view.edge_id_t[k] == by_source[k] && view.row[k] == edges[by_source[k]].second, list.name);
    CHECK(view.edge_id_t[view.csr_to_csc[k]] == view.edge_id[k], list.name);
  }
  const auto degree_ends = [&](const I* pointer, int64_t nodes, auto node_of) {
    int64_t seen = 0;
    CHECK(pointer[0] == 0, list.name);
    for (int64_t node = 0; node < nodes; ++node) {
      for (const auto& edge : edges) seen += node_of(edge) == node;
      CHECK(pointer[node + 1] == seen, list.name);
    }
  };
  degree_ends(view.rowptr, list.num_dst, [](const auto& edge) { return edge.second; });
  degree_ends(view.colptr, list.num_src, [](const auto& edge) { return edge.first; });
}

void test_layout(const EdgeList& list, int threads) {
  for (const DType dtype : {DType::i32, DType::i64})
    for (const bool wide : {false, true})
      for (const bool loops : {false, true})
        for (const bool swap : {false, true}) {
          EdgeList given = list;
          if (swap)
            for (auto& edge : given.edges) std::swap(edge.first, edge.second);
          GraphOptions options;
          options.num_src = list.num_src;
          options.num_dst = list.num_dst;
          options.swap_rows = swap;
          options.self_loops = loops;
          options.wide = wide;
          options.threads = threads;
          const auto graph = build_graph(given.index(dtype).view(), options);
          CHECK(graph.dtype == (wide ? DType::i64 : DType::i32), list.name);
          const Edges edges = loops ? rewrite_loops(list) : list.edges;
          wide ? compare<int64_t>(list, edges, graph.data.get()) : compare<int32_t>(list, edges, graph.data.get());

          const TensorView packed{graph.data.get(), graph.dtype, 1, &graph.numel, nullptr};
          int64_t num_src, num_dst, num_edges;
          cpu::check_graph(packed, &num_src, &num_dst, &num_edges);
          CHECK(num_src == list.num_src && num_dst == list.num_dst, list.name);
          CHECK(num_edges == static_cast<int64_t>(edges.size()), list.name);
        }
}

void test_sizes_are_inferred() {
  const EdgeList list{"inferred", 8, 8, {{7, 0}, {1, 2}}};
  const auto graph = build_graph(list.index(DType::i64).view(), {});
  CHECK(graph.num_src == 8 && graph.num_dst == 8);
}

GraphOptions sized(int64_t num_src, int64_t num_dst) {
  GraphOptions options;
  options.num_src = num_src;
  options.num_dst = num_dst;
  return options;
}

void test_bad_edge_index() {
  const EdgeList list = random_edges("refused", 6, 6, 20, 3);
  const Array good = list.index(DType::i64);
  for (const DType dtype : {DType::f32, DType::i16, DType::boolean, DType::other})
    CHECK_RAISES(ValueError, build_graph(Array(dtype, {2, 20}).view(), {}));
  CHECK_RAISES(ValueError, build_graph(Array(DType::i64, {40}).view(), {}));
  CHECK_RAISES(ValueError, build_graph(Array(DType::i64, {3, 20}).view(), {}));
  CHECK_RAISES(ValueError, build_graph(Array(DType::i64, {2, 20, 1}).view(), {}));
  const int64_t strides[] = {1, 2};
  TensorView strided = good.view();
  strided.strides = strides;
  CHECK_RAISES(ValueError, build_graph(strided, {}));
  CHECK_RAISES(ValueError, build_graph(good.view(), sized(6, -1)));
  CHECK_RAISES(ValueError, build_graph(good.view(), sized(-7, -7)));

  for (const DType dtype : {DType::i32, DType::i64})
    for (const int row : {0, 1})
      for (const int64_t index : {int64_t{-1}, int64_t{6}, int64_t{-2147483648}, int64_t{2147483647}}) {
        Array bad = list.index(dtype);
        bad.set(row * 20 + 11, static_cast<double>(index));
        CHECK_RAISES(IndexError, build_graph(bad.view(), sized(6, 6)));
      }
  CHECK_RAISES(IndexError, build_graph(good.view(), sized(0, 0)));
}

// Sizes whose storage cannot be counted in 64 bits must not wrap round to a small block.
void test_sizes_beyond_memory() {
  constexpr int64_t largest = std::numeric_limits<int64_t>::max();
  for (const int64_t huge : {largest, largest / 2, largest / 8, largest / 16 + 1, int64_t{1} << 59}) {
    CHECK_RAISES(ValueError, build_graph(Array(DType::i64, {2, 0}).view(), sized(huge, huge)));
    Array edge(DType::i64, {2, 1});
    edge.at<int64_t>(0) = 0;
    edge.at<int64_t>(1) = huge;
    CHECK_RAISES(ValueError, build_graph(edge.view(), {}));
  }
}

void test_bad_packed_graph() {
  const EdgeList list = random_edges("packed", 6, 6, 20, 3);
  const auto graph = build_graph(list.index(DType::i64).view(), {});
  int64_t a, b, c;
  const int64_t short_by_one = graph.numel - 1, no_header = 3;
  for (const int64_t* shape : {&short_by_one, &no_header})
    CHECK_RAISES(ValueError, cpu::check_graph({graph.data.get(), graph.dtype, 1, shape, nullptr}, &a, &b, &c));
  CHECK_RAISES(ValueError, cpu::check_graph({graph.data.get(), DType::f32, 1, &graph.numel, nullptr}, &a, &b, &c));
  Array forged(DType::i64, {64});
  for (int64_t i = 0; i < 64; ++i) forged.at<int64_t>(i) = 0;
  forged.at<int64_t>(0) = kGraphMagic;
  for (int64_t field = 1; field < 4; ++field)
    for (const int64_t value : {int64_t{-1}, int64_t{1000}, std::numeric_limits<int64_t>::max()}) {
      const int64_t before = forged.at<int64_t>(field);
      forged.at<int64_t>(field) = value;
      CHECK_RAISES(ValueError, cpu::check_graph(forged.view(), &a, &b, &c));
      forged.at<int64_t>(field) = before;
    }
}

}  // namespace

void test_graph(int threads) {
  for (const EdgeList& list : small_graphs()) test_layout(list, threads);
  test_layout(random_edges("several chunks", 50, 60, 70000, 4), threads);
  test_sizes_are_inferred();
  test_bad_edge_index();
  test_sizes_beyond_memory();
  test_bad_packed_graph();
}

}  // namespace gattn::tests

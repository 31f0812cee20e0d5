// Hop counts against a search from every node, over all the ways a graph may be searched, and input that must be
// refused.
#include "cpu/shortest_path.h"

#include <algorithm>
#include <limits>

#include "cpu/single_search.h"
#include "graphs.h"
#include "tests.h"

namespace gattn::tests {

namespace {

using cpu::shortest_path;
using Edges = std::vector<std::pair<int64_t, int64_t>>;
constexpr int64_t kUnreachable = 510;

// Graphs one after the other, their edges shuffled among each other.
struct Batch {
  std::vector<int64_t> ptr = {0};
  EdgeList list{"batch", 0, 0, {}};

  void add(int64_t nodes, const Edges& edges) {
    for (const auto& [src, dst] : edges) list.edges.emplace_back(src + ptr.back(), dst + ptr.back());
    ptr.push_back(ptr.back() + nodes);
  }
  void shuffle() { std::shuffle(list.edges.begin(), list.edges.end(), std::mt19937_64(9)); }
  Array ptr_array(DType dtype) const {
    Array array(dtype, {static_cast<int64_t>(ptr.size())});
    for (size_t b = 0; b < ptr.size(); ++b) array.set(static_cast<int64_t>(b), static_cast<double>(ptr[b]));
    return array;
  }
};

std::vector<int16_t> search_naively(const Batch& batch, int64_t unreachable) {
  std::vector<std::vector<int64_t>> targets(batch.ptr.back());
  for (const auto& [src, dst] : batch.list.edges) targets[src].push_back(dst);
  std::vector<int16_t> distances;
  for (size_t b = 0; b + 1 < batch.ptr.size(); ++b) {
    const int64_t begin = batch.ptr[b], end = batch.ptr[b + 1];
    for (int64_t source = begin; source < end; ++source) {
      std::vector<int64_t> distance(end - begin, -1), queue = {source};
      distance[source - begin] = 0;
      for (size_t head = 0; head < queue.size(); ++head)
        for (const int64_t j : targets[queue[head]])
          if (distance[j - begin] < 0) {
            distance[j - begin] = distance[queue[head] - begin] + 1;
            queue.push_back(j);
          }
      for (const int64_t hops : distance)
        distances.push_back(static_cast<int16_t>(hops < 0 ? unreachable : std::min(hops, unreachable)));
    }
  }
  return distances;
}

void compare(const Batch& batch, int64_t unreachable, int threads) {
  const std::vector<int16_t> want = search_naively(batch, unreachable);
  for (const DType dtype : {DType::i32, DType::i64})
    for (const int workers : {1, threads}) {
      const auto got =
          shortest_path(batch.list.index(dtype).view(), batch.ptr_array(dtype).view(), unreachable, workers);
      CHECK(got.dtype == DType::i16 && got.numel == static_cast<int64_t>(want.size()));
      const auto* data = static_cast<const int16_t*>(got.data.get());
      CHECK(std::equal(want.begin(), want.end(), data), "unreachable " + std::to_string(unreachable));
    }
}

Edges chain(int64_t nodes) {
  Edges edges;
  for (int64_t i = 1; i < nodes; ++i) edges.emplace_back(i - 1, i);
  return edges;
}

Edges both_ways(Edges edges) {
  const size_t count = edges.size();
  for (size_t e = 0; e < count; ++e) edges.emplace_back(edges[e].second, edges[e].first);
  return edges;
}

void test_distances(int threads) {
  Batch batch;
  for (const double degree : {0.5, 1.3, 4.0})
    for (const int64_t nodes : {1, 0, 2, 7, 63, 64, 65, 127, 128, 129, 192, 193, 300}) {
      if (nodes == 0) {
        batch.add(0, {});
        continue;
      }
      const auto edges = static_cast<int64_t>(degree * static_cast<double>(nodes));
      batch.add(nodes, random_edges("random", nodes, nodes, edges, static_cast<unsigned>(nodes)).edges);
    }
  batch.add(64, both_ways(chain(64)));
  batch.add(66, chain(66));
  batch.add(600, both_ways(chain(600)));  // longer than a block of targets: searched from one source at a time
  batch.add(270, chain(270));
  Edges star;
  for (int64_t i = 1; i < 100; ++i) star.emplace_back(0, i);
  batch.add(100, both_ways(star));
  batch.add(80, {});
  batch.shuffle();
  for (const int64_t unreachable : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{5}, kUnreachable, int64_t{32767}})
    compare(batch, unreachable, threads);
}

// Enough edges for several to sort them, and fewer searches than threads.
void test_sharing(int threads) {
  Batch one;
  one.add(400, random_edges("dense", 400, 400, 100000, 3).edges);
  compare(one, kUnreachable, threads);
  compare(Batch(), kUnreachable, threads);
}

// The hop counts that need all bits of int16, in one row of a block of 2 GiB.
void test_longest_path() {
  constexpr int64_t nodes = cpu::GraphBatch::kMaxNodes;
  Batch batch;
  batch.add(nodes, chain(nodes));
  const cpu::GraphBatch taken_apart(batch.list.index(DType::i64).view(), batch.ptr_array(DType::i64).view(), 64, 1);
  std::vector<uint16_t> queue(nodes + 1);
  std::vector<uint8_t> marked(nodes);
  CHECK(cpu::search_depth(taken_apart.outgoing(0), taken_apart.incoming(0), nodes, queue.data(), marked.data()) ==
        nodes - 1);
  std::vector<int16_t> row(nodes);
  cpu::search_singly(taken_apart.outgoing(0), nodes, 0, 1, nodes - 1, queue.data(), row.data());
  for (int64_t i = 0; i < nodes; ++i) CHECK(row[i] == i);
}

Array integers(std::vector<int64_t> shape, const std::vector<int64_t>& values) {
  Array array(DType::i64, std::move(shape));
  for (int64_t i = 0; i < array.size(); ++i) array.at<int64_t>(i) = values[i];
  return array;
}

void test_refused() {
  constexpr int64_t largest = std::numeric_limits<int64_t>::max(), smallest = std::numeric_limits<int64_t>::min();
  const Array edges = integers({2, 2}, {0, 2, 1, 3}), ptr = integers({3}, {0, 2, 4});
  shortest_path(edges.view(), ptr.view(), kUnreachable, 1);
  CHECK_RAISES(ValueError, shortest_path(edges.view(), ptr.view(), -1, 1));
  CHECK_RAISES(ValueError, shortest_path(edges.view(), ptr.view(), 32768, 1));
  CHECK_RAISES(ValueError, shortest_path(edges.view(), ptr.view(), kUnreachable, 0));
  CHECK_RAISES(ValueError, shortest_path(ptr.view(), ptr.view(), kUnreachable, 1));
  CHECK_RAISES(ValueError, shortest_path(Array(DType::f32, {2, 2}).view(), ptr.view(), kUnreachable, 1));
  CHECK_RAISES(ValueError, shortest_path(edges.view(), edges.view(), kUnreachable, 1));
  CHECK_RAISES(ValueError, shortest_path(edges.view(), Array(DType::i64, {0}).view(), kUnreachable, 1));
  CHECK_RAISES(TypeError, shortest_path(edges.view(), Array(DType::i16, {3}).view(), kUnreachable, 1));
  const int64_t two[] = {2};
  TensorView strided = ptr.view();
  strided.strides = two;
  CHECK_RAISES(ValueError, shortest_path(edges.view(), strided, kUnreachable, 1));
  const Array none = integers({2, 0}, {});
  for (const auto& bad : std::vector<std::vector<int64_t>>{{1, 2, 4}, {0, 3, 2}, {0, -1, 4}, {0, smallest, 4}})
    CHECK_RAISES(ValueError, shortest_path(none.view(), integers({3}, bad).view(), kUnreachable, 1));
  for (const int64_t huge : {int64_t{32769}, int64_t{1} << 40, largest})
    CHECK_RAISES(ValueError, shortest_path(none.view(), integers({2}, {0, huge}).view(), kUnreachable, 1));
  for (const int64_t index : {int64_t{4}, int64_t{-1}, largest, smallest})
    for (int64_t at = 0; at < 4; ++at) {
      std::vector<int64_t> ends = {0, 2, 1, 3};
      ends[at] = index;
      CHECK_RAISES(IndexError, shortest_path(integers({2, 2}, ends).view(), ptr.view(), kUnreachable, 1));
    }
  CHECK_RAISES(ValueError, shortest_path(integers({2, 2}, {0, 1, 1, 2}).view(), ptr.view(), kUnreachable, 1));
  CHECK_RAISES(ValueError, shortest_path(integers({2, 1}, {3, 1}).view(), ptr.view(), kUnreachable, 1));
}

}  // namespace

void test_shortest_path(int threads) {
  test_distances(threads);
  test_sharing(threads);
  test_longest_path();
  test_refused();
}

}  // namespace gattn::tests

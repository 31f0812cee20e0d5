// All-pairs attention within graphs: one head of one graph as dense matrices, in blocks of queries.
//
// A block's scores, [queries, keys], lie in the outer caches at most, with keys along the vectors. Heads, panels of
// queries and blocks of them follow each other in the same order whoever runs a task.
#pragma once

#include <type_traits>

#include "../parallel.h"
#include "dropout.h"
#include "heads.h"
#include "products.h"
#include "ragged_decay.h"
#include "rows.h"

namespace gattn::cpu::GATTN_ISA {

// Some queries of a graph, for some heads.
struct Panel {
  int64_t n, node, pair;    // the graph's nodes, its first node and its first pair
  int64_t row_begin, rows;  // its queries
  int64_t head_begin, head_end;
  int64_t sums;  // see RaggedTask
  bool first;    // of the task's panels of this graph
};

template <class Function>
inline void for_panels(const RaggedBatch& batch, const RaggedTask& task, const Function& function) {
  for (int64_t graph = task.graph_begin; graph < task.graph_end; ++graph) {
    const int64_t node = batch.node[graph], n = batch.node[graph + 1] - node;
    const int64_t begin = task.sums < 0 ? 0 : task.row_begin, end = task.sums < 0 ? n : task.row_end;
    for (int64_t row = begin; row < end; row += kPanelRows)
      function(Panel{n, node, batch.pair[graph], row, end - row < kPanelRows ? end - row : kPanelRows, task.head_begin,
                     task.head_end, task.sums, row == begin});
  }
}

// Rows of one head of one graph, one after the other, padded with zeros to whole vectors.
template <class A>
struct HeadRows {
  const A* data;
  int64_t stride;

  Entries<A, false> entries(int64_t row) const { return {data + row * stride, stride}; }
  Vectors<A> vectors(int64_t row = 0) const { return {data + row * stride, stride, kLanes<A>}; }
};

// The rows of some heads of `count` nodes from `node` on, head after head. A copy, even of rows that could be read
// where they are: there one head's are so far apart that they share few sets of the caches, while those of heads next
// to each other are read in one stream.
template <class A>
inline void copy_rows(const Rows<A>& rows, int64_t node, int64_t count, int64_t head, int64_t heads, A* to) {
  constexpr int W = kLanes<A>;
  constexpr int64_t kAhead = 1024;  // bytes
  const int64_t channels = rows.channels, whole = rows.wide ? channels - channels % W : 0;
  const int64_t stride = whole_vectors<A>(channels), bytes = rows.bytes / rows.heads;
  for (int64_t i = 0; i < count; ++i) {
    const char* from = static_cast<const char*>(rows[node + i]) + head * bytes;
    A* row = to + i * stride;
    for (int64_t h = 0; h < heads; ++h, from += bytes, row += count * stride) {
      __builtin_prefetch(from + kAhead);
      for (int64_t c = 0; c < whole; c += W) store<W>(row + c, load<W>(reinterpret_cast<const A*>(from) + c));
      if (whole == channels) continue;
      rows.ops->widen(row + whole, reinterpret_cast<const A*>(from) + whole, channels - whole);
      for (int64_t c = channels; c < stride; ++c) row[c] = 0;
    }
  }
}

// The other way: to[node + i, head] = from[i] * scale[i], rounded; scale is optional.
template <class A>
inline void write_head_rows(void* to, const Rows<A>& like, int64_t node, int64_t count, int64_t head, const A* from,
                            const A* scale) {
  char* row = static_cast<char*>(to) + node * like.bytes + like.bytes / like.heads * head;
  const int64_t stride = whole_vectors<A>(like.channels);
  const A one = 1;
  for (int64_t i = 0; i < count; ++i, row += like.bytes, from += stride) {
    const A* mine = scale ? scale + i : &one;
    if (like.wide)
      for_channels<A>(like.channels, [&](auto width, int64_t c) {
        constexpr int W = decltype(width)::value;
        store<W>(reinterpret_cast<A*>(row) + c, Vec<A, W>(load<W>(from + c) * *mine));
      });
    else
      like.ops->write(row, from, mine, nullptr, 1, like.channels);
  }
}

// Scores of a block: numbers in a row of it, and its rows. Strides of large powers of two would meet in few sets of the
// caches.
template <class A>
constexpr int64_t block_stride(int64_t n) {
  return whole_vectors<A>(n) + (whole_vectors<A>(n) % 256 == 0 ? kLanes<A> : 0);
}
constexpr int64_t kBlockNumbers = 8192, kBlockRows = 16;
template <class A>
constexpr int64_t block_rows(int64_t n) {
  const int64_t rows = kBlockNumbers / block_stride<A>(n) / kBlockRows * kBlockRows;
  return rows < kBlockRows ? kBlockRows : rows < kPanelRows ? rows : kPanelRows;
}

// The workers' room: transposed matrices, rows of some heads, blocks of scores, numbers by query, dropout's bits.
template <class A>
class Rooms {
 public:
  Rooms(const RaggedProblem& problem, int transposes, int rows, int blocks)
      : matrix_(whole_vectors<A>(problem.channels) * whole_vectors<A>(problem.batch.largest)),
        rows_(most_rows(problem) * whole_vectors<A>(problem.channels)),
        block_(block_size(problem.batch.largest)),
        first_rows_(transposes * matrix_),
        first_block_(first_rows_ + rows * rows_),
        first_number_(first_block_ + blocks * block_),
        size_(first_number_ + kNumbers * kPanelRows),
        kept_size_(problem.dropout_p > 0 ? kPanelRows * whole_vectors<A>(problem.batch.largest) : 0),
        numbers_(workers(problem) * size_),
        kept_(workers(problem) * kept_size_) {}

  A* transposed(int worker, int i) const { return of(worker) + i * matrix_; }
  A* rows(int worker, int i) const { return of(worker) + first_rows_ + i * rows_; }
  A* block(int worker, int i) const { return of(worker) + first_block_ + i * block_; }
  A* by_query(int worker, int i) const { return of(worker) + first_number_ + i * kPanelRows; }
  uint8_t* kept(int worker) const { return kept_.get() + worker * kept_size_; }

 private:
  static constexpr int kNumbers = 3;
  static int64_t workers(const RaggedProblem& problem) {
    return problem.batch.task_count < problem.threads ? problem.batch.task_count : problem.threads;
  }
  // One head of the largest graph, or all heads that are copied together of one that is not taken apart.
  static int64_t most_rows(const RaggedProblem& problem) {
    const int64_t largest = problem.batch.largest, whole = largest < kPanelRows ? largest : kPanelRows;
    const int64_t together = problem.heads < kHeadsAtOnce ? problem.heads : kHeadsAtOnce;
    return largest > whole * together ? largest : whole * together;
  }
  static int64_t block_size(int64_t largest) {
    const int64_t one = kBlockRows * block_stride<A>(largest);
    return one > kBlockNumbers ? one : kBlockNumbers;
  }
  A* of(int worker) const { return numbers_.get() + worker * size_; }

  int64_t matrix_, rows_, block_, first_rows_, first_block_, first_number_, size_, kept_size_;
  Buffer<A> numbers_;
  Buffer<uint8_t> kept_;
};

// Calls function with a pointer to the first of a graph's distances, in their own type.
template <class Function>
inline void with_distances(const RaggedProblem& problem, int64_t pair, const Function& function) {
  if (problem.distance == nullptr) return function(static_cast<const None*>(nullptr));
  switch (problem.distance_dtype) {
    case DType::i8:
      return function(static_cast<const int8_t*>(problem.distance) + pair);
    case DType::i16:
      return function(static_cast<const int16_t*>(problem.distance) + pair);
    default:
      return function(static_cast<const int32_t*>(problem.distance) + pair);
  }
}

// What the scores of a block become: scaled, decayed, dropped. Functions that loop over them take a copy, which no
// store can change.
template <class A, class D>
struct Block {
  static constexpr int W = kLanes<A>;
  static constexpr bool kDecays = !std::is_same_v<D, None>;
  using V = Floats<A>;

  int64_t rows, n, stride;
  const D *distance, *distance_end;  // [rows, n] and more, unless D is None
  std::conditional_t<kDecays, HeadDecay<A>, None> decay;
  A scale;
  const uint8_t* kept;  // null without dropout
  int64_t kept_stride;
  int bit;

  GATTN_INLINE Integers<A> distances(int64_t row, int64_t key) const {
    if constexpr (kDecays)
      return load_distances<A>(distance + row * n + key, distance_end);
    else
      return Integers<A>{};
  }
  // decay * scale
  GATTN_INLINE V factor(Integers<A> far) const {
    if constexpr (kDecays)
      return decay.at(far);
    else
      return splat<A, W>(scale);
  }
  GATTN_INLINE V keep(V values, int64_t row, int64_t key) const {
    const auto bits = load_integers<A>(kept + row * kept_stride + key) & (Integers<A>{} + (1 << bit));
    return bits != 0 ? values : V{};
  }
  // values in the lanes of keys, `other` in those beyond the last
  GATTN_INLINE V only_keys(V values, int64_t key, A other) const {
    Integers<A> lane{};
    for (int l = 0; l < W; ++l) lane[l] = l;
    return lane < Integers<A>{} + static_cast<int32_t>(n - key) ? values : splat<A, W>(other);
  }
};

// What all tasks of a call share.
template <class A>
struct Ragged {
  const RaggedProblem& problem;
  int64_t heads, channels, width;  // width: channels in whole vectors
  Rows<A> q, k, v;
  DecayTables<A> decay;
  Dropout<A> dropout;

  explicit Ragged(const RaggedProblem& p)
      : problem(p),
        heads(p.heads),
        channels(p.channels),
        width(whole_vectors<A>(p.channels)),
        q(p.q, p.dtype, heads, channels),
        k(p.k, p.dtype, heads, channels),
        v(p.v, p.dtype, heads, channels),
        decay(p),
        dropout(p.dropout_p, p.seed) {}

  // Calls function(head, heads) for the heads of a panel whose rows are copied together.
  template <class Function>
  static void for_head_groups(const Panel& panel, const Function& function) {
    const int64_t most = panel.sums < 0 ? kHeadsAtOnce : 1;
    for (int64_t head = panel.head_begin; head < panel.head_end; head += most)
      function(head, panel.head_end - head < most ? panel.head_end - head : most);
  }

  // The h-th of the heads that copy_rows() has copied, `count` rows each.
  HeadRows<A> rows_of(const A* copied, int64_t count, int64_t h) const { return {copied + h * count * width, width}; }

  // Dropout's bits for the panel's rows and the four heads from `head` on, drawn at the first of them; null without
  // dropout.
  const uint8_t* draw(const Panel& panel, int64_t head, uint8_t* room) const {
    if (!dropout.active()) return nullptr;
    if (head != panel.head_begin && head % kHeadsAtOnce != 0) return room;
    const int64_t stride = whole_vectors<A>(panel.n);
    for (int64_t i = 0; i < panel.rows; ++i)
      dropout.draw(EdgeRange{static_cast<uint64_t>(panel.pair + (panel.row_begin + i) * panel.n)}, panel.n,
                   static_cast<uint32_t>(head / kHeadsAtOnce), room + i * stride);
    return room;
  }

  // Calls function(block, row) for the blocks of a panel's queries, `row` counted from the panel's first.
  template <class Function>
  void for_blocks(const Panel& panel, int64_t head, const uint8_t* kept, const Function& function) const {
    const int64_t stride = block_stride<A>(panel.n), most = block_rows<A>(panel.n);
    const int64_t kept_stride = whole_vectors<A>(panel.n);
    const int64_t rest = problem.batch.pair[problem.batch.graphs] - panel.pair;
    with_distances(problem, panel.pair, [&](const auto* distance) {
      using D = std::remove_cv_t<std::remove_reference_t<decltype(*distance)>>;
      Block<A, D> block{0,
                        panel.n,
                        stride,
                        nullptr,
                        nullptr,
                        {},
                        static_cast<A>(problem.scale),
                        nullptr,
                        kept_stride,
                        static_cast<int>(head % kHeadsAtOnce)};
      if constexpr (Block<A, D>::kDecays) {
        block.decay = decay.of(head);
        block.distance_end = distance + rest;
      }
      for (int64_t row = 0; row < panel.rows; row += most) {
        block.rows = panel.rows - row < most ? panel.rows - row : most;
        if constexpr (Block<A, D>::kDecays) block.distance = distance + (panel.row_begin + row) * panel.n;
        if (kept) block.kept = kept + row * kept_stride;
        function(block, row);
      }
    });
  }
};

}  // namespace gattn::cpu::GATTN_ISA

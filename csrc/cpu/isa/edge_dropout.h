// Dropout of the attention weights of a graph's edges.
#pragma once

#include "dropout.h"
#include "heads.h"
#include "row_driver.h"

namespace gattn::cpu::GATTN_ISA {

// In the order of some slots. Most rows are shorter than the generator's vectors, so a worker draws ahead of its row,
// for the rows that follow.
template <class A>
class EdgeDropout {
 public:
  EdgeDropout(const Problem& problem, const Index edge_id)
      : dropout_(problem.dropout_p, problem.seed),
        edge_id_(edge_id),
        edges_(adjacency(problem).num_edges),
        heads_(problem.heads),
        groups_((problem.heads + 3) / 4),
        drawn_(active() ? problem.threads : 0),
        kept_(active() ? problem.threads * groups_ * kRoom : 0) {
    if (!active()) return;
    for (int worker = 0; worker < problem.threads; ++worker) drawn_[worker] = {};
    for (int bits = 0; bits < 16; ++bits)
      for (int b = 0; b < 4; ++b) factors_[bits][b] = bits >> b & 1 ? dropout_.scale : A{0};
  }

  bool active() const { return dropout_.active(); }

  // The bits of some slots, no more than a piece has, for apply(); good until the worker's next call.
  const uint8_t* draw(int64_t slot, int64_t edges, int worker) const {
    Drawn& drawn = drawn_[worker];
    uint8_t* kept = kept_.get() + worker * groups_ * kRoom;
    if (slot < drawn.begin || slot + edges > drawn.end) {
      const int64_t most = edges > kAhead ? edges : kAhead;
      drawn = {slot, slot + most < edges_ ? slot + most : edges_};
      for (int64_t group = 0; group < groups_; ++group)
        dropout_.draw(EdgeList{edge_id_ + slot}, drawn.end - slot, static_cast<uint32_t>(group), kept + group * kRoom);
    }
    return kept + (slot - drawn.begin);
  }

  // to[k, h] = from[k, h] times its factor, 0 or 1 / (1 - p).
  void apply(const uint8_t* kept, int64_t edges, const A* from, A* to) const {
    with_heads<A>(heads_, [&](auto heads) {
      constexpr int W = decltype(together(heads))::value;
      for (int64_t h = 0; h < heads; h += W) {
        const uint8_t* bits = kept + h / 4 * kRoom;
        for (int64_t k = 0; k < edges; ++k)
          store<W>(to + k * heads + h, load<W>(from + k * heads + h) * load<W>(factors_[bits[k]] + h % 4));
      }
    });
  }

 private:
  struct alignas(kCacheLine) Drawn {
    int64_t begin = 0, end = 0;
  };
  static constexpr int64_t kAhead = 256, kRoom = kPieceEdges + 64;  // edges; whole vectors are written

  static constexpr int at_most_four(int64_t heads) { return heads < 4 ? static_cast<int>(heads) : 4; }
  template <int64_t H>
  static Width<at_most_four(H)> together(Heads<H>);
  static Width<1> together(int64_t);

  Dropout<A> dropout_;
  Index edge_id_;
  int64_t edges_, heads_, groups_;  // groups of four heads, whose bits come from the same random words
  Buffer<Drawn> drawn_;             // by worker
  Buffer<uint8_t> kept_;            // [workers, groups, kRoom]
  A factors_[16][4];                // by the bits
};

}  // namespace gattn::cpu::GATTN_ISA

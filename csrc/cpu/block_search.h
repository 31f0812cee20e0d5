// Hop counts of larger graphs: all sources search at once, for a block of targets.
//
// What node i reaches in d hops is what its out-neighbours reach in d - 1, and i has not seen.
#pragma once

#include <algorithm>
#include <cstdint>

#include "buffer.h"
#include "distance_planes.h"
#include "graph_batch.h"

namespace gattn::cpu {
namespace {

// What a worker keeps from search to search of graphs of up to `nodes` nodes and `words` words a set, all nodes' sets
// together. Allocated before there are threads: one could not report a lack of memory.
struct Scratch {
  Scratch(int64_t nodes, int64_t words, int planes)
      : front(words),
        next(words),
        seen(words),
        distance(words * planes),
        active(nodes + 1),
        found(nodes + 1),
        open(nodes),
        marked(nodes) {}
  Buffer<uint64_t> front, next, seen, distance;
  Buffer<uint16_t> active, found, open;
  Buffer<uint8_t> marked;
};

// All pairs of a graph's nodes and of up to 64 * Words targets.
template <int Words>
class BlockSearch {
 public:
  BlockSearch(const Scratch& scratch, Neighbours outgoing, Neighbours incoming, int64_t nodes)
      : outgoing_(outgoing),
        incoming_(incoming),
        nodes_(nodes),
        front_(scratch.front.get()),
        next_(scratch.next.get()),
        seen_(scratch.seen.get()),
        distance_(scratch.distance.get()),
        active_(scratch.active.get()),
        found_(scratch.found.get()),
        open_(scratch.open.get()),
        marked_(scratch.marked.get()) {}

  void run(int64_t first_target, int64_t targets, int64_t unreachable, int16_t* out) {
    begin(first_target, targets);
    for (int64_t hop = 1; hop < unreachable && num_open_ > 0; ++hop) {
      choose_planes(hop);
      // Edges are read where there may be something new, or from where it comes, whichever are fewer.
      const int64_t found = num_active_ * 4 < num_open_ ? push() : pull();
      if (found == 0) break;
      for (int64_t a = 0; a < num_active_; ++a)
        for (int w = 0; w < Words; ++w) front_[active_[a] * Words + w] = 0;
      std::swap(front_, next_);
      std::swap(active_, found_);
      num_active_ = found;
    }
    for (int64_t i = 0; i < nodes_; ++i)
      for (int64_t w = 0; w < Words && w * kBits < targets_; ++w) {
        const int64_t at = i * Words + w;
        unpack(distance_ + at, num_planes_, nodes_ * Words, all_[w] & ~seen_[at], static_cast<int16_t>(unreachable),
               std::min(kBits, targets_ - w * kBits), out + i * nodes_ + first_target + w * kBits);
      }
  }

 private:
  void begin(int64_t first_target, int64_t targets) {
    targets_ = targets;
    for (int w = 0; w < Words; ++w) all_[w] = ones(std::max<int64_t>(targets_ - w * kBits, 0));
    for (uint64_t* sets : {front_, next_, seen_}) std::fill(sets, sets + nodes_ * Words, 0);
    std::fill(marked_, marked_ + nodes_, 0);
    for (int64_t t = 0; t < targets_; ++t) {
      const int64_t node = first_target + t, word = node * Words + t / kBits;
      front_[word] = seen_[word] = uint64_t{1} << (t % kBits);
      active_[t] = static_cast<uint16_t>(node);
    }
    for (int64_t i = 0; i < nodes_; ++i) open_[i] = static_cast<uint16_t>(i);
    num_active_ = targets_;
    num_open_ = nodes_;
    num_planes_ = 0;
  }

  // The planes where distance `hop` has a one; there is one plane more for every power of two.
  void choose_planes(int64_t hop) {
    const int64_t words = nodes_ * Words;
    if (hop >> num_planes_) {
      std::fill(distance_ + num_planes_ * words, distance_ + (num_planes_ + 1) * words, 0);
      ++num_planes_;
    }
    num_chosen_ = 0;
    for (int p = 0; p < num_planes_; ++p)
      if (hop >> p & 1) chosen_[num_chosen_++] = distance_ + p * words;
  }

  // Takes in what node i reaches, less what it has seen; returns whether that is anything.
  bool settle(int64_t i, uint64_t* sum) {
    uint64_t *seen = seen_ + i * Words, *next = next_ + i * Words, any = 0;
    for (int w = 0; w < Words; ++w) {
      sum[w] &= ~seen[w];
      any |= sum[w];
    }
    for (int w = 0; w < Words; ++w) next[w] = sum[w];
    if (any == 0) return false;
    for (int w = 0; w < Words; ++w) seen[w] |= sum[w];
    for (int c = 0; c < num_chosen_; ++c)
      for (int w = 0; w < Words; ++w) chosen_[c][i * Words + w] |= sum[w];
    return true;
  }

  // Every node that misses targets asks its out-neighbours.
  int64_t pull() {
    int64_t still_open = 0, found = 0;
    for (int64_t o = 0; o < num_open_; ++o) {
      const int64_t i = open_[o];
      uint64_t sum[Words] = {}, missing = 0;
      for (int64_t e = outgoing_.begin[i], end = outgoing_.begin[i + 1]; e < end; ++e) {
        const uint64_t* from = front_ + outgoing_.other[e] * Words;
        for (int w = 0; w < Words; ++w) sum[w] |= from[w];
      }
      found_[found] = static_cast<uint16_t>(i);
      found += settle(i, sum);
      for (int w = 0; w < Words; ++w) missing |= all_[w] & ~seen_[i * Words + w];
      open_[still_open] = static_cast<uint16_t>(i);
      still_open += missing != 0;
    }
    num_open_ = still_open;
    return found;
  }

  // Every node with news tells its in-neighbours.
  int64_t push() {
    int64_t told = 0, found = 0;
    for (int64_t a = 0; a < num_active_; ++a) {
      const int64_t k = active_[a];
      const uint64_t* from = front_ + k * Words;
      for (int64_t e = incoming_.begin[k], end = incoming_.begin[k + 1]; e < end; ++e) {
        const uint16_t i = incoming_.other[e];
        found_[told] = i;  // one beyond the last node where all are marked
        told += !marked_[i];
        marked_[i] = 1;
        for (int w = 0; w < Words; ++w) next_[i * Words + w] |= from[w];
      }
    }
    for (int64_t t = 0; t < told; ++t) {
      const uint16_t i = found_[t];
      marked_[i] = 0;
      found_[found] = i;
      found += settle(i, next_ + i * Words);
    }
    return found;
  }

  const Neighbours outgoing_, incoming_;
  const int64_t nodes_;
  uint64_t *front_, *next_, *const seen_, *const distance_;
  uint16_t *active_, *found_;  // the nodes that have something in front_, and in next_
  uint16_t* const open_;       // the nodes that may miss targets
  uint8_t* const marked_;
  int64_t num_active_ = 0, num_open_ = 0, targets_ = 0;
  uint64_t* chosen_[16];
  int num_planes_ = 0, num_chosen_ = 0;
  uint64_t all_[Words];
};

}  // namespace
}  // namespace gattn::cpu

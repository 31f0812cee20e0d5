// Hop counts of graphs of at most 64 nodes: all sources search at once, a word a node.
#pragma once

#include <algorithm>
#include <cstdint>

#include "distance_planes.h"
#include "graph_batch.h"

namespace gattn::cpu {
namespace {

// What every node reaches in one hop more: what it and its neighbours have reached. Returns whether that is news to
// any. Width is the number of neighbours, 0 if it is not known before.
template <int Width>
bool advance(const uint8_t* neighbour, int width, int64_t nodes, const uint64_t* reached, uint64_t* next,
             uint64_t* fresh) {
  if (Width > 0) width = Width;
  uint64_t any = 0;
  for (int64_t i = 0; i < nodes; ++i, neighbour += width) {
    uint64_t sum = reached[i];
    for (int w = 0; w < width; ++w) sum |= reached[neighbour[w]];
    next[i] = sum;
    fresh[i] = sum ^ reached[i];
    any |= fresh[i];
  }
  return any != 0;
}

// All pairs of a graph of at most 64 nodes. Every node has as many neighbours as the one with the most, itself in the
// place of those it lacks: loops of one length are predicted, which saves more than they cost.
inline void search_small(const LocalEdge* edge, const LocalEdge* last, int64_t nodes, int64_t unreachable,
                         int16_t* out) {
  uint64_t neighbours[kBits] = {};
  for (; edge < last; ++edge) neighbours[edge->src] |= uint64_t{1} << edge->dst;
  int width = 0;
  for (int64_t i = 0; i < nodes; ++i) width = std::max(width, __builtin_popcountll(neighbours[i]));
  uint8_t table[kBits * kBits];
  for (int64_t i = 0; i < nodes; ++i) {
    uint8_t* entry = table + i * width;
    uint64_t left = neighbours[i];
    for (int w = 0; w < width; ++w, left &= left - 1) entry[w] = static_cast<uint8_t>(left ? __builtin_ctzll(left) : i);
  }
  const auto hop_once = width == 1   ? advance<1>
                        : width == 2 ? advance<2>
                        : width == 3 ? advance<3>
                        : width == 4 ? advance<4>
                                     : advance<0>;

  uint64_t buffers[2][kBits], fresh[kBits], planes[6][kBits];
  uint64_t *reached = buffers[0], *next = buffers[1];
  for (int64_t i = 0; i < nodes; ++i) reached[i] = uint64_t{1} << i;
  int num_planes = 0;
  for (int64_t hop = 1; hop < unreachable && hop_once(table, width, nodes, reached, next, fresh); ++hop) {
    if (hop >> num_planes) std::fill(planes[num_planes], planes[num_planes] + nodes, 0), ++num_planes;
    for (int p = 0; p < num_planes; ++p)
      if (hop >> p & 1)
        for (int64_t i = 0; i < nodes; ++i) planes[p][i] |= fresh[i];
    std::swap(reached, next);
  }
  for (int64_t i = 0; i < nodes; ++i)
    unpack(&planes[0][i], num_planes, kBits, ones(nodes) & ~reached[i], static_cast<int16_t>(unreachable), nodes,
           out + i * nodes);
}

}  // namespace
}  // namespace gattn::cpu

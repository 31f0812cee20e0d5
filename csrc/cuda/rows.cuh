// Which rows, edges, heads and channels a thread has.
#pragma once

#include "arguments.h"
#include "storage.cuh"

namespace gattn::cuda {

// Heads and channels. A thread has N channels of one head of a tile, in pieces of V neighbouring ones.
template <int V, int N>
struct Place {
  int64_t head, heads, channels;
  int lane, lanes;  // of those that share a head
  int tile, tiles;
  int slot, slots;  // of those that have the same heads in a warp
  bool head_exists;

  __device__ explicit Place(const Arguments& a)
      : heads(a.heads), channels(a.channels), lanes(a.layout.lanes), tiles(a.layout.tiles) {
    const int thread = static_cast<int>(threadIdx.x) % kWarp, span = lanes * a.layout.heads;
    const int block = static_cast<int>(blockIdx.y) / tiles;
    tile = static_cast<int>(blockIdx.y) % tiles;
    lane = thread % lanes;
    slot = thread / span;
    slots = kWarp / span;
    head = static_cast<int64_t>(block) * a.layout.heads + thread % span / lanes;
    head_exists = head < heads;
  }
  __device__ int64_t channel(int piece, int of_tile) const {
    return ((static_cast<int64_t>(of_tile) * (N / V) + piece) * lanes + lane) * V;
  }
  // Of what a head has one number of, one thread of one block is the writer.
  __device__ bool writes_heads() const { return head_exists && lane == 0 && tile == 0; }
  __device__ int64_t at(int64_t row) const { return row * heads + head; }
};

// A row, or a hub's chunk of one, and this thread's share of its edges.
struct Row {
  int64_t node = 0, begin = 0, end = 0;
  int64_t part = 0;     // where a chunk's partial result goes
  bool exists = false;  // numbers of blocks are upper bounds
  bool first = false;   // it has its node's first edges: it adds what is there once a node
  int slot = 0, slots = 1;
  bool block = false;  // all the block's threads have this row
};

// The `number`-th block of rows: a row to every slot of a warp in the group of small ones, else one to the block.
template <int V, int N>
__device__ Row find_row(const Walk& walk, const Place<V, N>& at, int64_t number) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t hubs = walk.counts[0];
  Row row;
  if (walk.group == Group::chunk) {
    row.exists = number < walk.counts[1];
    if (row.exists) {
      const int64_t hub = walk.chunk_hub[number], piece = number - walk.chunk_ptr[hub];
      row.node = walk.order[hub];
      row.begin = walk.ptr[row.node] + piece * walk.chunk;
      row.end = min(row.begin + walk.chunk, walk.ptr[row.node + 1]);
      row.first = piece == 0;
    }
  } else {
    int64_t count = hubs, begin = 0;
    if (walk.group == Group::middle) {
      count = walk.counts[2], begin = hubs;
    } else if (walk.group == Group::small) {
      number = (number * kWarps + warp) * at.slots + at.slot;
      count = walk.counts[3], begin = hubs + walk.counts[2];
    }
    row.exists = row.first = number < count;
    if (row.exists) {
      row.node = walk.order[begin + number];
      row.begin = walk.ptr[row.node];
      row.end = walk.ptr[row.node + 1];
    }
  }
  row.part = number;
  row.block = walk.group != Group::small;
  if (row.block) row.slot = warp * at.slots + at.slot, row.slots = kWarps * at.slots;
  return row;
}

// Whether any thread of the warp goes on: the exchanges inside a loop over edges take the whole warp.
__device__ __forceinline__ bool any(bool inside) { return __any_sync(0xffffffffu, inside); }

}  // namespace gattn::cuda

// Walks the rows of a CSR in parallel: light rows whole, heavy rows in segments that any thread may take.
#pragma once

#include "../buffer.h"
#include "../kernels.h"
#include "../parallel.h"
#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

constexpr int64_t kRowCost = 4;          // what starting a row costs, in edges
constexpr int64_t kTaskCost = 1 << 12;   // the least work worth handing out
constexpr int64_t kTasksPerThread = 16;  // enough to even out what the cost model gets wrong

// First row whose work, counted from row 0, reaches `work`.
template <class I>
inline int64_t row_at_work(const I* pointer, int64_t rows, int64_t work) {
  int64_t low = 0, high = rows;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (static_cast<int64_t>(pointer[middle]) + kRowCost * middle < work)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// Distance between the states that finish() is given.
template <class A>
constexpr int64_t state_stride(int64_t state_size) {
  return (state_size + kLanes<A> - 1) / kLanes<A> * kLanes<A>;
}

// For every row: partial(row, begin, end, state, worker) over one or more pieces of its slots, each with a state of
// `state_size` numbers of its own, then finish(row, states, count, worker) once, with the states in slot order.
// The pieces depend on the graph alone, so the results are the same for any number of threads.
template <class A, class I, class Partial, class Finish>
void for_each_row(const I* pointer, int64_t rows, int64_t state_size, int threads, const Partial& partial,
                  const Finish& finish) {
  if (rows == 0) return;
  const int64_t edges = pointer[rows];
  const int64_t work = edges + kRowCost * rows;
  int64_t tasks = threads <= 1 ? 1 : work / kTaskCost + 1;
  if (tasks > threads * kTasksPerThread) tasks = threads * kTasksPerThread;

  const int64_t stride = state_stride<A>(state_size);
  Buffer<A> states(stride * threads);
  Buffer<int64_t> hubs(edges / kHubDegree + 1);
  std::atomic<int64_t> hub_count{0};
  parallel_tasks(tasks, threads, [&](int64_t task, int worker) {
    const int64_t begin = row_at_work(pointer, rows, work * task / tasks);
    const int64_t end = task + 1 == tasks ? rows : row_at_work(pointer, rows, work * (task + 1) / tasks);
    A* state = states.get() + stride * worker;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = pointer[row], last = pointer[row + 1];
      if (last - first > kHubDegree) {
        hubs[hub_count.fetch_add(1, std::memory_order_relaxed)] = row;
        continue;
      }
      partial(row, first, last, state, worker);
      finish(row, state, 1, worker);
    }
  });

  const int64_t count = hub_count.load();
  if (count == 0) return;
  Buffer<int64_t> first_segment(count + 1);
  first_segment[0] = 0;
  for (int64_t hub = 0; hub < count; ++hub) {
    const int64_t degree = pointer[hubs[hub] + 1] - pointer[hubs[hub]];
    first_segment[hub + 1] = first_segment[hub] + (degree + kSegmentEdges - 1) / kSegmentEdges;
  }
  Buffer<A> segments(stride * first_segment[count]);
  parallel_tasks(first_segment[count], threads, [&](int64_t segment, int worker) {
    int64_t hub = 0, high = count;  // the last hub that starts at or before this segment
    while (high - hub > 1) {
      const int64_t middle = (hub + high) / 2;
      (first_segment[middle] <= segment ? hub : high) = middle;
    }
    const int64_t row = hubs[hub], row_end = pointer[row + 1];
    const int64_t begin = pointer[row] + (segment - first_segment[hub]) * kSegmentEdges;
    const int64_t end = begin + kSegmentEdges < row_end ? begin + kSegmentEdges : row_end;
    partial(row, begin, end, segments.get() + stride * segment, worker);
  });
  parallel_tasks(count, threads, [&](int64_t hub, int worker) {
    finish(hubs[hub], segments.get() + stride * first_segment[hub], first_segment[hub + 1] - first_segment[hub],
           worker);
  });
}

// For work that needs no sums: piece(row, begin, end, worker) over pieces of at most kSegmentEdges slots.
template <class I, class Piece>
void for_each_piece(const I* pointer, int64_t rows, int threads, const Piece& piece) {
  const int64_t edges = rows > 0 ? static_cast<int64_t>(pointer[rows]) : 0;
  const int64_t tasks = (edges + kSegmentEdges - 1) / kSegmentEdges;
  parallel_tasks(tasks, threads, [&](int64_t task, int worker) {
    int64_t begin = task * kSegmentEdges;
    const int64_t end = begin + kSegmentEdges < edges ? begin + kSegmentEdges : edges;
    int64_t low = 0, high = rows;  // the row that holds slot `begin`
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (static_cast<int64_t>(pointer[middle]) <= begin ? low : high) = middle;
    }
    for (int64_t row = low; begin < end; ++row) {
      const int64_t row_end = pointer[row + 1] < end ? static_cast<int64_t>(pointer[row + 1]) : end;
      if (row_end > begin) piece(row, begin, row_end, worker);
      begin = row_end > begin ? row_end : begin;
    }
  });
}

}  // namespace gattn::cpu::GATTN_ISA

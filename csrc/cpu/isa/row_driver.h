// Walks the rows of a CSR in parallel: light rows whole, heavy rows in segments that any thread may take.
#pragma once

#include "../buffer.h"
#include "../kernels.h"
#include "../parallel.h"
#include "vec.h"

namespace gattn::cpu::GATTN_ISA {

constexpr int64_t kPieceEdges = kHubDegree > kSegmentEdges ? kHubDegree : kSegmentEdges;  // the most a step is given
constexpr int64_t kRowCost = 4;         // what starting a row costs, in edges
constexpr int64_t kTaskCost = 1 << 12;  // the least work worth handing out
constexpr int64_t kMaxTasks = 256;      // enough to even out what the cost model gets wrong
constexpr int64_t kHubGroups = 64;      // the like for the ends of heavy rows

// First row whose work, counted from row 0, reaches `work`.
inline int64_t row_at_work(const Index pointer, int64_t rows, int64_t work) {
  int64_t low = 0, high = rows;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (pointer[middle] + kRowCost * middle < work)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// Distance between the states that finish() is given.
template <class A>
constexpr int64_t state_stride(int64_t state_size) {
  return whole_lines<A>(state_size);
}

// Who calls: the thread, and the group of rows. A group's rows are handled one after the other by one thread, and
// groups depend on the graph alone, so sums kept one a group and added up in order are the same for any thread count.
// To the partial step of heavy rows each segment is a group of its own, beyond those of finish().
constexpr int64_t kNoGroup = -1;  // of work that adds nothing up
struct Caller {
  int worker;
  int64_t group;
  operator int() const { return worker; }
};

inline int64_t row_tasks(const Index pointer, int64_t rows) {
  const int64_t tasks = rows > 0 ? (pointer[rows] + kRowCost * rows) / kTaskCost + 1 : 0;
  return tasks < kMaxTasks ? tasks : kMaxTasks;
}
inline int64_t row_groups(const Index pointer, int64_t rows) { return row_tasks(pointer, rows) + kHubGroups; }
// No fewer than there are groups of any step.
inline int64_t partial_groups(const Index pointer, int64_t rows) {
  const int64_t segments = rows > 0 ? 2 * pointer[rows] / kSegmentEdges : 0;  // a heavy row has more than two
  return row_groups(pointer, rows) + segments;
}

// One step over a row: partial(row, begin, end, state, caller) over one or more pieces of its slots, each with a state
// of its own, then finish(row, states, count, caller) once, with the states in slot order.
template <class Partial, class Finish>
struct Step {
  const Partial& partial;
  const Finish& finish;
};
template <class Partial, class Finish>
Step(const Partial&, const Finish&) -> Step<Partial, Finish>;

// Rows too heavy for one thread: their list, in order, and the segments they are cut into.
template <class A>
struct Hubs {
  const Index pointer;
  int64_t count, stride;
  Buffer<int64_t> rows, first_segment;
  Buffer<A> states;

  Hubs(const Index pointer_, int64_t rows_, int64_t stride_)
      : pointer(pointer_),
        count(0),
        stride(stride_),
        rows(count_hubs(rows_)),
        first_segment(count + 1),
        states(cut(rows_)) {}

  template <class OneStep>
  void run(const OneStep& step, int threads, int64_t first_group) const {
    parallel_tasks(first_segment[count], threads, [&](int64_t segment, int worker) {
      int64_t hub = 0, high = count;  // the last hub that starts at or before this segment
      while (high - hub > 1) {
        const int64_t middle = (hub + high) / 2;
        (first_segment[middle] <= segment ? hub : high) = middle;
      }
      const int64_t row = rows[hub], row_end = pointer[row + 1];
      const int64_t begin = pointer[row] + (segment - first_segment[hub]) * kSegmentEdges;
      const int64_t end = begin + kSegmentEdges < row_end ? begin + kSegmentEdges : row_end;
      step.partial(row, begin, end, states.get() + stride * segment,
                   Caller{worker, first_group + kHubGroups + segment});
    });
    const int64_t groups = count < kHubGroups ? count : kHubGroups;
    parallel_tasks(groups, threads, [&](int64_t group, int worker) {
      for (int64_t hub = count * group / groups; hub < count * (group + 1) / groups; ++hub)
        step.finish(rows[hub], states.get() + stride * first_segment[hub], first_segment[hub + 1] - first_segment[hub],
                    Caller{worker, first_group + group});
    });
  }

 private:
  bool heavy(int64_t row) const { return pointer[row + 1] - pointer[row] > kHubDegree; }
  int64_t count_hubs(int64_t all) {
    for (int64_t row = 0; row < all; ++row) count += heavy(row);
    return count;
  }
  int64_t cut(int64_t all) {
    int64_t hub = 0;
    first_segment[0] = 0;
    for (int64_t row = 0; hub < count && row < all; ++row)
      if (heavy(row)) {
        const int64_t degree = pointer[row + 1] - pointer[row];
        rows[hub] = row;
        first_segment[hub + 1] = first_segment[hub] + (degree + kSegmentEdges - 1) / kSegmentEdges;
        ++hub;
      }
    return stride * first_segment[count];
  }
};

// Takes every row through the steps, in order. The pieces and groups depend on the graph alone, so the results are
// the same for any number of threads.
template <class A, class... Steps>
void for_each_row(const Index pointer, int64_t rows, int64_t state_size, int threads, const Steps&... steps) {
  if (rows == 0) return;
  const int64_t work = pointer[rows] + kRowCost * rows, tasks = row_tasks(pointer, rows);
  const int64_t stride = state_stride<A>(state_size);
  Buffer<A> states(stride * threads);
  parallel_tasks(tasks, threads, [&](int64_t task, int worker) {
    const int64_t begin = row_at_work(pointer, rows, work * task / tasks);
    const int64_t end = task + 1 == tasks ? rows : row_at_work(pointer, rows, work * (task + 1) / tasks);
    A* state = states.get() + stride * worker;
    const Caller caller{worker, task};
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = pointer[row], last = pointer[row + 1];
      if (last - first > kHubDegree) continue;
      ((steps.partial(row, first, last, state, caller), steps.finish(row, state, 1, caller)), ...);
    }
  });
  const Hubs<A> hubs(pointer, rows, stride);
  if (hubs.count > 0) (hubs.run(steps, threads, tasks), ...);
}

// For work that needs no sums: piece(row, begin, end, worker) over pieces of at most kSegmentEdges slots.
template <class Piece>
void for_each_piece(const Index pointer, int64_t rows, int threads, const Piece& piece) {
  const int64_t edges = rows > 0 ? pointer[rows] : 0;
  const int64_t tasks = (edges + kSegmentEdges - 1) / kSegmentEdges;
  parallel_tasks(tasks, threads, [&](int64_t task, int worker) {
    int64_t begin = task * kSegmentEdges;
    const int64_t end = begin + kSegmentEdges < edges ? begin + kSegmentEdges : edges;
    int64_t low = 0, high = rows;  // the row that holds slot `begin`
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (pointer[middle] <= begin ? low : high) = middle;
    }
    for (int64_t row = low; begin < end; ++row) {
      const int64_t row_end = pointer[row + 1] < end ? pointer[row + 1] : end;
      if (row_end > begin) piece(row, begin, row_end, worker);
      begin = row_end > begin ? row_end : begin;
    }
  });
}

}  // namespace gattn::cpu::GATTN_ISA

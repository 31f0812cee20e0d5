// Gathers an attention's activations, a row an edge, while its rows go by, and takes their statistics as soon as there
// is a vector full of them: they never leave the caches.
#pragma once

#include "row_driver.h"
#include "row_statistics.h"
#include "rows.h"

namespace gattn::cpu::GATTN_ISA {

template <class A>
class Collector {
 public:
  static constexpr int W = kLanes<A>;

  // For a tap that wants nothing it takes no memory, and must not be used.
  Collector(const ActivationTap& tap, int64_t edges, int64_t width, int threads, int64_t groups)
      : threads_(tap.outputs.sums ? threads : 0),
        width_(width),
        statistics_(tap.outputs.sums ? edges : 0, width, tap.limits, tap.outputs, threads_,
                    tap.outputs.sums ? groups : 0),
        room_size_(whole_lines<A>((W + kRowsAtOnce - 1) * width + W)),  // the last row is read beyond its end
        rows_(threads_ * room_size_),
        pending_(threads_) {
    for (int64_t i = 0; i < threads_ * room_size_; ++i) rows_[i] = 0;
    for (int worker = 0; worker < threads_; ++worker) pending_[worker] = Pending();
  }

  // Room for the activations of kRowsAtOnce edges, one row after the other, of which add() then takes the first.
  A* room(const Caller& caller) const {
    Pending& pending = pending_[caller.worker];
    if (pending.count > 0 && pending.group != caller.group) flush(caller.worker);
    pending.group = caller.group;
    return row_of(caller.worker, pending.count);
  }
  void add(const Index edges, int count, const Caller& caller) const {
    Pending& pending = pending_[caller.worker];
    for (int u = 0; u < count; ++u) pending.edges[pending.count + u] = edges[u];
    pending.count += count;
    if (pending.count < W) return;
    int taken = 0;
    for (; taken + W <= pending.count; taken += W) take(caller.worker, taken, W);
    pending.count -= taken;
    memmove(row_of(caller.worker, 0), row_of(caller.worker, taken), pending.count * width_ * sizeof(A));
    for (int u = 0; u < pending.count; ++u) pending.edges[u] = pending.edges[taken + u];
  }

  // Fetches the place of what will be found of an edge.
  void fetch(int64_t edge) const { __builtin_prefetch(statistics_.place(edge), 1); }

  void add_up() const {
    for (int worker = 0; worker < threads_; ++worker)
      if (pending_[worker].count > 0) flush(worker);
    statistics_.add_up();
  }

 private:
  struct alignas(kCacheLine) Pending {
    int64_t edges[W + kRowsAtOnce - 1] = {}, group = 0;
    int count = 0;
  };

  A* row_of(int worker, int64_t i) const { return rows_.get() + worker * room_size_ + i * width_; }
  void take(int worker, int first, int count) const {
    const Pending& pending = pending_[worker];
    statistics_.take(row_of(worker, first), row_of(worker + 1, 0), AnyPlaces{pending.edges + first}, count, worker,
                     pending.group, [] {});
  }
  void flush(int worker) const {
    take(worker, 0, pending_[worker].count);
    pending_[worker].count = 0;
  }

  const int threads_;
  const int64_t width_;
  const RowStatistics<A, A> statistics_;
  const int64_t room_size_;
  const Buffer<A> rows_;
  const Buffer<Pending> pending_;
};

}  // namespace gattn::cpu::GATTN_ISA

// One way to run code on several threads, sharing the pool of the OpenMP runtime that PyTorch has loaded.
#pragma once

#include <atomic>
#include <cstdint>

namespace gattn::cpu {

// Runs body(context, worker) once on each of `workers` threads, the caller among them, and waits for all.
void run_on_workers(int workers, void (*body)(void* context, int worker), void* context);

// Name of the pool in use: "the process's OpenMP runtime" or "std::thread".
const char* pool_name();

// Internal linkage: a copy compiled for one instruction set must not serve the code of another.
namespace {

// Calls function(task, worker) for every task in [0, tasks), handed out one by one to at most `threads` workers.
// Results must not depend on which worker runs a task: that is what makes every kernel deterministic.
template <class Function>
void parallel_tasks(int64_t tasks, int threads, const Function& function) {
  if (threads > tasks) threads = static_cast<int>(tasks);
  if (threads <= 1) {
    for (int64_t task = 0; task < tasks; ++task) function(task, 0);
    return;
  }
  struct Context {
    const Function& function;
    int64_t tasks;
    std::atomic<int64_t> next{0};
  } context{function, tasks};
  run_on_workers(
      threads,
      [](void* opaque, int worker) {
        auto& shared = *static_cast<Context*>(opaque);
        for (int64_t task; (task = shared.next.fetch_add(1, std::memory_order_relaxed)) < shared.tasks;)
          shared.function(task, worker);
      },
      &context);
}

}  // namespace
}  // namespace gattn::cpu

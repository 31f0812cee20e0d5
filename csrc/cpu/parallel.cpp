#include "parallel.h"

#include <dlfcn.h>

#include <thread>
#include <vector>

namespace gattn::cpu {

namespace {

using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

// PyTorch's wheels load an OpenMP runtime with global symbols. Using that very runtime, rather than linking one,
// means that the module's threads are PyTorch's own: two pools would spin against each other for the same cores.
GompParallel openmp_parallel() {
  static const auto entry = reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return entry;
}

struct Team {
  void (*body)(void*, int);
  void* context;
  std::atomic<int> arrived{0};
};

void enter_team(void* opaque) {
  auto& team = *static_cast<Team*>(opaque);
  team.body(team.context, team.arrived.fetch_add(1, std::memory_order_relaxed));
}

}  // namespace

const char* pool_name() { return openmp_parallel() ? "the process's OpenMP runtime" : "std::thread"; }

void run_on_workers(int workers, void (*body)(void*, int), void* context) {
  Team team{body, context};
  if (const auto parallel = openmp_parallel()) {
    parallel(enter_team, &team, static_cast<unsigned>(workers), 0);
    return;
  }
  std::vector<std::thread> others;
  others.reserve(workers - 1);
  for (int i = 1; i < workers; ++i) others.emplace_back(enter_team, &team);
  enter_team(&team);
  for (auto& thread : others) thread.join();
}

}  // namespace gattn::cpu

// Blocks in turn, their threads as fibres; see include/cuda_runtime.h.
#include <cuda_runtime.h>
#include <ucontext.h>

#include <exception>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace gattn::emulation {

namespace {

constexpr size_t kStack = 256 * 1024;  // instrumented code takes a lot

enum class State { ready, at_barrier, at_exchange, ended };

struct Fibre {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  State state = State::ready;
  unsigned mask = 0;
  Exchange kind = Exchange::shuffle;
  uint64_t mine = 0;
  uint64_t values[32] = {};
  void* fake_stack = nullptr;  // AddressSanitizer's
};

std::mt19937_64 order(0);
std::vector<std::unique_ptr<Fibre>> fibres;
ucontext_t scheduler;
size_t current = 0;
const std::function<void()>* body = nullptr;
std::exception_ptr error;
#if defined(__SANITIZE_ADDRESS__)
const void* scheduler_stack = nullptr;
size_t scheduler_size = 0;
#endif

// From a fibre back to the scheduler, until it is this fibre's turn again.
void yield() {
  Fibre& fibre = *fibres[current];
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fibre.state == State::ended ? nullptr : &fibre.fake_stack, scheduler_stack,
                                 scheduler_size);
#endif
  swapcontext(&fibre.context, &scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fibre.fake_stack, &scheduler_stack, &scheduler_size);
#endif
}

void enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
  try {
    (*body)();
  } catch (...) {
    error = std::current_exception();
  }
  fibres[current]->state = State::ended;
  yield();
}

void resume(size_t index) {
  current = index;
  threadIdx = {static_cast<unsigned>(index), 0, 0};
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, fibres[index]->stack.get(), kStack);
#endif
  swapcontext(&scheduler, &fibres[index]->context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

// Lets a barrier go that all threads still running have come to.
bool release_barrier(size_t threads) {
  for (size_t i = 0; i < threads; ++i)
    if (fibres[i]->state != State::at_barrier && fibres[i]->state != State::ended) return false;
  bool waited = false;
  for (size_t i = 0; i < threads; ++i)
    if (fibres[i]->state == State::at_barrier) fibres[i]->state = State::ready, waited = true;
  return waited;
}

void run_block(size_t threads) {
  while (fibres.size() < threads) fibres.push_back(std::make_unique<Fibre>());
  for (size_t i = 0; i < threads; ++i) {
    Fibre& fibre = *fibres[i];
    fibre.state = State::ready;
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = kStack;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, enter, 0);
  }
  std::vector<size_t> ready;
  for (;;) {
    ready.clear();
    for (size_t i = 0; i < threads; ++i)
      if (fibres[i]->state == State::ready) ready.push_back(i);
    if (!ready.empty()) {
      resume(ready[order() % ready.size()]);
      if (error) std::rethrow_exception(std::exchange(error, nullptr));
    } else if (!release_barrier(threads)) {
      for (size_t i = 0; i < threads; ++i)
        if (fibres[i]->state != State::ended) throw Deadlock();
      return;
    }
  }
}

}  // namespace

void set_seed(uint64_t seed) { order.seed(seed); }

void run(dim3 grid, dim3 block, const std::function<void()>& thread) {
  body = &thread;
  gridDim = grid;
  blockDim = block;
  for (unsigned y = 0; y < grid.y; ++y)
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = {x, y, 0};
      run_block(block.x);
    }
}

void exchange(unsigned mask, Exchange kind, uint64_t mine, uint64_t (&values)[32]) {
  const size_t first = current / 32 * 32;
  Fibre& fibre = *fibres[current];
  fibre.mask = mask, fibre.kind = kind, fibre.mine = mine;
  fibre.state = State::at_exchange;
  bool all = (mask >> current % 32 & 1) != 0;
  for (size_t lane = 0; lane < 32 && all; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const Fibre* other = first + lane < blockDim.x ? fibres[first + lane].get() : nullptr;
    all = other != nullptr && other->state == State::at_exchange && other->mask == mask && other->kind == kind;
  }
  if (all) {
    for (size_t lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      Fibre& other = *fibres[first + lane];
      other.state = State::ready;
      for (size_t from = 0; from < 32; ++from)
        other.values[from] = (mask >> from & 1) != 0 ? fibres[first + from]->mine : 0;
    }
  }
  yield();
  std::memcpy(values, fibre.values, sizeof values);
}

}  // namespace gattn::emulation

void __syncthreads() {
  using namespace gattn::emulation;
  fibres[current]->state = State::at_barrier;
  yield();
}

// Blocks in turn, their threads as fibres; see include/cuda_runtime.h.
#include <cuda_runtime.h>

#include <exception>
#include <random>
#include <utility>
#include <vector>

#include "fibre.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace gattn::emulation {

namespace {

constexpr size_t kStack = 256 * 1024;  // instrumented code takes a lot
constexpr size_t kLanes = 32;

struct Thread {
  Fibre fibre{kStack};
  unsigned mask = 0;  // of the exchange it waits at
  Exchange kind = Exchange::shuffle;
  uint64_t mine = 0;
  unsigned from = 0;
  uint64_t found = 0;
};

std::mt19937_64 order(0);
std::vector<Thread> threads;  // as many as the largest block so far had
std::vector<size_t> ready, at_barrier;
std::vector<unsigned> exchanging;  // of each warp, the lanes that wait at an exchange
size_t running = 0, ended = 0;     // threads of this block
size_t current = 0;
Fibre launch;  // the stack of the call that launches
const std::function<void()>* body = nullptr;
std::exception_ptr error;

// The next thread to run, drawn out of `ready`; the launch if all have ended or wait in vain.
Fibre& next() {
  if (ready.empty() && at_barrier.size() + ended == running) ready.swap(at_barrier);
  if (ready.empty() || error) return launch;
  const size_t draw = static_cast<size_t>((order() >> 32) * ready.size() >> 32);
  current = std::exchange(ready[draw], ready.back());
  ready.pop_back();
  threadIdx = {static_cast<unsigned>(current), 0, 0};
  return threads[current].fibre;
}

// Lets others run until it is the current thread's turn again.
void wait() {
  Fibre &self = threads[current].fibre, &other = next();
  if (&other != &self) self.switch_to(other);
}

void run_thread() {
  Fibre& self = threads[current].fibre;
  try {
    (*body)();
  } catch (...) {
    error = std::current_exception();
  }
  ++ended;
  self.end(next());
}

void run_block(size_t size) {
  while (threads.size() < size) threads.emplace_back();
  running = size, ended = 0;
  ready.clear(), at_barrier.clear();
  exchanging.assign((size + kLanes - 1) / kLanes, 0);
  for (size_t i = 0; i < size; ++i) {
    threads[i].fibre.start(run_thread);
    ready.push_back(i);
  }
  launch.switch_to(next());
  if (ended == running && !error) return;
  threads.clear();  // of stacks left in the middle AddressSanitizer would keep marks
  if (error) std::rethrow_exception(std::exchange(error, nullptr));
  throw Deadlock();
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

uint64_t exchange(unsigned mask, Exchange kind, uint64_t mine, unsigned from) {
  const size_t warp = current / kLanes, first = warp * kLanes;
  Thread& self = threads[current];
  self.mask = mask, self.kind = kind, self.mine = mine, self.from = from;
  exchanging[warp] |= 1u << current % kLanes;
  bool all = (mask & ~exchanging[warp]) == 0 && (mask >> current % kLanes & 1) != 0;
  uint64_t any = 0;
  for (size_t lane = 0; lane < kLanes && all; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const Thread& other = threads[first + lane];
    all = other.mask == mask && other.kind == kind;
    any |= other.mine;
  }
  if (all) {
    exchanging[warp] &= ~mask;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      Thread& other = threads[first + lane];
      other.found = kind == Exchange::vote ? any : (mask >> other.from & 1) != 0 ? threads[first + other.from].mine : 0;
      ready.push_back(first + lane);
    }
  }
  wait();
  return self.found;
}

}  // namespace gattn::emulation

void __syncthreads() {
  using namespace gattn::emulation;
  at_barrier.push_back(current);
  wait();
}

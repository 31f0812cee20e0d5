// The core's own test program, free of Python and torch, made to be built with sanitizers (see sanitize.sh).
//
//   gattn_driver THREADS         run the tests with the kernels of GATTN_CPU_ISA
//   gattn_driver --isas          print the instruction sets this machine can run
//   gattn_driver --plant FAULT   commit a fault that the sanitizers of this build must stop
#include <cstring>

#include "check.h"
#include "cpu/kernels.h"
#include "tests.h"

int main(int argc, char** argv) {
  using namespace gattn;
  if (argc == 2 && std::strcmp(argv[1], "--isas") == 0) {
    for (const char* const* isa = cpu::usable_isas(); *isa != nullptr; ++isa) std::puts(*isa);
  } else if (argc == 3 && std::strcmp(argv[1], "--plant") == 0) {
    tests::plant_fault(argv[2]);
  } else {
    const int threads = argc == 2 ? std::atoi(argv[1]) : 0;
    CHECK(threads > 0, "usage: gattn_driver THREADS | --isas | --plant FAULT");
    tests::test_graph(threads);
    tests::test_kernels(threads);
    tests::test_attention(threads);
    tests::test_activation(threads);
    tests::test_shortest_path(threads);
    tests::test_ragged(threads);
    std::printf("core tests passed: %s, %d threads\n", cpu::kernels().name, threads);
  }
  return 0;
}

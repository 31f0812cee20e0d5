// Chooses the kernels for this machine's instruction set, once.
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace gattn::cpu {

namespace baseline {
extern const Kernels table;
}
#if defined(GATTN_VECTOR_ISAS)
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#endif

namespace {

struct Isa {
  const Kernels* kernels;
  bool usable;
};

int all_isas(Isa* isas) {
  int count = 0;
#if defined(GATTN_VECTOR_ISAS)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  isas[count++] = {&avx512::table, has_avx512};
  isas[count++] = {&avx2::table, has_avx2};
#endif
  isas[count++] = {&baseline::table, true};
  return count;
}

const Kernels& choose() {
  Isa isas[3];
  const int count = all_isas(isas);
  const char* wanted = std::getenv("GATTN_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') {
    for (int i = 0; i < count; ++i)
      if (isas[i].usable) return *isas[i].kernels;
  }
  for (int i = 0; i < count; ++i)
    if (isas[i].usable && std::strcmp(isas[i].kernels->name, wanted) == 0) return *isas[i].kernels;
  raise<ValueError>("Expected GATTN_CPU_ISA to name an instruction set this machine has (got '", wanted,
                    "'). Use 'baseline', 'avx2' or 'avx512', or unset it.");
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

const char* const* usable_isas() {
  static const char* names[4] = {};
  if (names[0] == nullptr) {
    Isa isas[3];
    const int count = all_isas(isas);
    int n = 0;
    for (int i = 0; i < count; ++i)
      if (isas[i].usable) names[n++] = isas[i].kernels->name;
  }
  return names;
}

}  // namespace gattn::cpu

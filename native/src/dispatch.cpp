// Which kernels run: the best set that the machine has, unless a test or a bench asks for another.
#include <atomic>
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "isa/kernels.h"
#include "regrain/codec.h"

namespace regrain {
namespace {

#if defined(__x86_64__)
bool has_f16c() {  // older compilers' __builtin_cpu_supports does not know it
  unsigned eax, ebx, ecx = 0, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> sets = {&kPortableKernels};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
      __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") &&
      has_f16c()) {
    sets.push_back(&kAvx2Kernels);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
        __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512vnni"))
      sets.push_back(&kAvx512Kernels);
  }
#endif
  return sets;
}

std::atomic<const Kernels*>& current() {
  static std::atomic<const Kernels*> kernels{available().back()};
  return kernels;
}

}  // namespace

const Kernels& kernels() { return *current().load(std::memory_order_relaxed); }

std::vector<const char*> instruction_sets() {
  std::vector<const char*> names;
  for (const Kernels* set : available()) names.push_back(set->name);
  return names;
}

bool use_instruction_set(const char* name) {
  for (const Kernels* set : available())
    if (std::strcmp(set->name, name) == 0) {
      current().store(set, std::memory_order_relaxed);
      return true;
    }
  return false;
}

const char* instruction_set() { return kernels().name; }

}  // namespace regrain

// Which kernels this file was built with, and which the processor can run.
#include <cstring>
#include <iterator>

#include "kernel.h"
#include "processor.h"

namespace edge_asr {

extern const Kernel kPortable;
#if defined(__x86_64__)
extern const Kernel kAvx512Vnni, kAvx2;
#elif defined(__aarch64__)
extern const Kernel kNeonI8mm, kNeonDot;
#endif

namespace {

const KernelEntry kEntries[] = {
#if defined(__x86_64__)
    {&kAvx512Vnni,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vnni");
     }},
    {&kAvx2, [] { return static_cast<bool>(__builtin_cpu_supports("avx2")); }},
#elif defined(__aarch64__)
    {&kNeonI8mm, has_matrix_products},
    {&kNeonDot, has_dot_products},
#endif
    {&kPortable, [] { return true; }},
};

}  // namespace

const KernelEntry* kernels(int* count) {
  *count = static_cast<int>(std::size(kEntries));
  return kEntries;
}

const Kernel& best_kernel() {
  static const Kernel* best = [] {
    for (const KernelEntry& entry : kEntries)
      if (entry.supported()) return entry.kernel;
    return &kPortable;
  }();
  return *best;
}

const Kernel* find_kernel(const char* name) {
  for (const KernelEntry& entry : kEntries)
    if (std::strcmp(entry.kernel->name, name) == 0 && entry.supported()) return entry.kernel;
  return nullptr;
}

}  // namespace edge_asr

// What an ARM processor can do, as Linux says it. Compilers have __builtin_cpu_supports for x86.
#pragma once

#if defined(__aarch64__)
#include <sys/auxv.h>

// Headers older than the processors lack these; the values are Linux's.
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1UL << 20)
#endif
#ifndef HWCAP2_I8MM
#define HWCAP2_I8MM (1UL << 13)
#endif

namespace edge_asr {

// SDOT and UDOT.
inline bool has_dot_products() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }

// SMMLA and USMMLA.
inline bool has_matrix_products() { return (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0; }

}  // namespace edge_asr
#endif

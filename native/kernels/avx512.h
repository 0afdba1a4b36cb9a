// AVX-512 intrinsics, or for tests on other CPUs their emulation by SIMDe.
#pragma once

#include <immintrin.h>

#ifdef COARSEGRAD_EMULATE_AVX512
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#endif

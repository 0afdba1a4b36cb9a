#include "cpu.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#endif

namespace coarsegrad {

#if defined(__x86_64__) || defined(_M_X64)
namespace {

unsigned long long enabled_state() {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<unsigned long long>(high) << 32) | low;
}

unsigned ask() {
    unsigned a, b, c, d, found = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (c & bit_POPCNT) found |= kPopcnt;
    const bool os_saves_state = c & bit_OSXSAVE;
    if (!os_saves_state) return found;
    const bool fma = c & bit_FMA;
    const unsigned long long state = enabled_state();
    const bool ymm = (state & 0x6) == 0x6;
    const bool zmm = (state & 0xe6) == 0xe6;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    if (ymm && (b & bit_AVX2) && fma) found |= kAvx2;
    const unsigned wide = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if (zmm && (b & wide) == wide) found |= kAvx512bw;
    if (zmm && (b & bit_AVX512F) && (c & bit_AVX512VPOPCNTDQ)) found |= kAvx512vpopcntdq;
    return found;
}

}  // namespace

// A virtual machine answers CPUID in 50 microseconds.
unsigned cpu_features() {
    static const unsigned found = ask();
    return found;
}
#else
unsigned cpu_features() { return 0; }
#endif

}  // namespace coarsegrad

// What this CPU and operating system allow, found by CPUID and XGETBV when first asked for.
#pragma once

namespace coarsegrad {

// A bit is set only when the CPU has the instructions and the system saves their registers.
enum CpuFeature : unsigned {
    kPopcnt = 1u << 0,
    kAvx2 = 1u << 1,
    kAvx512bw = 1u << 2,
    kAvx512vpopcntdq = 1u << 3,
};

unsigned cpu_features();

}  // namespace coarsegrad

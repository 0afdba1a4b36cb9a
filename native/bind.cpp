// The only file that knows Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "cpu.h"

namespace nb = nanobind;

NB_MODULE(_native, m) {
    m.def(
        "cpu_features",
        [] {
            using namespace coarsegrad;
            const unsigned found = cpu_features();
            std::vector<std::string> names;
            if (found & kPopcnt) names.push_back("popcnt");
            if (found & kAvx2) names.push_back("avx2");
            if (found & kAvx512bw) names.push_back("avx512bw");
            if (found & kAvx512vpopcntdq) names.push_back("avx512vpopcntdq");
            return names;
        },
        "The instruction sets for bit kernels that this CPU has and this system allows.");
}

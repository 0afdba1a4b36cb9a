// The door to Python; kernels and preparation know nothing of it.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bind_engine.h"
#include "bind_optim.h"
#include "bind_testing.h"
#include "cpu.h"
#include "dispatch.h"

namespace nb = nanobind;
using namespace coarsegrad;

NB_MODULE(_native, m) {
    m.def(
        "cpu_features",
        [] {
            const unsigned found = cpu_features();
            std::vector<std::string> names;
            if (found & kPopcnt) names.push_back("popcnt");
            if (found & kAvx2) names.push_back("avx2");
            if (found & kAvx512bw) names.push_back("avx512bw");
            if (found & kAvx512vpopcntdq) names.push_back("avx512vpopcntdq");
            return names;
        },
        "The instruction sets for bit kernels that this CPU has and this system allows.");
    m.def(
        "targets",
        [] {
            std::vector<std::tuple<std::string, std::string, bool, std::string>> all;
            for (int i = 0; i < target_count(); ++i) {
                const Target target = target_at(i);
                all.emplace_back(target.name, target.description, target.runs, target.reason);
            }
            return all;
        },
        "(name, description, runs here, why not) of every kernel target, slowest first.");
    bind_engine(m);
    bind_optim(m.def_submodule("optim", "Fused steps of optimizers."));
    bind_testing(m.def_submodule("testing", "Single kernels, for tests and benchmarks."));
}

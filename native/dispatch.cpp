#include "dispatch.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu.h"
#include "kernels/optimtables.h"
#include "kernels/tables.h"

namespace coarsegrad {
namespace {

struct Row {
    const KernelTable* table;
    const OptimTable* optim;
    const char* description;
    unsigned needs;
    const char* missing;
};

// Slowest first.
const Row kRows[] = {
    {&kGenericTable, &kOptimGenericTable, "any CPU: words of bits, no popcount instruction", 0, ""},
#if defined(__x86_64__)
    {&kPopcntTable, &kOptimGenericTable, "64-bit popcount", kPopcnt, "this CPU lacks POPCNT"},
    {&kAvx2Table, &kOptimAvx2Table, "256-bit byte shuffles as lookup tables", kAvx2,
     "this CPU or system lacks AVX2 with FMA"},
    {&kAvx512bwTable, &kOptimAvx512Table, "512-bit byte shuffles as lookup tables", kAvx512bw,
     "this CPU or system lacks AVX512F, BW, DQ and VL"},
    {&kAvx512vpopcntTable, &kOptimAvx512Table, "512-bit popcount", kAvx512bw | kAvx512vpopcntdq,
     "this CPU or system lacks AVX512 VPOPCNTDQ"},
#endif
};

constexpr int kCount = sizeof kRows / sizeof kRows[0];

bool runs_here(const Row& row) {
#ifdef COARSEGRAD_EMULATE_AVX512
    return (row.needs & (kAvx512bw | kAvx512vpopcntdq)) || (row.needs & ~cpu_features()) == 0;
#else
    return (row.needs & ~cpu_features()) == 0;
#endif
}

void list_names(char* text, size_t size) {
    text[0] = 0;
    for (const Row& row : kRows) {
        if (text[0]) std::strncat(text, ", ", size - std::strlen(text) - 1);
        std::strncat(text, row.table->name, size - std::strlen(text) - 1);
    }
}

TableChoice best() {
    TableChoice choice{nullptr, nullptr, ""};
    for (const Row& row : kRows)
        if (runs_here(row)) choice = {row.table, row.optim, ""};
    return choice;
}

}  // namespace

int target_count() { return kCount; }

Target target_at(int index) {
    const Row& row = kRows[index];
    const bool runs = runs_here(row);
    return {row.table->name, row.description, runs, runs ? "" : row.missing};
}

TableChoice table_for(const char* name) {
    const char* source = "target";
    if (!name) {
        name = std::getenv("COARSEGRAD_TARGET");
        if (!name || !*name) return best();
        source = "COARSEGRAD_TARGET";
    }
    TableChoice choice{nullptr, nullptr, ""};
    for (const Row& row : kRows) {
        if (std::strcmp(row.table->name, name)) continue;
        if (runs_here(row)) choice = {row.table, row.optim, ""};
        else std::snprintf(choice.error, sizeof choice.error, "%s=%s: %s", source, name, row.missing);
        return choice;
    }
    char names[100];
    list_names(names, sizeof names);
    std::snprintf(choice.error, sizeof choice.error, "%s=%.60s is unknown; the targets are %s", source,
                  name, names);
    return choice;
}

}  // namespace coarsegrad

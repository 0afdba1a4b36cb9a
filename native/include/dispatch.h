// Which targets exist, which of them this CPU runs, and the kernel table of one of them.
#pragma once

#include "kernels.h"
#include "optim.h"

namespace coarsegrad {

struct Target {
    const char* name;
    const char* description;
    bool runs;
    const char* reason;  // why it does not run here; empty where it does
};

int target_count();
Target target_at(int index);  // slowest first

struct TableChoice {
    const KernelTable* table;  // null on error
    const OptimTable* optim;   // of the same target; null on error
    char error[240];
};

// `name`: a target, or null for COARSEGRAD_TARGET, or the best target where that is not set. An
// unknown or unsupported name is an error, never another target.
TableChoice table_for(const char* name);

}  // namespace coarsegrad

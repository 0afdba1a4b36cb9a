// One table per target, each defined in the target's own file.
#pragma once

#include "kernels.h"

namespace coarsegrad {

extern const KernelTable kGenericTable, kPopcntTable, kAvx2Table, kAvx512bwTable,
    kAvx512vpopcntTable;

}  // namespace coarsegrad

// One table of optimizer kernels per width of register, each defined in its own file.
#pragma once

#include "optim.h"

namespace coarsegrad {

extern const OptimTable kOptimGenericTable, kOptimAvx2Table, kOptimAvx512Table;

}  // namespace coarsegrad

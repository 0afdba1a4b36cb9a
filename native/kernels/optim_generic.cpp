// Optimizer steps on any CPU.
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "optim.h"
#include "optimtables.h"

#define VECTOR_BYTES 16

namespace coarsegrad {
namespace {
#include "optimtarget.inl"
}  // namespace

extern const OptimTable kOptimGenericTable = {bamsprod, bamsprod_seen, bound, bop, copy, five_streams};
}  // namespace coarsegrad

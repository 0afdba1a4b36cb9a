// Optimizer steps with AVX2.
#include <immintrin.h>

#include "optim.h"
#include "optimtables.h"

#define VECTOR_BYTES 32

namespace coarsegrad {
namespace {
#include "optimtarget.inl"
}  // namespace

extern const OptimTable kOptimAvx2Table = {bamsprod, bamsprod_seen, bound, bop, copy, five_streams};
}  // namespace coarsegrad

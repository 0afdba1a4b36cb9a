// Optimizer steps with AVX-512.
#include "avx512.h"

#include "optim.h"
#include "optimtables.h"

#define VECTOR_BYTES 64

namespace coarsegrad {
namespace {
#include "optimtarget.inl"
}  // namespace

extern const OptimTable kOptimAvx512Table = {bamsprod, bamsprod_seen, bound, bop, copy, five_streams};
}  // namespace coarsegrad

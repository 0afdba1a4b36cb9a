// Any CPU: plain words of bits, no popcount instruction.
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "kernels.h"
#include "tables.h"

#define VECTOR_BYTES 16

namespace coarsegrad {
namespace {
#include "vector.inl"
#include "popcount.inl"
#include "digits.inl"
#include "finish.inl"
#include "rows.inl"
using PanelCounter = RowCounter;
#include "target.inl"
}  // namespace

extern const KernelTable kGenericTable = {
    "generic", KernelTable::Weights::kRows, 64, VECTOR_BYTES,
    bit_layer, pack, pack_levels, bit_pool, float_layer, float_pool, ceiling};
}  // namespace coarsegrad

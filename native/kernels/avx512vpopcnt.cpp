// AVX-512 with VPOPCNTDQ.
#include "avx512.h"

#include "kernels.h"
#include "tables.h"

#define VECTOR_BYTES 64
#define VECTOR_POPCOUNT

namespace coarsegrad {
namespace {
#include "vector.inl"
#include "popcount.inl"
#include "digits.inl"
#include "finish.inl"
#include "rows.inl"
#include "lanes.inl"
#include "target.inl"
}  // namespace

extern const KernelTable kAvx512vpopcntTable = {
    "avx512vpopcnt", KernelTable::Weights::kLanes, kLanePanel, VECTOR_BYTES,
    bit_layer, pack, pack_levels, bit_pool, float_layer, float_pool, ceiling};
}  // namespace coarsegrad

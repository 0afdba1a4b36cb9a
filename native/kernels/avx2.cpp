// AVX2: byte shuffles as lookup tables.
#include <immintrin.h>

#include "kernels.h"
#include "tables.h"

#define VECTOR_BYTES 32
#define LUT_REGISTERS 2
#define LUT_PAIRS 2

namespace coarsegrad {
namespace {
#include "vector.inl"
#include "popcount.inl"
#include "digits.inl"
#include "finish.inl"
#include "rows.inl"

typedef __m256i Reg;
inline Reg spread16(short x) { return _mm256_set1_epi16(x); }
inline Reg table_row(const uint8_t* base, uint16_t offset) {
    return _mm256_broadcastsi128_si256(load<__m128i>(base + offset));
}
inline Reg lookup(Reg table, Reg index) { return _mm256_shuffle_epi8(table, index); }
inline Reg add8(Reg a, Reg b) { return _mm256_add_epi8(a, b); }
inline Reg add16(Reg a, Reg b) { return _mm256_add_epi16(a, b); }
inline Reg sub16(Reg a, Reg b) { return _mm256_sub_epi16(a, b); }
inline Reg both(Reg a, Reg b) { return _mm256_and_si256(a, b); }
inline Reg right(Reg a, int bits) { return _mm256_srli_epi16(a, bits); }
inline Reg left(Reg a, int bits) { return _mm256_slli_epi16(a, bits); }
// GCC 12 would look up more at once than there are registers for, and load an index at each use.
inline void in_register(Reg& x) { __asm__("" : "+x"(x)); }

#include "lut.inl"
#include "lutplanes.inl"
#include "target.inl"
}  // namespace

extern const KernelTable kAvx2Table = {
    "avx2", KernelTable::Weights::kNibbles, kLutPanel, VECTOR_BYTES,
    bit_layer, pack, pack_levels, bit_pool, float_layer, float_pool, ceiling};
}  // namespace coarsegrad

// AVX-512 F, BW, DQ and VL, without a popcount of vectors: byte shuffles as lookup tables.
#include "avx512.h"

#include "kernels.h"
#include "tables.h"

#define VECTOR_BYTES 64
#define LUT_REGISTERS 2
#define LUT_PAIRS 2

namespace coarsegrad {
namespace {
#include "vector.inl"
#include "popcount.inl"
#include "digits.inl"
#include "finish.inl"
#include "rows.inl"

typedef __m512i Reg;
inline Reg spread16(short x) { return _mm512_set1_epi16(x); }
inline Reg table_row(const uint8_t* base, uint16_t offset) {
    return _mm512_broadcast_i32x4(load<__m128i>(base + offset));
}
inline Reg lookup(Reg table, Reg index) { return _mm512_shuffle_epi8(table, index); }
inline Reg add8(Reg a, Reg b) { return _mm512_add_epi8(a, b); }
inline Reg add16(Reg a, Reg b) { return _mm512_add_epi16(a, b); }
inline Reg sub16(Reg a, Reg b) { return _mm512_sub_epi16(a, b); }
inline Reg both(Reg a, Reg b) { return _mm512_and_si512(a, b); }
inline Reg right(Reg a, int bits) { return _mm512_srli_epi16(a, bits); }
inline Reg left(Reg a, int bits) { return _mm512_slli_epi16(a, bits); }
inline void in_register(Reg&) {}  // of which there are twice as many

#include "lut.inl"
#include "lutplanes.inl"
#include "target.inl"
}  // namespace

extern const KernelTable kAvx512bwTable = {
    "avx512bw", KernelTable::Weights::kNibbles, kLutPanel, VECTOR_BYTES,
    bit_layer, pack, pack_levels, bit_pool, float_layer, float_pool, ceiling};
}  // namespace coarsegrad

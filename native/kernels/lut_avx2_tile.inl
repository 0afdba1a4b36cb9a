// The inner loop of lut_chunk<2, 2> with 256-bit registers, by hand: GCC 12 keeps three of the eight
// sums in memory, which costs a tenth of the speed.

#define LUT_TABLE(offset, row, table)   \
    "movzwl " offset "(%[" row "]), %k[at]\n\t" \
    "vbroadcasti128 (%[rows], %[at]), " table "\n\t"

#define LUT_SPLIT(sum, low, high)            \
    "vpand %[mask], " sum ", %%ymm15\n\t"       \
    "vpsrlw $4, " sum ", " sum "\n\t"        \
    "vpaddb %%ymm15, %[" low "], %[" low "]\n\t" \
    "vpaddw " sum ", %[" high "], %[" high "]\n\t"

#define LUT_PAIR(row, low0, high0, low1, high1)                     \
    LUT_TABLE("0", row, "%%ymm11")                                   \
    LUT_TABLE("2", row, "%%ymm12")                                   \
    LUT_TABLE("4", row, "%%ymm13")                                   \
    "vpshufb (%[weights]), %%ymm11, %%ymm14\n\t"                          \
    "vpshufb 32(%[weights]), %%ymm11, %%ymm11\n\t"                       \
    "vpshufb 64(%[weights]), %%ymm12, %%ymm15\n\t"                        \
    "vpshufb 96(%[weights]), %%ymm12, %%ymm12\n\t"                       \
    "vpaddb %%ymm15, %%ymm14, %%ymm14\n\t"                                    \
    "vpaddb %%ymm12, %%ymm11, %%ymm11\n\t"                                 \
    "vpshufb 128(%[weights]), %%ymm13, %%ymm15\n\t"                       \
    "vpshufb 160(%[weights]), %%ymm13, %%ymm13\n\t"                      \
    "vpaddb %%ymm15, %%ymm14, %%ymm14\n\t"                                    \
    "vpaddb %%ymm13, %%ymm11, %%ymm11\n\t"                                 \
    LUT_SPLIT("%%ymm14", low0, high0)                                 \
    LUT_SPLIT("%%ymm11", low1, high1)

inline void lut_loop(const uint16_t* indices, int64_t pitch, const uint8_t* weights, int triples,
                     Reg (&lows)[2][2], Reg (&highs)[2][2]) {
    const uint16_t* second = indices + pitch;
    const uint8_t* end = weights + int64_t{triples} * 3 * kLutPanel;
    uint64_t at;
    __asm__(
        ".p2align 5\n"
        "1:\n\t" LUT_PAIR("first", "l00", "h00", "l01", "h01")
            LUT_PAIR("second", "l10", "h10", "l11", "h11")
        "add $192, %[weights]\n\t"
        "add $6, %[first]\n\t"
        "add $6, %[second]\n\t"
        "cmp %[end], %[weights]\n\t"
        "jne 1b\n"
        : [first] "+r"(indices), [second] "+r"(second), [weights] "+r"(weights), [at] "=&r"(at),
          [l00] "+x"(lows[0][0]), [l01] "+x"(lows[0][1]), [l10] "+x"(lows[1][0]),
          [l11] "+x"(lows[1][1]), [h00] "+x"(highs[0][0]), [h01] "+x"(highs[0][1]),
          [h10] "+x"(highs[1][0]), [h11] "+x"(highs[1][1])
        : [end] "r"(end), [rows] "r"(kPairTable.rows[0]), [mask] "x"(spread16(0x0f0f))
        : "memory", "cc", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

#undef LUT_TABLE
#undef LUT_SPLIT
#undef LUT_PAIR

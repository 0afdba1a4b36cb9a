// The inner loop of plane_chunk<4, 2> with 256-bit registers, by hand: GCC 12 moves all eight sums
// from one register to another in every round, which costs a quarter of the speed.

#define PLANE_PIXEL(at_index, first, second)     \
    "movzwl " at_index ", %k[at]\n\t"            \
    "vbroadcasti128 (%[rows], %[at]), %%ymm13\n\t" \
    "vpshufb %%ymm11, %%ymm13, %%ymm14\n\t"      \
    "vpshufb %%ymm12, %%ymm13, %%ymm13\n\t"      \
    "vpaddb %%ymm14, %[" first "], %[" first "]\n\t" \
    "vpaddb %%ymm13, %[" second "], %[" second "]\n\t"

#define PLANE_NIBBLE(low, high, offset)                        \
    "vmovdqu " low "(%[weights]), %%ymm11\n\t"                 \
    "vmovdqu " high "(%[weights]), %%ymm12\n\t"                \
    PLANE_PIXEL(offset "(%[indices])", "s00", "s01")           \
    PLANE_PIXEL(offset "(%[indices], %[one])", "s10", "s11")   \
    PLANE_PIXEL(offset "(%[indices], %[one], 2)", "s20", "s21") \
    PLANE_PIXEL(offset "(%[indices], %[three])", "s30", "s31")

inline void plane_loop(const uint16_t* indices, int64_t pitch, const uint8_t* weights, int triples,
                       Reg (&sums)[4][2]) {
    const uint8_t* end = weights + int64_t{triples} * 3 * kLutPanel;
    uint64_t at;
    __asm__(
        ".p2align 5\n"
        "1:\n\t" PLANE_NIBBLE("0", "32", "0") PLANE_NIBBLE("64", "96", "2")
            PLANE_NIBBLE("128", "160", "4")
        "add $192, %[weights]\n\t"
        "add $6, %[indices]\n\t"
        "cmp %[end], %[weights]\n\t"
        "jne 1b\n"
        : [indices] "+r"(indices), [weights] "+r"(weights), [at] "=&r"(at), [s00] "+x"(sums[0][0]),
          [s01] "+x"(sums[0][1]), [s10] "+x"(sums[1][0]), [s11] "+x"(sums[1][1]),
          [s20] "+x"(sums[2][0]), [s21] "+x"(sums[2][1]), [s30] "+x"(sums[3][0]),
          [s31] "+x"(sums[3][1])
        : [one] "r"(2 * pitch), [three] "r"(6 * pitch), [end] "r"(end),
          [rows] "r"(kPlaneTable.rows[0])
        : "memory", "cc", "xmm11", "xmm12", "xmm13", "xmm14");
}

#undef PLANE_PIXEL
#undef PLANE_NIBBLE

// The instructions that a target's counter cannot do without, on registers only: the most that its
// layers could reach on this machine at this moment. Returns multiply-accumulates done.

// Makes the compiler believe that `x` has changed, so that no round is left out.
template <class T>
inline void touch(T& x) {
#ifdef COARSEGRAD_EMULATE_AVX512
    __asm__ volatile("" : "+m"(x));
#elif VECTOR_BYTES == 64
    __asm__ volatile("" : "+v"(x));
#else
    __asm__ volatile("" : "+x"(x));
#endif
}

#if defined(LUT_REGISTERS)
int64_t ceiling(int64_t rounds) {
    constexpr int kWays = 4;
    Reg index = spread16(0x0705), table = spread16(0x1234), low = spread16(0x0f0f);
    Reg lows[kWays] = {}, highs[kWays] = {};
    for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 4
        for (int way = 0; way < kWays; ++way) {
            touch(index);
            Reg a = lookup(table, index);
            touch(index);
            a = add8(a, lookup(table, index));
            touch(index);
            a = add8(a, lookup(table, index));
            lows[way] = add8(lows[way], both(a, low));
            highs[way] = add16(highs[way], right(a, 4));
            touch(lows[way]);
            touch(highs[way]);
        }
    }
    return rounds * kWays * 3 * 2 * 4 * VECTOR_BYTES;
}
#elif defined(VECTOR_POPCOUNT)
int64_t ceiling(int64_t rounds) {
    constexpr int kWays = 8;
    __m512i word = _mm512_set1_epi32(5), weights = _mm512_set1_epi32(77);
    __m512i sums[kWays] = {};
    for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 8
        for (int way = 0; way < kWays; ++way) {
            touch(word);
            sums[way] =
                _mm512_add_epi32(sums[way], _mm512_popcnt_epi32(_mm512_xor_si512(word, weights)));
            touch(sums[way]);
        }
    }
    return rounds * kWays * 512;
}
#else
int64_t ceiling(int64_t rounds) {
    constexpr int kWays = 8;
    uint64_t word = 5, weights = 77, sums[kWays] = {};
    for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 8
        for (int way = 0; way < kWays; ++way) {
            __asm__ volatile("" : "+r"(word));
            sums[way] += popcount64(word ^ weights);
            __asm__ volatile("" : "+r"(sums[way]));
        }
    }
    return rounds * kWays * 64;
}
#endif

// Set bits of one word, and of the difference of two rows whose spare bytes up to a multiple of
// kSlack are zero.

inline uint64_t popcount64(uint64_t x) {
#ifdef __POPCNT__
    return static_cast<uint64_t>(__builtin_popcountll(x));
#else
    // Without the instruction the builtin is a call into libgcc.
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return x * 0x0101010101010101u >> 56;
#endif
}

#if VECTOR_BYTES == 32

// Four rows of weights at once: one alone would wait for its own sums.
inline void differing_bits4(const uint8_t* a, const uint8_t* b, int64_t pitch, int64_t bytes,
                            int32_t* counts) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2,
                                           1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i mask = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    __m256i total[4] = {zero, zero, zero, zero};
    for (int64_t k = 0; k < bytes;) {
        // 31 vectors add at most 248 to a byte.
        const int64_t end = k + 31 * 32 < bytes ? k + 31 * 32 : bytes;
        __m256i sum[4] = {zero, zero, zero, zero};
        for (; k < end; k += 32) {
            // The rows are too short for the hardware to foresee the next four, which together
            // have two lines for each vector of a row.
            _mm_prefetch(b + 4 * pitch + 4 * k, _MM_HINT_T0);
            _mm_prefetch(b + 4 * pitch + 4 * k + 64, _MM_HINT_T0);
            const __m256i from = load<__m256i>(a + k);
#pragma GCC unroll 4
            for (int r = 0; r < 4; ++r) {
                const __m256i x = from ^ load<__m256i>(b + r * pitch + k);
                const __m256i low = _mm256_shuffle_epi8(table, x & mask);
                const __m256i high = _mm256_shuffle_epi8(table, _mm256_srli_epi16(x, 4) & mask);
                sum[r] = _mm256_add_epi8(sum[r], _mm256_add_epi8(low, high));
            }
        }
        for (int r = 0; r < 4; ++r) total[r] += _mm256_sad_epu8(sum[r], zero);
    }
    const __m256i first = total[0] | _mm256_slli_epi64(total[1], 32);
    const __m256i second = total[2] | _mm256_slli_epi64(total[3], 32);
    const __m256i halves = _mm256_add_epi32(_mm256_unpacklo_epi64(first, second),
                                            _mm256_unpackhi_epi64(first, second));
    put(counts, _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
}

#else

inline int32_t differing_bits(const uint8_t* a, const uint8_t* b, int64_t bytes) {
#ifdef VECTOR_POPCOUNT
    __m512i sum = _mm512_setzero_si512();
    for (int64_t k = 0; k < bytes; k += 64)
        sum = _mm512_add_epi64(
            sum, _mm512_popcnt_epi64(_mm512_xor_si512(load<__m512i>(a + k), load<__m512i>(b + k))));
    int64_t parts[8];
    put(parts, sum);
    int64_t total = 0;
    for (int64_t part : parts) total += part;
    return static_cast<int32_t>(total);
#else
    uint64_t sum = 0;
    for (int64_t k = 0; k < bytes; k += 8)
        sum += popcount64(load<uint64_t>(a + k) ^ load<uint64_t>(b + k));
    return static_cast<int32_t>(sum);
#endif
}

inline void differing_bits4(const uint8_t* a, const uint8_t* b, int64_t pitch, int64_t bytes,
                            int32_t* counts) {
    for (int r = 0; r < 4; ++r) counts[r] = differing_bits(a, b + r * pitch, bytes);
}

#endif

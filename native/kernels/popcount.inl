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

inline int32_t differing_bits(const uint8_t* a, const uint8_t* b, int64_t bytes) {
#if VECTOR_BYTES == 32
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2,
                                           1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i total = _mm256_setzero_si256();
    for (int64_t k = 0; k < bytes;) {
        __m256i sum = _mm256_setzero_si256();
        // 31 vectors add at most 248 to a byte.
        const int64_t end = k + 31 * 32 < bytes ? k + 31 * 32 : bytes;
        for (; k < end; k += 32) {
            const __m256i x = load<__m256i>(a + k) ^ load<__m256i>(b + k);
            sum = _mm256_add_epi8(sum, _mm256_shuffle_epi8(table, x & mask));
            sum = _mm256_add_epi8(
                sum, _mm256_shuffle_epi8(table, _mm256_srli_epi16(x, 4) & mask));
        }
        total += _mm256_sad_epu8(sum, _mm256_setzero_si256());
    }
    return static_cast<int32_t>(total[0] + total[1] + total[2] + total[3]);
#else
    uint64_t sum = 0;
    for (int64_t k = 0; k < bytes; k += 8)
        sum += popcount64(load<uint64_t>(a + k) ^ load<uint64_t>(b + k));
    return static_cast<int32_t>(sum);
#endif
}

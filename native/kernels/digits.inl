// How many limits 32 counts exceed, as binary digits: words[0] holds a bit of the highest for each.
// The tables of 2^planes - 1 limits lie `pitch` numbers apart.

// The digits of 32 numbers from registers of 32-bit lanes, which are used up.
inline void spread_digits(Ints* numbers, int planes, uint32_t* words) {
    for (int p = 0; p < planes; ++p) {
        uint32_t word = 0;
        for (int i = 0; i < 32 / kInts; ++i)
            word |= lane_bits(((numbers[i] >> (planes - 1 - p)) & 1) > Ints{}) << (i * kInts);
        words[p] = word;
    }
}

template <class Count>
inline void exceed_digits(const Count* counts, const int32_t* limits, int64_t pitch, int planes,
                          uint32_t* words) {
    Ints exceeded[32 / kInts];
    for (int i = 0; i < 32 / kInts; ++i) exceeded[i] = Ints{};
    for (int limit = (1 << planes) - 1; limit > 0; --limit, limits += pitch)
        for (int i = 0; i < 32 / kInts; ++i)
            // A true comparison is -1.
            exceeded[i] -= load_counts(counts + i * kInts) > load<Ints>(limits + i * kInts);
    spread_digits(exceeded, planes, words);
}

// Counts of 16 bits without a sign; limits are larger by one, and both are less by 2^15 when they
// are compared. Numbers of limits that are not exceeded have the opposite digits.
inline void exceed_digits16(const uint16_t* counts, const int16_t* limits, int64_t pitch, int planes,
                            uint32_t* words) {
#if VECTOR_BYTES == 64
    typedef int16_t Shorts __attribute__((vector_size(64)));
    const Shorts count = load<Shorts>(counts) ^ static_cast<int16_t>(INT16_MIN);
    Shorts within{};
    for (int limit = (1 << planes) - 1; limit > 0; --limit, limits += pitch)
        // A true comparison is -1.
        within -= load<Shorts>(limits) > count;
    for (int p = 0; p < planes; ++p)
        words[p] = ~static_cast<uint32_t>(
            _mm512_movepi16_mask((__m512i)(within << (16 - planes + p))));
#elif VECTOR_BYTES == 32
    const __m256i sign = _mm256_set1_epi16(-32768), zero = _mm256_setzero_si256();
    const __m256i first = _mm256_xor_si256(load<__m256i>(counts), sign);
    const __m256i second = _mm256_xor_si256(load<__m256i>(counts + 16), sign);
    __m256i low = zero, high = zero;
    for (int limit = (1 << planes) - 1; limit > 0; --limit, limits += pitch) {
        low = _mm256_sub_epi16(low, _mm256_cmpgt_epi16(load<__m256i>(limits), first));
        high = _mm256_sub_epi16(high, _mm256_cmpgt_epi16(load<__m256i>(limits + 16), second));
    }
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xd8);
    for (int p = 0; p < planes; ++p) {
        const __m128i places = _mm_cvtsi32_si128(8 - planes + p);
        words[p] = ~static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_sll_epi16(bytes, places)));
    }
#else
    for (int p = 0; p < planes; ++p) words[p] = 0;
    for (int i = 0; i < 32; ++i) {
        int exceeded = 0;
        for (int limit = 0; limit < (1 << planes) - 1; ++limit)
            exceeded += counts[i] > limits[limit * pitch + i] + 32767;
        for (int p = 0; p < planes; ++p)
            words[p] |= static_cast<uint32_t>(exceeded >> (planes - 1 - p) & 1) << i;
    }
#endif
}

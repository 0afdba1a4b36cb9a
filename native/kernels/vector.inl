// Vectors of VECTOR_BYTES bytes in the compiler's own notation, and the few operations that need
// instructions of a target. Included inside the anonymous namespace of a target's file.

constexpr int kInts = VECTOR_BYTES / 4;

typedef int32_t Ints __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t Words __attribute__((vector_size(VECTOR_BYTES)));
typedef float Floats __attribute__((vector_size(VECTOR_BYTES)));
typedef uint8_t Raw __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t Halves __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef float Quad __attribute__((vector_size(16)));

template <class V>
inline V load(const void* from) {
    V v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

template <class V>
inline void put(void* to, V v) {
    __builtin_memcpy(to, &v, sizeof v);
}

// A word of a pixel's channels, or as much of it as the pixel holds.
inline void put_word(void* to, uint32_t word, int64_t pixel_pitch) {
    if (pixel_pitch >= 4) put(to, word);
    else if (pixel_pitch == 2) put(to, static_cast<uint16_t>(word));
    else put(to, static_cast<uint8_t>(word));
}

// Mostly a few bytes, for which a call would take longer. The last eight may overlap those before.
inline void copy_bytes(uint8_t* to, const uint8_t* from, int64_t bytes) {
    if (bytes < 8) {
        for (int64_t i = 0; i < bytes; ++i) to[i] = from[i];
        return;
    }
    for (int64_t i = 0; i < bytes - 8; i += 8) put(to + i, load<uint64_t>(from + i));
    put(to + bytes - 8, load<uint64_t>(from + bytes - 8));
}

inline int32_t smaller(int64_t a, int64_t b) { return static_cast<int32_t>(a < b ? a : b); }

inline Ints load_counts(const int32_t* from) { return load<Ints>(from); }
inline Ints load_counts(const uint16_t* from) {
    return __builtin_convertvector(load<Halves>(from), Ints);
}

inline Floats spread(float x) { return x - Floats{}; }

// Without a fused instruction product and sum are rounded apart.
inline Floats multiply_add(Floats a, Floats b, Floats sum) {
#if VECTOR_BYTES == 64
    return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif VECTOR_BYTES == 32
    return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
    return a * b + sum;
#endif
}

// Bit i is set iff lane i of the comparison result is.
inline uint32_t lane_bits(Ints mask) {
#if VECTOR_BYTES == 64
    return _mm512_movepi32_mask((__m512i)mask);
#elif VECTOR_BYTES == 32
    return static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask));
#elif defined(__SSE2__)
    return static_cast<uint32_t>(_mm_movemask_ps((__m128)mask));
#else
    uint32_t bits = 0;
    for (int i = 0; i < kInts; ++i) bits |= (mask[i] ? 1u : 0u) << i;
    return bits;
#endif
}

// Signs of 32 consecutive floats.
inline uint32_t negative_bits(const float* x) {
#if VECTOR_BYTES == 32
    const __m256 zero = _mm256_setzero_ps();
    const auto less = [&](int i) {
        return _mm256_castps_si256(_mm256_cmp_ps(_mm256_loadu_ps(x + 8 * i), zero, _CMP_LT_OQ));
    };
    const __m256i low = _mm256_packs_epi32(less(0), less(1));
    const __m256i high = _mm256_packs_epi32(less(2), less(3));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i all = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
    return static_cast<uint32_t>(_mm256_movemask_epi8(all));
#else
    uint32_t bits = 0;
    for (int i = 0; i < 32; i += kInts) bits |= lane_bits(load<Floats>(x + i) < Floats{}) << i;
    return bits;
#endif
}

// Which of 32 counts exceed their limits.
inline uint32_t exceed_bits(const int32_t* counts, const int32_t* limits) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i += kInts)
        bits |= lane_bits(load<Ints>(counts + i) > load<Ints>(limits + i)) << i;
    return bits;
}

inline uint32_t exceed_bits(const uint16_t* counts, const int32_t* limits) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i += kInts)
        bits |= lane_bits(load_counts(counts + i) > load<Ints>(limits + i)) << i;
    return bits;
}

inline uint32_t exceed_bits16(const uint16_t* counts, const int16_t* limits) {
#if VECTOR_BYTES == 64
    typedef int16_t Shorts __attribute__((vector_size(64)));
    return _mm512_movepi16_mask((__m512i)(load<Shorts>(counts) > load<Shorts>(limits)));
#elif VECTOR_BYTES == 32
    const auto at = [](const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); };
    const __m256i low = _mm256_cmpgt_epi16(at(counts), at(limits));
    const __m256i high = _mm256_cmpgt_epi16(at(counts + 16), at(limits + 16));
    const __m256i all = _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8);
    return static_cast<uint32_t>(_mm256_movemask_epi8(all));
#else
    uint32_t bits = 0;
    for (int i = 0; i < 32; ++i) bits |= (counts[i] > limits[i] ? 1u : 0u) << i;
    return bits;
#endif
}

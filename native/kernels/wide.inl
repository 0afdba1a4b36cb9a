// Sixteen elements at a time on every target, so that all targets add in the same order; the few
// float operations that the compiler's vectors lack. Follows vector.inl.

constexpr int kWide = 16, kParts = kWide / kInts;
// Sums run in eight float lanes over this many elements, then in doubles: relative errors stay
// near 1e-7, and conversions are rare.
constexpr int64_t kBlock = 256;

typedef double Four __attribute__((vector_size(32)));
typedef float Quad4 __attribute__((vector_size(16)));
typedef float Eight __attribute__((vector_size(32)));
typedef int32_t EightInts __attribute__((vector_size(32)));

inline Floats square_root(Floats x) {
#if VECTOR_BYTES == 64
    return (Floats)_mm512_sqrt_ps((__m512)x);
#elif VECTOR_BYTES == 32
    return (Floats)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (Floats)_mm_sqrt_ps((__m128)x);
#else
    Floats root;
    for (int i = 0; i < kInts; ++i) root[i] = __builtin_sqrtf(x[i]);
    return root;
#endif
}

// As torch.clamp with one bound: a NaN in x stays.
inline Floats at_least(Floats x, Floats low) { return low > x ? low : x; }
inline Floats at_most(Floats x, Floats high) { return high < x ? high : x; }
// As torch.maximum: a NaN in either stays.
inline Floats larger(Floats a, Floats b) {
    const Floats found = a > b ? a : b;
    return a != a ? a : found;
}

inline Floats magnitude(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }
inline Floats kept(Floats x, Ints where) { return (Floats)((Ints)x & where); }

// torch's lerp_, which is exact at both ends.
struct Lerp {
    Floats weight;
    Ints near_start;

    explicit Lerp(float w)
        : weight(spread(w < 0.5f ? w : w - 1.0f)), near_start(Ints{} - (w < 0.5f ? 1 : 0)) {}
    Floats operator()(Floats from, Floats to) const {
        return (near_start ? from : to) + weight * (to - from);
    }
};

// Lane i plus lane i + 8.
inline Eight folded(const Floats* x) {
#if VECTOR_BYTES == 64
    return __builtin_shufflevector(x[0], x[0], 0, 1, 2, 3, 4, 5, 6, 7) +
           __builtin_shufflevector(x[0], x[0], 8, 9, 10, 11, 12, 13, 14, 15);
#elif VECTOR_BYTES == 32
    return x[0] + x[1];
#else
    return __builtin_shufflevector(x[0] + x[2], x[1] + x[3], 0, 1, 2, 3, 4, 5, 6, 7);
#endif
}

inline EightInts folded(const Ints* x) {
#if VECTOR_BYTES == 64
    return __builtin_shufflevector(x[0], x[0], 0, 1, 2, 3, 4, 5, 6, 7) +
           __builtin_shufflevector(x[0], x[0], 8, 9, 10, 11, 12, 13, 14, 15);
#elif VECTOR_BYTES == 32
    return x[0] + x[1];
#else
    return __builtin_shufflevector(x[0] + x[2], x[1] + x[3], 0, 1, 2, 3, 4, 5, 6, 7);
#endif
}

inline Four doubled(Eight x) {
    return __builtin_convertvector(__builtin_shufflevector(x, x, 0, 1, 2, 3), Four) +
           __builtin_convertvector(__builtin_shufflevector(x, x, 4, 5, 6, 7), Four);
}

inline double total(Four x) { return (x[0] + x[2]) + (x[1] + x[3]); }

inline int64_t total(EightInts x) {
    int64_t sum = 0;
    for (int i = 0; i < 8; ++i) sum += x[i];
    return sum;
}

// All ones in the first `count` of sixteen lanes.
inline void first_lanes(int64_t count, Ints* lanes) {
    int32_t words[kWide];
    for (int i = 0; i < kWide; ++i) words[i] = i < count ? -1 : 0;
    for (int r = 0; r < kParts; ++r) lanes[r] = load<Ints>(words + r * kInts);
}

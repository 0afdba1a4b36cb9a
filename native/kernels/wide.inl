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

// Numbers that are not negative (second moments, their roots and bounds) are in the order of their
// bits, and comparing integers leaves the float units to the root and the division. A NaN is larger
// than all numbers, so that the larger of two is as torch.maximum finds it.
inline Floats larger(Floats a, Floats b) {
    return (Floats)((Words)a > (Words)b ? (Words)a : (Words)b);
}
inline Ints below(Floats a, Floats b) { return (Ints)a < (Ints)b; }
inline Floats between(Floats x, Floats low, Floats high) {
    const Words found = (Words)larger(x, low);
    return (Floats)(found < (Words)high ? found : (Words)high);
}

inline Floats magnitude(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }
inline Floats kept(Floats x, Ints where) { return (Floats)((Ints)x & where); }
// Where one of a and b is below 0 and the other is not; adding 0 makes -0 not negative.
inline Ints sign_changed(Floats a, Floats b) {
    return ((Ints)(a + 0.0f) ^ (Ints)(b + 0.0f)) >> 31;
}

// torch's lerp_, which is exact at both ends.
struct Lerp {
    Floats weight;
    bool near_start;

    explicit Lerp(float w) : weight(spread(w < 0.5f ? w : w - 1.0f)), near_start(w < 0.5f) {}
    Floats operator()(Floats from, Floats to) const {
        const Floats part = weight * (to - from);
        return near_start ? from + part : to + part;
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

// Only of the lanes given; null: all.
inline EightInts folded(const Ints* x, const Ints* lanes) {
    if (!lanes) return folded(x);
    Ints some[kParts];
    for (int r = 0; r < kParts; ++r) some[r] = x[r] & lanes[r];
    return folded(some);
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

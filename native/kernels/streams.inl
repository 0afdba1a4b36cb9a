// The memory that one step walks through, and the end of it that fills no sixteen lanes.

struct Streams {
    float *w, *m, *v, *vhat;  // null where the rule has none
    const float* g;
    int64_t at;

    Streams from(int64_t i) const { return {w, m, v, vhat, g, at + i}; }
};

inline Streams streams_of(const OptimTensor& t, int64_t first) {
    return {t.w, t.m, t.v, t.vhat, t.g, first};
}

// A copy of fewer than sixteen elements, filled up with zeros.
struct Rest {
    float w[kWide], m[kWide], v[kWide], vhat[kWide], g[kWide];
    size_t bytes;

    Rest(const Streams& from, int64_t count) : bytes(static_cast<size_t>(count) * sizeof(float)) {
        __builtin_memset(this, 0, __builtin_offsetof(Rest, bytes));
        __builtin_memcpy(w, from.w + from.at, bytes);
        __builtin_memcpy(m, from.m + from.at, bytes);
        __builtin_memcpy(g, from.g + from.at, bytes);
        if (from.v) __builtin_memcpy(v, from.v + from.at, bytes);
        if (from.vhat) __builtin_memcpy(vhat, from.vhat + from.at, bytes);
    }

    Streams streams() { return {w, m, v, vhat, g, 0}; }

    void put_back(const Streams& to) const {
        __builtin_memcpy(to.w + to.at, w, bytes);
        __builtin_memcpy(to.m + to.at, m, bytes);
        if (to.v) __builtin_memcpy(to.v + to.at, v, bytes);
        if (to.vhat) __builtin_memcpy(to.vhat + to.at, vhat, bytes);
    }
};

// Counts of elements for the diagnostics, in eight lanes.
struct Counts {
    EightInts low, high, flips, negative;

    void give(OptimSums& out) const {
        out.low = total(low);
        out.high = total(high);
        out.flips = total(flips);
        out.negative = total(negative);
    }
};

struct Marks {
    Ints low[kParts], high[kParts], flips[kParts], negative[kParts];

    void keep(const Ints* where) {
        for (int r = 0; r < kParts; ++r) {
            low[r] &= where[r];
            high[r] &= where[r];
            flips[r] &= where[r];
            negative[r] &= where[r];
        }
    }
    // A mark is -1.
    void add_to(Counts& counts) const {
        counts.low -= folded(low);
        counts.high -= folded(high);
        counts.flips -= folded(flips);
        counts.negative -= folded(negative);
    }
};

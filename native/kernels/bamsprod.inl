// BAMSProd: one pass that updates a chunk and sums the statistics of the bounds of the next step.

// What holds for a whole tensor.
struct BamsStep {
    Ints sign;
    Floats beta2, square, step_size, decay, box_low, box_high, ratio2;
    Lerp momentum, mean;
    bool average, sqrt_space;

    BamsStep(const BamsOptions& o, const BamsTensor& t)
        : sign(Ints{} + (o.maximize ? INT32_MIN : 0)),
          beta2(spread(static_cast<float>(o.beta2))),
          square(spread(static_cast<float>(1 - o.beta2))),
          step_size(spread(-t.step_size)),
          decay(spread(t.decay)),
          box_low(spread(static_cast<float>(o.box_low))),
          box_high(spread(static_cast<float>(o.box_high))),
          ratio2(spread(t.ratio2)),
          momentum(t.lerp),
          mean(t.average_weight),
          average(o.average),
          sqrt_space(o.sqrt_space) {}

    Floats gradient(const float* g) const { return (Floats)(load<Ints>(g) ^ sign); }
    Floats second(Floats v, Floats g) const { return v * beta2 + square * g * g; }
    Floats vhat(Floats vhat, Floats v) const { return average ? mean(vhat, v) : larger(vhat, v); }
};

// What holds for a channel, or for a whole tensor where it has no bounds of its own. All float32, as
// torch rounds bounds before it compares a tensor with them. The root is monotone, so it is taken
// of the bounds: one root for each element serves the step and the statistics.
struct BamsLimits {
    Floats lower, upper;                         // of the denominator
    Floats low, high;                            // of vhat or its root: whether a bound was active
    Floats low2, high2, old_low2, old_high2;     // of vt, in this step and the one before

    void set(const BamsOptions& o, const BamsTensor& t, int64_t column) {
        const double *bounds = t.bounds, *record = t.at.record;
        const double c_l = bounds ? bounds[2 * t.columns + column] : 0;
        const double c_u = bounds ? bounds[3 * t.columns + column] : __builtin_inf();
        const auto root = [&](double x) { return o.sqrt_space ? x : __builtin_sqrt(x); };
        const auto squared = [&](double x) {
            const auto rounded = static_cast<float>(x);
            return spread(o.sqrt_space ? rounded * rounded : rounded);
        };
        lower = spread(static_cast<float>(at_least(root(c_l), o.eps)));
        upper = spread(static_cast<float>(at_least(root(c_u), o.eps)));
        if (!record) return;
        low = spread(static_cast<float>(c_l));
        high = spread(static_cast<float>(c_u));
        low2 = squared(c_l);
        high2 = squared(c_u);
        old_low2 = squared(record[6 + column]);
        old_high2 = squared(record[6 + t.columns + column]);
    }
};

template <class Lanes>
struct BamsLanes {
    Lanes v, h, hw, hw2, w;
};

// A block of elements is updated in one loop, which memory bounds, and then read again from the first
// cache by short loops that sum and count. Those leave memory idle, so they call for the lines of the
// next block meanwhile.
struct BamsBlock {
    const BamsStep& s;
    const BamsLimits& limits;
    Streams at;
    int64_t count;      // a multiple of sixteen
    const Ints* lanes;  // of sixteen elements those that count; null: all
    float *roots, *old_vhat, *old_w;  // of the block, what the short loops need of the first

    // An address past the end, here kept from the compiler, does no harm.
    void prefetch(const float* stream, int64_t j) const {
        const auto base = reinterpret_cast<uintptr_t>(stream);
        const auto line = base + static_cast<uintptr_t>(at.at + j + kBlock) * sizeof(float);
        __builtin_prefetch(reinterpret_cast<const void*>(line), 1);
    }

    void prefetch_next(int64_t j) const {
        prefetch(at.g, j);
        prefetch(at.m, j);
        prefetch(at.v, j);
        prefetch(at.vhat, j);
        prefetch(at.w, j);
    }

    template <bool kStats, bool kDiagnose>
    void update() {
        for (int64_t j = 0; j < count; j += kInts) {
            const int64_t i = at.at + j;
            if (j % kWide == 0) prefetch_next(j);
            const Floats g = s.gradient(at.g + i);
            const Floats m = s.momentum(load<Floats>(at.m + i), g);
            const Floats v = s.second(load<Floats>(at.v + i), g);
            const Floats old = load<Floats>(at.vhat + i), w = load<Floats>(at.w + i);
            const Floats vhat = s.vhat(old, v);
            const Floats root = square_root(vhat);
            const Floats d = at_most(larger(root, limits.lower), limits.upper);
            const Floats moved = w * s.decay + s.step_size * m / d;
            put(at.m + i, m);
            put(at.v + i, v);
            put(at.vhat + i, vhat);
            put(at.w + i, at_most(at_least(moved, s.box_low), s.box_high));
            if (kStats || kDiagnose) put(roots + j, root);
            if (kDiagnose) put(old_vhat + j, old);
            if (kDiagnose) put(old_w + j, w);
        }
    }

    void statistics(BamsLanes<Eight>& sums) const {
        for (int64_t j = 0; j < count; j += kWide) {
            Floats v[kParts], h[kParts], w[kParts], hw[kParts], hw2[kParts];
            prefetch_next(j);
#pragma GCC unroll 4
            for (int r = 0; r < kParts; ++r) {
                const int64_t i = j + r * kInts;
                v[r] = load<Floats>(at.vhat + at.at + i);
                h[r] = load<Floats>(roots + i);
                w[r] = magnitude(load<Floats>(at.w + at.at + i));
                if (lanes) w[r] = kept(w[r], lanes[r]);
                hw[r] = h[r] * w[r];
                hw2[r] = hw[r] * w[r];
            }
            sums.v += folded(v);
            sums.h += folded(h);
            sums.w += folded(w);
            sums.hw += folded(hw);
            sums.hw2 += folded(hw2);
        }
    }

    template <bool kPrefetch>
    void mark(Counts& counts) const {
        for (int64_t j = 0; j < count; j += kWide) {
            Ints low[kParts], high[kParts], negative[kParts], flips[kParts];
            if (kPrefetch) prefetch_next(j);
#pragma GCC unroll 4
            for (int r = 0; r < kParts; ++r) {
                const int64_t i = j + r * kInts;
                const Floats vhat = load<Floats>(at.vhat + at.at + i);
                const Floats x = s.sqrt_space ? load<Floats>(roots + i) : vhat;
                const Floats old = load<Floats>(old_vhat + i);
                low[r] = below(x, limits.low);
                high[r] = below(limits.high, x);
                negative[r] = below(between(vhat, limits.low2, limits.high2) * s.ratio2,
                                    between(old, limits.old_low2, limits.old_high2));
                flips[r] = sign_changed(load<Floats>(old_w + i), load<Floats>(at.w + at.at + i));
            }
            counts.low -= folded(low, lanes);
            counts.high -= folded(high, lanes);
            counts.negative -= folded(negative, lanes);
            counts.flips -= folded(flips, lanes);
        }
    }
};

template <bool kStats, bool kDiagnose>
inline void bams_block(const BamsStep& s, const BamsLimits& limits, const Streams& at,
                       int64_t count, const Ints* lanes, BamsLanes<Four>& sums, Counts& counts) {
    float roots[kBlock], old_vhat[kBlock], old_w[kBlock];
    BamsBlock block{s, limits, at, count, lanes, roots, old_vhat, old_w};
    block.update<kStats, kDiagnose>();
    if (kDiagnose) {
        Counts here = counts;
        block.mark<!kStats>(here);
        counts = here;
    }
    if (!kStats) return;
    BamsLanes<Eight> lanesums{};
    block.statistics(lanesums);
    sums.v += doubled(lanesums.v);
    sums.h += doubled(lanesums.h);
    sums.hw += doubled(lanesums.hw);
    sums.hw2 += doubled(lanesums.hw2);
    sums.w += doubled(lanesums.w);
}

// Updates `count` elements that have the same limits and adds their terms to the sums.
template <bool kStats, bool kDiagnose>
inline void bams_run(const BamsStep& s, const BamsLimits& limits, const Streams& at, int64_t count,
                     BamsLanes<Four>& sums, Counts& counts) {
    const int64_t whole = count / kWide * kWide;
    for (int64_t i = 0; i < whole; i += kBlock) {
        const int64_t here = whole - i < kBlock ? whole - i : kBlock;
        bams_block<kStats, kDiagnose>(s, limits, at.from(i), here, nullptr, sums, counts);
    }
    if (whole == count) return;
    Ints lanes[kParts];
    first_lanes(count - whole, lanes);
    Rest rest(at.from(whole), count - whole);
    bams_block<kStats, kDiagnose>(s, limits, rest.streams(), kWide, lanes, sums, counts);
    rest.put_back(at.from(whole));
}

inline OptimSums channel_sums(const BamsLanes<Four>& lanes) {
    OptimSums sums{};
    sums.v = total(lanes.v);
    sums.h = total(lanes.h);
    sums.hw = total(lanes.hw);
    sums.hw2 = total(lanes.hw2);
    sums.w = total(lanes.w);
    return sums;
}

// Adds a whole channel to the chunk, and narrows its bounds where it has its own.
inline void add_channel(const BamsJob& job, const BamsTensor& t, int64_t channel, OptimSums sums,
                        double count, OptimSums& out) {
    sums.error = channel_error(job.options, sums, count);
    out.v += sums.v;
    out.hw2 += sums.hw2;
    out.error += sums.error;
    if (t.columns != 1) out.rho += finish_column(job.options, t, channel, sums, count);
}

template <bool kStats, bool kDiagnose>
void bams_chunk(const BamsJob& job, const OptimChunk& chunk, OptimSums& out) {
    const BamsTensor& t = job.tensors[chunk.tensor];
    const int64_t row = t.at.elements / t.at.channels;
    const BamsStep step(job.options, t);
    BamsLimits limits;
    Counts counts{};
    out = OptimSums{};
    for (int64_t i = chunk.first, end = i + chunk.count; i < end;) {
        const int64_t channel = i / row, length = row < end - i ? row : end - i;
        if (i == chunk.first || t.columns != 1)
            limits.set(job.options, t, t.columns != 1 ? channel : 0);
        BamsLanes<Four> lanes{};
        bams_run<kStats, kDiagnose>(step, limits, streams_of(t.at, i), length, lanes, counts);
        if (length < row) out = channel_sums(lanes);
        else if (kStats || t.columns != 1)
            add_channel(job, t, channel, channel_sums(lanes), static_cast<double>(row), out);
        i += length;
    }
    if (kDiagnose) counts.give(out);
}

void bamsprod(const BamsJob& job, int64_t begin, int64_t end) {
    const bool stats = job.options.cstar != CStar::kConstant;
    for (int64_t i = begin; i < end; ++i) {
        const BamsTensor& t = job.tensors[job.chunks[i].tensor];
        const auto chunk = t.bounds && stats
                               ? (t.at.record ? bams_chunk<true, true> : bams_chunk<true, false>)
                               : (t.at.record ? bams_chunk<false, true> : bams_chunk<false, false>);
        chunk(job, job.chunks[i], job.sums[i]);
    }
}

// The sum v becomes 1 where a gradient of the chunk is not 0.
void bamsprod_seen(const BamsJob& job, int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
        const OptimChunk& chunk = job.chunks[k];
        const float* const g = job.tensors[chunk.tensor].at.g + chunk.first;
        job.sums[k] = OptimSums{};
        for (int64_t i = 0; i < chunk.count && job.sums[k].v == 0; ++i) job.sums[k].v = g[i] != 0;
    }
}

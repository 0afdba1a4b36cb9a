// BAMSProd: one pass that updates a chunk and sums the statistics of the bounds of the next step.

// What holds for a whole tensor.
struct BamsStep {
    Floats sign, beta2, square, step_size, decay, box_low, box_high, ratio2;
    Lerp momentum, mean;
    bool average, sqrt_space;

    BamsStep(const BamsOptions& o, const BamsTensor& t)
        : sign(spread(o.maximize ? -1.0f : 1.0f)),
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

    Floats gradient(const float* g) const { return load<Floats>(g) * sign; }
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
        const auto c_l = static_cast<float>(bounds ? bounds[2 * t.columns + column] : 0);
        const auto c_u = static_cast<float>(bounds ? bounds[3 * t.columns + column] : __builtin_inf());
        const auto eps = static_cast<float>(o.eps);
        const auto root = [&](float x) { return o.sqrt_space ? x : __builtin_sqrtf(x); };
        const auto squared = [&](float x) { return spread(o.sqrt_space ? x * x : x); };
        lower = spread(root(c_l) > eps ? root(c_l) : eps);
        upper = spread(root(c_u) > eps ? root(c_u) : eps);
        if (!record) return;
        low = spread(c_l);
        high = spread(c_u);
        low2 = squared(c_l);
        high2 = squared(c_u);
        old_low2 = squared(static_cast<float>(record[6 + column]));
        old_high2 = squared(static_cast<float>(record[6 + t.columns + column]));
    }
};

// Terms of the sums from sixteen elements.
struct BamsTerms {
    Floats v[kParts], h[kParts], hw[kParts], hw2[kParts], w[kParts];

    void keep(const Ints* where) {
        for (int r = 0; r < kParts; ++r) {
            v[r] = kept(v[r], where[r]);
            h[r] = kept(h[r], where[r]);
            hw[r] = kept(hw[r], where[r]);
            hw2[r] = kept(hw2[r], where[r]);
            w[r] = kept(w[r], where[r]);
        }
    }
};

template <class Lanes>
struct BamsLanes {
    Lanes v, h, hw, hw2, w;
};

template <bool kStats, bool kDiagnose>
inline void bams_update(const BamsStep& s, const BamsLimits& limits, const Streams& at,
                        BamsTerms& terms, Marks& marks) {
#pragma GCC unroll 4
    for (int r = 0; r < kParts; ++r) {
        const int64_t i = at.at + r * kInts;
        const Floats g = s.gradient(at.g + i), old = load<Floats>(at.vhat + i);
        const Floats m = s.momentum(load<Floats>(at.m + i), g);
        const Floats v = s.second(load<Floats>(at.v + i), g), vhat = s.vhat(old, v);
        put(at.m + i, m);
        put(at.v + i, v);
        put(at.vhat + i, vhat);
        const Floats h = square_root(vhat);
        const Floats before = load<Floats>(at.w + i);
        const Floats d = at_most(at_least(h, limits.lower), limits.upper);
        const Floats moved = before * s.decay + s.step_size * m / d;
        const Floats w = at_most(at_least(moved, s.box_low), s.box_high);
        put(at.w + i, w);
        if (kStats) {
            terms.v[r] = vhat;
            terms.h[r] = h;
            terms.w[r] = magnitude(w);
            terms.hw[r] = h * terms.w[r];
            terms.hw2[r] = terms.hw[r] * terms.w[r];
        }
        if (kDiagnose) {
            const Floats x = s.sqrt_space ? h : vhat;
            marks.low[r] = x < limits.low;
            marks.high[r] = x > limits.high;
            marks.flips[r] = (before < Floats{}) ^ (w < Floats{});
            marks.negative[r] = at_most(at_least(vhat, limits.low2), limits.high2) * s.ratio2 <
                                at_most(at_least(old, limits.old_low2), limits.old_high2);
        }
    }
}

inline void add_terms(BamsLanes<Eight>& sums, const BamsTerms& terms) {
    sums.v += folded(terms.v);
    sums.h += folded(terms.h);
    sums.hw += folded(terms.hw);
    sums.hw2 += folded(terms.hw2);
    sums.w += folded(terms.w);
}

inline void flush(BamsLanes<Four>& sums, const BamsLanes<Eight>& block) {
    sums.v += doubled(block.v);
    sums.h += doubled(block.h);
    sums.hw += doubled(block.hw);
    sums.hw2 += doubled(block.hw2);
    sums.w += doubled(block.w);
}

// Updates `count` elements that have the same limits and adds their terms to the sums.
template <bool kStats, bool kDiagnose>
inline void bams_run(const BamsStep& s, const BamsLimits& limits, const Streams& at, int64_t count,
                     BamsLanes<Four>& sums, Counts& counts) {
    Counts here = counts;
    BamsTerms terms;
    Marks marks;
    for (int64_t i = 0; i < count;) {
        BamsLanes<Eight> block{};
        const int64_t end = i + kBlock < count ? i + kBlock : count;
        for (; i + kWide <= end; i += kWide) {
            bams_update<kStats, kDiagnose>(s, limits, at.from(i), terms, marks);
            if (kStats) add_terms(block, terms);
            if (kDiagnose) marks.add_to(here);
        }
        if (i < end) {
            const Streams end_of_run = at.from(i);
            Ints lanes[kParts];
            Rest rest(end_of_run, end - i);
            first_lanes(end - i, lanes);
            bams_update<kStats, kDiagnose>(s, limits, rest.streams(), terms, marks);
            rest.put_back(end_of_run);
            if (kStats) {
                terms.keep(lanes);
                add_terms(block, terms);
            }
            if (kDiagnose) {
                marks.keep(lanes);
                marks.add_to(here);
            }
            i = end;
        }
        if (kStats) flush(sums, block);
    }
    if (kDiagnose) counts = here;
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
    if (t.columns > 1) out.rho += finish_column(job.options, t, channel, sums, count);
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
        if (i == chunk.first || t.columns > 1)
            limits.set(job.options, t, t.columns > 1 ? channel : 0);
        BamsLanes<Four> lanes{};
        bams_run<kStats, kDiagnose>(step, limits, streams_of(t.at, i), length, lanes, counts);
        if (length < row) out = channel_sums(lanes);
        else if (kStats || t.columns > 1)
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

void bamsprod_presum(const BamsJob& job, int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
        const OptimChunk& chunk = job.chunks[k];
        const BamsTensor& t = job.tensors[chunk.tensor];
        const BamsStep step(job.options, t);
        const Streams at = streams_of(t.at, chunk.first);
        double sum = 0;
        for (int64_t i = 0; i < chunk.count; i += kWide) {
            const int64_t here = chunk.count - i < kWide ? chunk.count - i : kWide;
            Rest rest(at.from(i), here);
            for (int r = 0; r < kWide; r += kInts) {
                const Floats v = step.second(load<Floats>(rest.v + r), step.gradient(rest.g + r));
                const Floats vhat = step.vhat(load<Floats>(rest.vhat + r), v);
                for (int j = 0; j < kInts; ++j) sum += static_cast<double>(vhat[j]);
            }
        }
        job.sums[k] = OptimSums{};
        job.sums[k].v = sum;
    }
}

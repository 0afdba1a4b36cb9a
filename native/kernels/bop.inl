// Bop and Bop2ndOrder: a weight of +-1 flips where the momentum of its gradient pushes past a
// threshold. Follows bound.inl, whose sweep it uses.

template <bool kSecond, bool kDiagnose>
void bop_chunk(const BopJob& job, const OptimChunk& chunk, OptimSums& out) {
    const Lerp momentum(job.rate);
    const Floats sigma = spread(job.sigma), keep = spread(job.keep);
    const Floats sign = spread(job.sign), threshold = spread(job.threshold), eps = spread(job.eps);
    const Floats rate_unit = spread(job.rate_unit), sigma_unit = spread(job.sigma_unit);
    sweep<kDiagnose>(job.tensors[chunk.tensor], chunk, out, [&](const Streams& at, Marks& marks) {
#pragma GCC unroll 4
        for (int r = 0; r < kParts; ++r) {
            const int64_t i = at.at + r * kInts;
            const Floats g = load<Floats>(at.g + i) * sign, w = load<Floats>(at.w + i);
            const Floats m = momentum(load<Floats>(at.m + i), g);
            put(at.m + i, m);
            Floats argument = m;
            if (kSecond) {
                const Floats v = load<Floats>(at.v + i) * keep + sigma * g * g;
                put(at.v + i, v);
                argument = m / rate_unit / (square_root(v / sigma_unit) + eps);
            }
            const Ints flips = w * argument > threshold;
            put(at.w + i, (Floats)((Ints)w ^ (flips & INT32_MIN)));
            if (kDiagnose) {
                marks.flips[r] = flips;
                marks.low[r] = marks.high[r] = marks.negative[r] = Ints{};
            }
        }
    });
}

void bop(const BopJob& job, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        const OptimTensor& t = job.tensors[job.chunks[i].tensor];
        const auto chunk = t.v ? (t.record ? bop_chunk<true, true> : bop_chunk<true, false>)
                               : (t.record ? bop_chunk<false, true> : bop_chunk<false, false>);
        chunk(job, job.chunks[i], job.sums[i]);
    }
}

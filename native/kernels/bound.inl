// AdaBound and AMSBound: Adam or AMSGrad whose rate is clipped for each element.

struct BoundStep {
    Lerp momentum;
    Floats beta2, square, eps, sign, rate, decay, low, high, box_low, box_high;

    BoundStep(const BoundJob& job, const BoundTensor& t)
        : momentum(job.lerp),
          beta2(spread(job.beta2)),
          square(spread(job.square)),
          eps(spread(job.eps)),
          sign(spread(job.sign)),
          rate(spread(t.rate)),
          decay(spread(t.decay)),
          low(spread(t.low)),
          high(spread(t.high)),
          box_low(spread(job.box_low)),
          box_high(spread(job.box_high)) {}
};

template <bool kAms, bool kDiagnose>
inline void bound_update(const BoundStep& s, const Streams& at, Marks& marks) {
#pragma GCC unroll 4
    for (int r = 0; r < kParts; ++r) {
        const int64_t i = at.at + r * kInts;
        const Floats g = load<Floats>(at.g + i) * s.sign;
        const Floats m = s.momentum(load<Floats>(at.m + i), g);
        const Floats v = load<Floats>(at.v + i) * s.beta2 + s.square * g * g;
        const Floats vm = kAms ? larger(load<Floats>(at.vhat + i), v) : v;
        put(at.m + i, m);
        put(at.v + i, v);
        if (kAms) put(at.vhat + i, vm);
        const Floats rate = s.rate / (square_root(vm) + s.eps), before = load<Floats>(at.w + i);
        const Floats moved = before * s.decay - at_most(at_least(rate, s.low), s.high) * m;
        const Floats w = at_most(at_least(moved, s.box_low), s.box_high);
        put(at.w + i, w);
        if (kDiagnose) {
            marks.low[r] = rate < s.low;
            marks.high[r] = rate > s.high;
            marks.flips[r] = sign_changed(before, w);
            marks.negative[r] = Ints{};
        }
    }
}

// Calls update(streams, marks) for sixteen elements at a time.
template <bool kDiagnose, class Update>
inline void sweep(const OptimTensor& t, const OptimChunk& chunk, OptimSums& out,
                  const Update& update) {
    const Streams at = streams_of(t, chunk.first);
    Counts counts{};
    Marks marks;
    int64_t i = 0;
    for (; i + kWide <= chunk.count; i += kWide) {
        update(at.from(i), marks);
        if (kDiagnose) marks.add_to(counts);
    }
    if (i < chunk.count) {
        Ints lanes[kParts];
        Rest rest(at.from(i), chunk.count - i);
        first_lanes(chunk.count - i, lanes);
        update(rest.streams(), marks);
        rest.put_back(at.from(i));
        marks.keep(lanes);
        if (kDiagnose) marks.add_to(counts);
    }
    out = OptimSums{};
    if (kDiagnose) counts.give(out);
}

template <bool kAms, bool kDiagnose>
void bound_chunk(const BoundJob& job, const OptimChunk& chunk, OptimSums& out) {
    const BoundTensor& t = job.tensors[chunk.tensor];
    const BoundStep step(job, t);
    sweep<kDiagnose>(t.at, chunk, out, [&](const Streams& at, Marks& marks) {
        bound_update<kAms, kDiagnose>(step, at, marks);
    });
}

void bound(const BoundJob& job, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        const OptimTensor& t = job.tensors[job.chunks[i].tensor].at;
        const auto chunk = t.vhat ? (t.record ? bound_chunk<true, true> : bound_chunk<true, false>)
                                  : (t.record ? bound_chunk<false, true> : bound_chunk<false, false>);
        chunk(job, job.chunks[i], job.sums[i]);
    }
}

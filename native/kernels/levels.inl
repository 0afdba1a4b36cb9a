// Floats to the digits of small integers by thresholds per channel, channel planes in and planes of
// digits out.

// How many limits of a channel side * x does not reach; a NaN reaches none.
template <int PLANES>
inline Ints missed_limits(const LevelPack& pack, int32_t channel, Floats x) {
    const Floats turned = x * spread(pack.side[channel]);
    const float* limit = pack.limits + channel;
    const int limits = (1 << (PLANES ? PLANES : pack.planes)) - 1;
    Ints missed = limits - Ints{};
#pragma GCC unroll 3
    for (int i = 0; i < limits; ++i, limit += pack.channels)
        // A true comparison is -1.
        missed += turned >= spread(*limit);
    return missed;
}

// Words of up to 32 channels at kInts neighbouring pixels: the digits of a channel, highest first.
template <int PLANES>
inline void missed_words(const LevelPack& pack, const float* x, int64_t plane, int32_t first,
                         int channels, Words* words) {
    const int planes = PLANES ? PLANES : pack.planes;
    for (int d = 0; d < planes; ++d) words[d] = Words{};
    for (int c = channels - 1; c >= 0; --c) {
        const Words missed = (Words)missed_limits<PLANES>(pack, first + c, load<Floats>(x + c * plane));
        for (int d = 0; d < planes; ++d)
            words[d] = words[d] + words[d] + ((missed >> (planes - 1 - d)) & 1);
    }
}

// Calls take(pixel, count, first channel, words) for every kInts pixels and 32 channels.
template <int PLANES, class Take>
inline void each_missed(const LevelPack& pack, const float* x, int64_t first, int64_t last,
                        const Take& take) {
    const int64_t plane = int64_t{pack.h} * pack.w;
    Words words[kMaxPlanes];
    float rest[32 * kInts];
    for (int32_t c = 0; c < pack.channels; c += 32) {
        const int some = smaller(32, pack.channels - c);
        const float* from = x + c * plane;
        for (int64_t p = first; p < last; p += kInts) {
            const int count = smaller(kInts, last - p);
            if (count == kInts) {
                missed_words<PLANES>(pack, from + p, plane, c, some, words);
            } else {
                for (int i = 0; i < some; ++i)
                    for (int k = 0; k < kInts; ++k)
                        rest[i * kInts + k] = k < count ? from[i * plane + p + k] : 0.0f;
                missed_words<PLANES>(pack, rest, kInts, c, some, words);
            }
            take(p, count, c, words);
        }
    }
}

template <int PLANES>
void pack_level_range(const LevelPack& pack, const float* x, int64_t first, int64_t last,
                      const BitImage& out, int64_t image) {
    if (out.pixel_pitch > 4) {
        each_missed<PLANES>(pack, x, first, last,
                            [&](int64_t p, int64_t count, int32_t c, const Words* words) {
                                put_words(out, image, pack.w, p, count, c / 8, pack.planes, words);
                            });
        return;
    }
    PixelRows rows;
    each_missed<PLANES>(pack, x, first, last, [&](int64_t p, int64_t, int32_t, const Words* words) {
        for (int d = 0; d < pack.planes; ++d) rows.take(d, p - first, out.pixel_pitch, words[d]);
    });
    rows.put_all(out, image, pack.w, first, last, pack.planes);
}

void pack_levels(const LevelPack& pack, const float* x, const BitImage& out, int64_t begin,
                 int64_t end) {
    const int64_t plane = int64_t{pack.h} * pack.w, items = (plane + kPackPixels - 1) / kPackPixels;
    for (int64_t item = begin; item < end; ++item) {
        const int64_t image = item / items, first = item % items * kPackPixels;
        const int64_t last = first + kPackPixels < plane ? first + kPackPixels : plane;
        const float* from = x + image * pack.channels * plane;
        if (pack.planes == 2) pack_level_range<2>(pack, from, first, last, out, image);
        else pack_level_range<0>(pack, from, first, last, out, image);
    }
}

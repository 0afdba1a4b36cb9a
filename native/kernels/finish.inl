// From the counts of a block of pixels to sums, sign bits or floats.

// An output pixel of the block: where it lies and which border class it has.
struct Place {
    int64_t pixel;  // among all output pixels of the call
    int32_t image, row, column, border;
};

constexpr int32_t kTile = 64;  // channels that the float epilogue handles together

inline uint8_t* pixel_at(const BitImage& bits, const Place& at) {
    return bits.origin + at.image * bits.image_pitch + at.row * bits.row_pitch +
           at.column * bits.pixel_pitch;
}

// Channels of results that one call covers: [first, first + channels).
struct Span {
    int32_t first, channels;
};

// Spare lanes may have counted anything, which wraps around.
template <class Count>
inline Ints sums_of(const BitLayer& layer, const int32_t* base, const Count* counts) {
    return (Ints)((Words)load<Ints>(base) - 2 * (Words)load_counts(counts)) >> layer.halvings;
}

template <class Count>
void write_sums(const BitLayer& layer, const Results& out, const Place& at, Span span,
                const Count* counts) {
    const int32_t* base = layer.base + int64_t{at.border} * layer.padded_outputs + span.first;
    int32_t* to = out.sums + at.pixel * layer.out_channels + span.first;
    int32_t c = 0;
    for (; c + kInts <= span.channels; c += kInts)
        put(to + c, sums_of(layer, base + c, counts + c));
    for (; c < span.channels; ++c)
        to[c] = (base[c] - 2 * static_cast<int32_t>(counts[c])) >> layer.halvings;
}

inline uint32_t threshold_word(const BitLayer& layer, const uint16_t* counts, int64_t at) {
    return layer.limits16 ? exceed_bits16(counts, layer.limits16 + at)
                          : exceed_bits(counts, layer.limits + at);
}

inline uint32_t threshold_word(const BitLayer& layer, const int32_t* counts, int64_t at) {
    return exceed_bits(counts, layer.limits + at);
}

template <class Count>
void write_thresholds(const BitLayer& layer, const Results& out, const Place& at, Span span,
                      const Count* counts) {
    const int64_t table = int64_t{at.border} * layer.padded_outputs + span.first;
    uint8_t* to = pixel_at(out.bits, at) + span.first / 8;
    for (int32_t c = 0; c < span.channels; c += 32)
        put_word(to + c / 8,
                 threshold_word(layer, counts + c, table + c) ^ layer.flips[(span.first + c) / 32],
                 out.bits.pixel_pitch);
}

inline void level_words(const BitLayer& layer, const uint16_t* counts, int64_t at, uint32_t* words) {
    if (layer.limits16)
        exceed_digits16(counts, layer.limits16 + at, layer.limit_pitch, layer.out_planes, words);
    else
        exceed_digits(counts, layer.limits + at, layer.limit_pitch, layer.out_planes, words);
}

inline void level_words(const BitLayer& layer, const int32_t* counts, int64_t at, uint32_t* words) {
    exceed_digits(counts, layer.limits + at, layer.limit_pitch, layer.out_planes, words);
}

// A bit of 1 is a digit of 0, so the planes hold the number of limits that are exceeded, or its
// complement where flipped.
template <class Count>
void write_levels(const BitLayer& layer, const Results& out, const Place& at, Span span,
                  const Count* counts) {
    const int64_t table = int64_t{at.border} * layer.padded_outputs + span.first;
    uint8_t* to = pixel_at(out.bits, at) + span.first / 8;
    const int64_t plane_pitch = out.bits.plane_pitch, pixel_pitch = out.bits.pixel_pitch;
    const int planes = layer.out_planes;
    for (int32_t c = 0; c < span.channels; c += 32) {
        uint32_t words[kMaxPlanes];
        level_words(layer, counts + c, table + c, words);
        const uint32_t flips = layer.flips[(span.first + c) / 32];
        // What spare channels have counted is undefined.
        const int32_t left = span.channels - c;
        const uint32_t used = left < 32 ? (1u << left) - 1 : ~0u;
        for (int p = 0; p < planes; ++p)
            put_word(to + p * plane_pitch + c / 8, (words[p] ^ flips) & used, pixel_pitch);
    }
}

// Floats of one pixel into tile[0, channels), rounded up to whole vectors.
template <class Count>
void affine_row(const BitLayer& layer, const Results& out, const Place& at, Span span,
                const Count* counts, float* tile) {
    const int32_t* base = layer.base + int64_t{at.border} * layer.padded_outputs + span.first;
    const float* scale = layer.scale + span.first;
    const float* shift = layer.shift + span.first;
    for (int32_t c = 0; c < span.channels; c += kInts) {
        const Ints sums = sums_of(layer, base + c, counts + c);
        const Floats scaled = load<Floats>(scale + c) * __builtin_convertvector(sums, Floats);
        put(tile + c, scaled + load<Floats>(shift + c));
    }
    if (!out.residual) return;
    const float* residual = out.residual + at.pixel * layer.out_channels + span.first;
    for (int32_t c = 0; c < span.channels; ++c) tile[c] += residual[c];
}

inline void write_signs(const BitImage& bits, const Place& at, Span span, const float* tile) {
    uint8_t* to = pixel_at(bits, at) + span.first / 8;
    for (int32_t c = 0; c < span.channels; c += 32) {
        const int32_t left = span.channels - c;
        put_word(to + c / 8, negative_bits(tile + c) & (left < 32 ? (1u << left) - 1 : ~0u),
                 bits.pixel_pitch);
    }
}

inline void transpose4(const float* from, int64_t from_pitch, float* to, int64_t to_pitch) {
    const Quad a = load<Quad>(from), b = load<Quad>(from + from_pitch);
    const Quad c = load<Quad>(from + 2 * from_pitch), d = load<Quad>(from + 3 * from_pitch);
    typedef int32_t Order __attribute__((vector_size(16)));
    const Quad ab = __builtin_shuffle(a, b, Order{0, 4, 1, 5});
    const Quad cd = __builtin_shuffle(c, d, Order{0, 4, 1, 5});
    const Quad ab2 = __builtin_shuffle(a, b, Order{2, 6, 3, 7});
    const Quad cd2 = __builtin_shuffle(c, d, Order{2, 6, 3, 7});
    put(to, __builtin_shuffle(ab, cd, Order{0, 1, 4, 5}));
    put(to + to_pitch, __builtin_shuffle(ab, cd, Order{2, 3, 6, 7}));
    put(to + 2 * to_pitch, __builtin_shuffle(ab2, cd2, Order{0, 1, 4, 5}));
    put(to + 3 * to_pitch, __builtin_shuffle(ab2, cd2, Order{2, 3, 6, 7}));
}

// tile[pixel][pitch] of consecutive pixels to channel planes; pixels may cross into a next image.
inline void write_planes(const Window& w, int32_t out_channels, float* values, const Place* places,
                         int count, Span span, const float* tile, int64_t pitch) {
    const int64_t plane = int64_t{w.out_h} * w.out_w;
    const auto at = [&](int p, int32_t c) {
        const int64_t in_image = places[p].pixel - places[p].image * plane;
        return values + (int64_t{places[p].image} * out_channels + span.first + c) * plane + in_image;
    };
    for (int p = 0; p < count;) {
        const bool four = p + 4 <= count && places[p].image == places[p + 3].image;
        int32_t c = 0;
        if (four)
            for (; c + 4 <= span.channels; c += 4)
                transpose4(tile + p * pitch + c, pitch, at(p, c), plane);
        const int step = four ? 4 : 1;
        for (; c < span.channels; ++c)
            for (int i = 0; i < step; ++i) *at(p + i, c) = tile[(p + i) * pitch + c];
        p += step;
    }
}

template <class Count>
void write_affine(const BitLayer& layer, const Results& out, const Place* places, int count,
                  Span span, const Count* counts, int64_t pitch) {
    alignas(64) float tile[kMaxBlock * kTile];
    for (int32_t c = 0; c < span.channels; c += kTile) {
        const int32_t left = span.channels - c;
        const Span part{span.first + c, left < kTile ? left : kTile};
        for (int p = 0; p < count; ++p) {
            float* row = tile + p * kTile;
            affine_row(layer, out, places[p], part, counts + p * pitch + c, row);
            if (out.bits.origin) write_signs(out.bits, places[p], part, row);
            if (out.values && out.values_layout == Layout::kNHWC)
                __builtin_memcpy(out.values + places[p].pixel * layer.out_channels + part.first, row,
                                 static_cast<size_t>(part.channels) * sizeof(float));
        }
        if (out.values && out.values_layout == Layout::kNCHW)
            write_planes(layer.window, layer.out_channels, out.values, places, count, part, tile,
                         kTile);
    }
}

template <class Count>
void finish(const BitLayer& layer, const Results& out, const Place* places, int count, Span span,
            const Count* counts, int64_t pitch) {
    if (layer.finish == Finish::kAffine)
        return write_affine(layer, out, places, count, span, counts, pitch);
    for (int p = 0; p < count; ++p) {
        if (layer.finish == Finish::kSums)
            write_sums(layer, out, places[p], span, counts + p * pitch);
        else if (layer.out_planes > 1)
            write_levels(layer, out, places[p], span, counts + p * pitch);
        else
            write_thresholds(layer, out, places[p], span, counts + p * pitch);
    }
}

// Float dense layers and narrow convolutions: gathers the inputs of a block of output pixels as
// [k][pixel], then multiplies with panels of kFloatPanel output channels held in lanes.

constexpr int kFloatParts = kFloatPanel / kInts;
// As many pixels as keep all sums in registers.
constexpr int kFloatPixels = VECTOR_BYTES == 16 ? 2 : 6;

inline void place_floats(const Window& w, int64_t first, int count, Place* places) {
    const int64_t plane = int64_t{w.out_h} * w.out_w;
    for (int p = 0; p < count; ++p) {
        const int64_t pixel = first + p;
        places[p] = Place{pixel, static_cast<int32_t>(pixel / plane),
                          static_cast<int32_t>(pixel % plane / w.out_w),
                          static_cast<int32_t>(pixel % w.out_w), 0};
    }
}

// The first cells under the kernel, one per pixel of the block.
struct Corners {
    int64_t at[kFloatBlock];
    int32_t h[kFloatBlock], w[kFloatBlock];
    bool inside;  // no kernel cell of any pixel lies in the padding
};

inline Corners corners(const FloatLayer& layer, const Place* places, int count, int filled, int group) {
    const Window& w = layer.window;
    const int64_t plane = int64_t{w.in_h} * w.in_w;
    const int32_t last_h = (w.kernel_h - 1) * w.dilation_h, last_w = (w.kernel_w - 1) * w.dilation_w;
    Corners found;
    found.inside = true;
    for (int p = 0; p < filled; ++p) {
        // The last tile is filled with repetitions of the first pixel.
        const Place place = places[p < count ? p : 0];
        const int64_t channel = int64_t{place.image} * layer.in_channels +
                                group * (layer.in_channels / layer.groups);
        found.h[p] = place.row * w.stride_h - w.pad_h;
        found.w[p] = place.column * w.stride_w - w.pad_w;
        found.at[p] = channel * plane + int64_t{found.h[p]} * w.in_w + found.w[p];
        found.inside &= found.h[p] >= 0 && found.h[p] + last_h < w.in_h && found.w[p] >= 0 &&
                        found.w[p] + last_w < w.in_w;
    }
    return found;
}

inline bool below(int32_t x, int32_t size) {
    return static_cast<uint32_t>(x) < static_cast<uint32_t>(size);
}

inline void gather_floats(const FloatLayer& layer, const float* x, const Place* places, int count,
                          int group, float* to) {
    const Window& w = layer.window;
    const int filled = count == 1 ? 1 : (count + kFloatPixels - 1) / kFloatPixels * kFloatPixels;
    const Corners from = corners(layer, places, count, filled, group);
    const int64_t plane = int64_t{w.in_h} * w.in_w;
    for (int c = 0; c < layer.in_channels / layer.groups; ++c)
        for (int kh = 0; kh < w.kernel_h; ++kh)
            for (int kw = 0; kw < w.kernel_w; ++kw, to += kFloatBlock) {
                const int32_t down = kh * w.dilation_h, right = kw * w.dilation_w;
                const int64_t cell = c * plane + int64_t{down} * w.in_w + right;
                if (from.inside) {
                    for (int p = 0; p < filled; ++p) to[p] = x[from.at[p] + cell];
                    continue;
                }
                for (int p = 0; p < filled; ++p)
                    to[p] = below(from.h[p] + down, w.in_h) && below(from.w[p] + right, w.in_w)
                                ? x[from.at[p] + cell]
                                : 0.0f;
            }
}

// Pixel p finds tap k at x[taps[k] + p].
template <int P>
void float_tile(const float* x, const int32_t* taps, const float* weights, int row, float* sums) {
    Floats total[P][kFloatParts];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
        for (int r = 0; r < kFloatParts; ++r) total[p][r] = Floats{};
    for (int k = 0; k < row; ++k, weights += kFloatPanel) {
        const float* tap = x + taps[k];
        Floats part[kFloatParts];
#pragma GCC unroll 4
        for (int r = 0; r < kFloatParts; ++r) part[r] = load<Floats>(weights + r * kInts);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
            const Floats pixel = spread(tap[p]);
#pragma GCC unroll 4
            for (int r = 0; r < kFloatParts; ++r)
                total[p][r] = multiply_add(pixel, part[r], total[p][r]);
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
        for (int r = 0; r < kFloatParts; ++r) put(sums + p * kFloatPanel + r * kInts, total[p][r]);
}

// One pixel has no neighbour to hide the latency of a sum; neighbouring k do.
inline void float_row(const float* columns, const float* weights, int row, float* sums) {
    constexpr int kWays = 4;
    Floats total[kWays][kFloatParts] = {};
    int k = 0;
    for (; k + kWays <= row; k += kWays)
        for (int i = 0; i < kWays; ++i)
            for (int r = 0; r < kFloatParts; ++r)
                total[i][r] = multiply_add(spread(columns[(k + i) * kFloatBlock]),
                                           load<Floats>(weights + (k + i) * kFloatPanel + r * kInts),
                                           total[i][r]);
    for (; k < row; ++k)
        for (int r = 0; r < kFloatParts; ++r)
            total[0][r] = multiply_add(spread(columns[k * kFloatBlock]),
                                       load<Floats>(weights + k * kFloatPanel + r * kInts),
                                       total[0][r]);
    for (int r = 0; r < kFloatParts; ++r)
        put(sums + r * kInts, (total[0][r] + total[1][r]) + (total[2][r] + total[3][r]));
}

inline void float_signs(const FloatLayer& layer, const Results& out, const Place& at, Span span,
                        const float* sums) {
    uint32_t word = 0;
    for (int i = 0; i < kFloatPanel; i += kInts) {
        const float* side = layer.side + span.first + i;
        const Floats low = load<Floats>(layer.thresholds + span.first + i);
        word |= lane_bits(load<Floats>(sums + i) * load<Floats>(side) < low) << i;
    }
    if (span.channels < kFloatPanel) word &= (1u << span.channels) - 1;
    uint8_t* to = pixel_at(out.bits, at) + span.first / 8;
    // The last panel also clears the rest of its pixel's last word.
    const bool last = span.first + kFloatPanel >= layer.out_channels;
    if (last && span.first % 32 == 0) put_word(to, word, out.bits.pixel_pitch);
    else put(to, static_cast<uint16_t>(word));
}

inline void finish_floats(const FloatLayer& layer, const Results& out, const Place* places,
                          int count, Span span, float* sums) {
    if (layer.finish == Finish::kThreshold) {
        for (int p = 0; p < count; ++p)
            float_signs(layer, out, places[p], span, sums + p * kFloatPanel);
        return;
    }
    for (int p = 0; p < count; ++p) {
        float* row = sums + p * kFloatPanel;
        for (int i = 0; i < kFloatPanel; i += kInts)
            put(row + i, load<Floats>(row + i) * load<Floats>(layer.scale + span.first + i) +
                             load<Floats>(layer.shift + span.first + i));
        if (out.values_layout == Layout::kNHWC)
            __builtin_memcpy(out.values + places[p].pixel * layer.out_channels + span.first, row,
                             static_cast<size_t>(span.channels) * sizeof(float));
    }
    if (out.values_layout == Layout::kNCHW)
        write_planes(layer.window, layer.out_channels, out.values, places, count, span, sums,
                     kFloatPanel);
}

void gathered_layer(const FloatLayer& layer, const float* x, int32_t images, const Results& out,
                    float* sums, int64_t begin, int64_t end) {
    const int64_t pixels = int64_t{images} * layer.window.out_h * layer.window.out_w;
    float* columns = sums + kFloatBlock * kFloatPanel;
    Place places[kFloatBlock];
    int64_t current = -1;
    int count = 0;
    for (int64_t item = begin; item < end; ++item) {
        const int64_t gathered = item / layer.panels;
        const int group = static_cast<int>(gathered % layer.groups);
        const int panel = static_cast<int>(item % layer.panels);
        if (gathered != current) {
            current = gathered;
            const int64_t first = gathered / layer.groups * kFloatBlock;
            count = smaller(kFloatBlock, pixels - first);
            place_floats(layer.window, first, count, places);
            gather_floats(layer, x, places, count, group, columns);
        }
        const float* weights = layer.weights + (int64_t{group} * layer.panels + panel) * layer.row *
                                                   kFloatPanel;
        if (count == 1) float_row(columns, weights, layer.row, sums);
        else
            for (int p = 0; p < count; p += kFloatPixels)
                float_tile<kFloatPixels>(columns + p, layer.taps, weights, layer.row,
                                         sums + p * kFloatPanel);
        const int32_t first = panel * kFloatPanel;
        finish_floats(layer, out, places, count,
                      Span{group * layer.group_outputs + first,
                           smaller(kFloatPanel, layer.group_outputs - first)},
                      sums);
    }
}

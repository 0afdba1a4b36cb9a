// Float convolution and dense layers: gathers the inputs of a block of output pixels as [k][pixel],
// then multiplies with panels of kFloatPanel output channels held in lanes.

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

// Fills whole tiles, the last one with repetitions of the first pixel.
inline void gather_floats(const FloatLayer& layer, const float* x, const Place* places, int count,
                          int group, float* to) {
    const Window& w = layer.window;
    const int channels = layer.in_channels / layer.groups;
    const int64_t plane = int64_t{w.in_h} * w.in_w;
    const int filled = count == 1 ? 1 : (count + kFloatPixels - 1) / kFloatPixels * kFloatPixels;
    for (int p = 0; p < filled; ++p) {
        const Place at = places[p < count ? p : 0];
        const float* image = x + (int64_t{at.image} * layer.in_channels + group * channels) * plane;
        float* cell = to + p;
        for (int c = 0; c < channels; ++c)
            for (int kh = 0; kh < w.kernel_h; ++kh) {
                const int32_t h = at.row * w.stride_h - w.pad_h + kh * w.dilation_h;
                const bool row_inside = h >= 0 && h < w.in_h;
                const float* row = image + c * plane + (row_inside ? int64_t{h} * w.in_w : 0);
                for (int kw = 0; kw < w.kernel_w; ++kw, cell += kFloatBlock) {
                    const int32_t v = at.column * w.stride_w - w.pad_w + kw * w.dilation_w;
                    *cell = row_inside && v >= 0 && v < w.in_w ? row[v] : 0.0f;
                }
            }
    }
}

template <int P>
void float_tile(const float* columns, const float* weights, int row, float* sums) {
    Floats total[P][kFloatParts] = {};
    for (int k = 0; k < row; ++k, columns += kFloatBlock, weights += kFloatPanel) {
        Floats part[kFloatParts];
        for (int r = 0; r < kFloatParts; ++r) part[r] = load<Floats>(weights + r * kInts);
        for (int p = 0; p < P; ++p) {
            const Floats x = spread(columns[p]);
            for (int r = 0; r < kFloatParts; ++r)
                total[p][r] = multiply_add(x, part[r], total[p][r]);
        }
    }
    for (int p = 0; p < P; ++p)
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
    if (last && span.first % 32 == 0) put(to, word);
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

void float_layer(const FloatLayer& layer, const float* x, int32_t images, const Results& out,
                 void* scratch, int64_t begin, int64_t end) {
    const int64_t pixels = int64_t{images} * layer.window.out_h * layer.window.out_w;
    float* sums = static_cast<float*>(scratch);
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
                float_tile<kFloatPixels>(columns + p, weights, layer.row, sums + p * kFloatPanel);
        const int32_t first = panel * kFloatPanel;
        finish_floats(layer, out, places, count,
                      Span{group * layer.group_outputs + first,
                           smaller(kFloatPanel, layer.group_outputs - first)},
                      sums);
    }
}

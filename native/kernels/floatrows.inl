// Float convolution along output rows: copies the input rows under the kernel, then reads every tap
// from the copy.

// line[i] = row[i * stride + phase - pad], 0 outside of the image.
inline void copy_line(const float* row, int32_t size, int32_t stride, int32_t first, int64_t pitch,
                      float* line) {
    const int64_t from = first < 0 ? (-first + stride - 1) / stride : 0;
    const int64_t inside = size > first ? (size - first + stride - 1) / stride : 0;
    const int64_t low = from < pitch ? from : pitch;
    const int64_t high = inside < low ? low : inside < pitch ? inside : pitch;
    for (int64_t i = 0; i < low; ++i) line[i] = 0;
    if (stride == 1)
        __builtin_memcpy(line + low, row + low + first, static_cast<size_t>(high - low) * sizeof *row);
    else
        for (int64_t i = low; i < high; ++i) line[i] = row[i * stride + first];
    for (int64_t i = high; i < pitch; ++i) line[i] = 0;
}

inline void copy_lines(const FloatLayer& layer, const float* x, int64_t image, int32_t oh, int group,
                       float* lines) {
    const Window& w = layer.window;
    const int32_t channels = layer.in_channels / layer.groups;
    const int64_t plane = int64_t{w.in_h} * w.in_w;
    x += (image * layer.in_channels + int64_t{group} * channels) * plane;
    for (int32_t c = 0; c < channels; ++c, x += plane)
        for (int32_t kh = 0; kh < w.kernel_h; ++kh) {
            const int32_t h = oh * w.stride_h - w.pad_h + kh * w.dilation_h;
            const bool padding = !below(h, w.in_h);
            const float* row = padding ? x : x + int64_t{h} * w.in_w;
            for (int32_t phase = 0; phase < layer.phases; ++phase, lines += layer.pitch)
                copy_line(row, padding ? 0 : w.in_w, w.stride_w, phase - w.pad_w, layer.pitch, lines);
        }
}

// Four pixels have enough sums to keep the multipliers busy where six do not divide the row.
constexpr int kFewPixels = 4;

inline int next_tile(int left) {
    const int even = left + left % 2;
    return even % kFloatPixels == 0 || kFloatPixels < kFewPixels ? kFloatPixels : kFewPixels;
}

// C output channels at V vectors of neighbouring pixels in lanes, so that results for channel planes
// need no transposition.
template <int C, int V>
void plane_tile(const FloatLayer& layer, const float* x, const int32_t* taps, const float* weights,
                Span span, float* to, int64_t plane) {
    Floats total[C][V];
#pragma GCC unroll 6
    for (int c = 0; c < C; ++c)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) total[c][v] = Floats{};
    for (int k = 0; k < layer.row; ++k, weights += kFloatPanel) {
        const float* tap = x + taps[k];
        Floats part[V];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) part[v] = load<Floats>(tap + v * kInts);
#pragma GCC unroll 6
        for (int c = 0; c < C; ++c) {
            const Floats weight = spread(weights[c]);
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) total[c][v] = multiply_add(weight, part[v], total[c][v]);
        }
    }
    for (int c = 0; c < span.channels && c < C; ++c, to += plane) {
        const Floats scale = spread(layer.scale[span.first + c]);
        const Floats shift = spread(layer.shift[span.first + c]);
        for (int v = 0; v < V; ++v) put(to + v * kInts, total[c][v] * scale + shift);
    }
}

template <int C>
inline void plane_row(const FloatLayer& layer, const float* lines, const int32_t* taps,
                      const float* weights, Span span, float* to, int64_t plane) {
    const int32_t width = layer.window.out_w;
    for (int32_t column = 0; column < width;) {
        const int32_t left = width - column;
        if (left > kInts && width >= 2 * kInts) {
            // The last tile overlaps the one before.
            const int32_t at = left < 2 * kInts ? width - 2 * kInts : column;
            plane_tile<C, 2>(layer, lines + at, taps, weights, span, to + at, plane);
            column += 2 * kInts;
        } else {
            const int32_t at = left < kInts ? width - kInts : column;
            plane_tile<C, 1>(layer, lines + at, taps, weights, span, to + at, plane);
            column += kInts;
        }
    }
}

// As many sums as there are registers for.
constexpr int kPlaneChannels = VECTOR_BYTES == 16 ? 4 : 6;

inline void plane_tiles(const FloatLayer& layer, const float* lines, const int32_t* taps,
                        const float* weights, Span span, float* to) {
    const int64_t plane = int64_t{layer.window.out_h} * layer.window.out_w;
    for (int32_t c = 0; c < span.channels;) {
        const int32_t left = span.channels - c;
        const Span few{span.first + c, left};
        // Sixteen channels are four times four, and not three times six.
        const bool six = kPlaneChannels == 6 && left % 4 && left > 4;
        if (six)
            plane_row<kPlaneChannels>(layer, lines, taps, weights + c, few, to + c * plane, plane);
        else
            plane_row<4>(layer, lines, taps, weights + c, few, to + c * plane, plane);
        c += six ? kPlaneChannels : 4;
    }
}

void layer_by_rows(const FloatLayer& layer, const float* x, const Results& out, float* sums,
                   int64_t begin, int64_t end) {
    const Window& w = layer.window;
    float* lines = sums + kFloatBlock * kFloatPanel;
    // What is computed twice would cost more than transpositions in the narrowest rows.
    const bool planes = layer.finish == Finish::kAffine && out.values_layout == Layout::kNCHW &&
                        (w.out_w % kInts == 0 || w.out_w >= 2 * kInts);
    // Whole tiles read nothing but their taps, so without padding there is nothing to copy.
    const bool direct = planes && layer.direct_taps;
    int64_t current = -1;
    for (int64_t item = begin; item < end; ++item) {
        const int64_t copied = item / layer.panels, row = copied / layer.groups;
        const int group = static_cast<int>(copied % layer.groups);
        const int panel = static_cast<int>(item % layer.panels);
        const auto image = static_cast<int32_t>(row / w.out_h);
        const auto oh = static_cast<int32_t>(row % w.out_h);
        if (copied != current && !direct) copy_lines(layer, x, image, oh, group, lines);
        current = copied;
        const float* weights =
            layer.weights + (int64_t{group} * layer.panels + panel) * layer.row * kFloatPanel;
        const int32_t first = panel * kFloatPanel;
        const Span span{group * layer.group_outputs + first,
                        smaller(kFloatPanel, layer.group_outputs - first)};
        if (planes) {
            const int64_t channel = int64_t{image} * layer.out_channels + span.first;
            const int64_t from = int64_t{image} * layer.in_channels +
                                 group * (layer.in_channels / layer.groups);
            plane_tiles(layer, direct ? x + (from * w.in_h + oh * w.stride_h) * w.in_w : lines,
                        direct ? layer.direct_taps : layer.taps, weights, span,
                        out.values + (channel * w.out_h + oh) * w.out_w);
            continue;
        }
        for (int32_t column = 0; column < w.out_w;) {
            Place places[kFloatBlock];
            int count = 0;
            while (column < w.out_w && count + kFloatPixels <= kFloatBlock) {
                const int tile = next_tile(w.out_w - column);
                float* to = sums + count * kFloatPanel;
                if (tile == kFewPixels)
                    float_tile<kFewPixels>(lines + column, layer.taps, weights, layer.row, to);
                else
                    float_tile<kFloatPixels>(lines + column, layer.taps, weights, layer.row, to);
                for (int p = 0; p < tile && column < w.out_w; ++p, ++column)
                    places[count++] = Place{row * w.out_w + column, image, oh, column, 0};
            }
            finish_floats(layer, out, places, count, span, sums);
        }
    }
}

// Float convolution with weights of +-1 to sign bits, for short rows of taps: pixels in lanes. All
// sums and differences of three taps are made once and shared by all channels, which then add a
// third as many terms as there are taps; a comparison leaves each pixel's bit in its own lane.

// A step handles kSignPixels pixels or, with few registers, half of them.
constexpr int kSignVectors = VECTOR_BYTES == 64 ? 2 : 4;
constexpr int64_t kSignEntry = kSignPixels;  // floats

template <int V>
void sign_tables(const FloatLayer& layer, const float* lines, float* table) {
    for (int32_t k = 0; k < layer.row; k += 3, table += 8 * kSignEntry) {
        const int32_t taps = layer.row - k;
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            const float* x = lines + v * kInts;
            const Floats a = load<Floats>(x + layer.taps[k]);
            const Floats b = taps > 1 ? load<Floats>(x + layer.taps[k + 1]) : Floats{};
            const Floats c = taps > 2 ? load<Floats>(x + layer.taps[k + 2]) : Floats{};
            const Floats sum = a + b, difference = a - b;
            float* to = table + v * kInts;
            put(to, sum + c);
            put(to + 7 * kSignEntry, -(sum + c));
            put(to + 4 * kSignEntry, sum - c);
            put(to + 3 * kSignEntry, -(sum - c));
            put(to + 2 * kSignEntry, difference + c);
            put(to + 5 * kSignEntry, -(difference + c));
            put(to + 6 * kSignEntry, difference - c);
            put(to + 1 * kSignEntry, -(difference - c));
        }
    }
}

// Bits of channels [first, first + channels) at V vectors of pixels: a word per lane.
template <int V>
void sign_words(const FloatLayer& layer, const float* table, int32_t first, int32_t channels,
                Words* words) {
    const char* entries = reinterpret_cast<const char*>(table);
    Words word[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) word[v] = Words{};
    for (int32_t o = first + channels - 1; o >= first; --o) {
        const uint16_t* at = layer.sign_entries + int64_t{o} * layer.sign_groups;
        Floats sum[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[v] = load<Floats>(entries + at[0] + v * VECTOR_BYTES);
        for (int32_t g = 1; g < layer.sign_groups; ++g)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[v] += load<Floats>(entries + at[g] + v * VECTOR_BYTES);
        const Floats low = spread(layer.thresholds[o]);
        // A true comparison is -1.
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) word[v] = (word[v] + word[v]) - (Words)(sum[v] < low);
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) words[v] = word[v];
}

template <int V>
void sign_step(const FloatLayer& layer, const float* lines, float* table, int32_t pixels, uint8_t* to,
               int64_t pixel_pitch) {
    sign_tables<V>(layer, lines, table);
    for (int32_t first = 0; first < layer.out_channels; first += 32, to += 4) {
        Words words[V];
        sign_words<V>(layer, table, first, smaller(32, layer.out_channels - first), words);
        const uint8_t* from = reinterpret_cast<const uint8_t*>(words);
        if (pixel_pitch == 4)
            __builtin_memcpy(to, from, static_cast<size_t>(pixels) * 4);
        else
            for (int32_t p = 0; p < pixels; ++p)
                put_word(to + p * pixel_pitch, load<uint32_t>(from + 4 * p), pixel_pitch);
    }
}

void sign_rows(const FloatLayer& layer, const float* x, const Results& out, float* lines,
               int64_t begin, int64_t end) {
    const Window& w = layer.window;
    constexpr int32_t kStep = kSignVectors * kInts;
    const int64_t copies = int64_t{layer.in_channels} * w.kernel_h * layer.phases * layer.pitch;
    // Entries are aligned, so that vectors of a table do not cross cache lines.
    const auto after = reinterpret_cast<uintptr_t>(lines + copies + kSignPixels);
    float* table = reinterpret_cast<float*>((after + 63) & ~uintptr_t{63});
    for (int64_t item = begin; item < end; ++item) {
        const auto oh = static_cast<int32_t>(item % w.out_h);
        const int64_t image = item / w.out_h;
        copy_lines(layer, x, image, oh, 0, lines);
        uint8_t* to = out.bits.origin + image * out.bits.image_pitch + oh * out.bits.row_pitch;
        for (int32_t column = 0; column < w.out_w;) {
            const int32_t left = w.out_w - column;
            const bool whole = left > kStep - kInts;
            const int32_t pixels = smaller(left, whole ? kStep : kInts);
            uint8_t* at = to + column * out.bits.pixel_pitch;
            if (whole)
                sign_step<kSignVectors>(layer, lines + column, table, pixels, at,
                                        out.bits.pixel_pitch);
            else
                sign_step<1>(layer, lines + column, table, pixels, at, out.bits.pixel_pitch);
            column += pixels;
        }
    }
}

void float_layer(const FloatLayer& layer, const float* x, int32_t images, const Results& out,
                 void* scratch, int64_t begin, int64_t end) {
    float* memory = static_cast<float*>(scratch);
    if (layer.sign_entries) sign_rows(layer, x, out, memory, begin, end);
    else if (layer.by_rows) layer_by_rows(layer, x, out, memory, begin, end);
    else gathered_layer(layer, x, images, out, memory, begin, end);
}

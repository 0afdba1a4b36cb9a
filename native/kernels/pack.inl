// Floats to sign bits, written into the interior of a bit image.

inline void pack_pixels_nhwc(const float* x, int32_t channels, uint8_t* to, int64_t pitch) {
    int32_t c = 0;
    for (; c + 32 <= channels; c += 32) put(to + c / 8, negative_bits(x + c));
    if (c == channels) return;
    uint32_t word = 0;
    for (int32_t i = c; i < channels; ++i) word |= (x[i] < 0 ? 1u : 0u) << (i - c);
    put_word(to + c / 8, word, pitch);
}

// 32 channels of kInts neighbouring pixels: lane p collects the word of pixel p.
inline Words plane_words(const float* x, int64_t plane, int channels) {
    Words words{};
    for (int c = 0; c < channels; ++c)
        words |= (Words)(load<Floats>(x + c * plane) < Floats{}) & (1u << c);
    return words;
}

inline uint32_t pixel_word(const float* x, int64_t plane, int channels) {
    uint32_t word = 0;
    for (int c = 0; c < channels; ++c) word |= (x[c * plane] < 0 ? 1u : 0u) << c;
    return word;
}

// Pixels of at most a word.
inline void pack_small_planes(const float* x, int64_t plane, int32_t channels, int32_t w,
                              int64_t pixel, int64_t end, const BitImage& out, int64_t image) {
    PixelRows rows;
    int64_t p = pixel;
    for (; p + kInts <= end; p += kInts)
        rows.take(0, p - pixel, out.pixel_pitch, plane_words(x + p, plane, channels));
    for (; p < end; ++p)
        put_word(rows.planes[0] + (p - pixel) * out.pixel_pitch, pixel_word(x + p, plane, channels),
                 out.pixel_pitch);
    rows.put_all(out, image, w, pixel, end, 1);
}

inline void pack_planes(const float* x, int64_t plane, int32_t channels, int32_t w, int64_t pixel,
                        int64_t end, const BitImage& out, int64_t image) {
    if (out.pixel_pitch <= 4) return pack_small_planes(x, plane, channels, w, pixel, end, out, image);
    for (int32_t c = 0; c < channels; c += 32) {
        const int some = channels - c < 32 ? channels - c : 32;
        const float* from = x + c * plane;
        int64_t p = pixel;
        for (; p + kInts <= end; p += kInts) {
            const Words words = plane_words(from + p, plane, some);
            put_words(out, image, w, p, kInts, c / 8, 1, &words);
        }
        for (; p < end; ++p)
            put(packed_pixel(out, image, w, p) + c / 8, pixel_word(from + p, plane, some));
    }
}

void pack(const float* x, Layout layout, int32_t channels, int32_t h, int32_t w,
          const BitImage& out, int64_t begin, int64_t end) {
    const int64_t plane = int64_t{h} * w, items = (plane + kPackPixels - 1) / kPackPixels;
    for (int64_t item = begin; item < end; ++item) {
        const int64_t image = item / items, first = item % items * kPackPixels;
        const int64_t last = first + kPackPixels < plane ? first + kPackPixels : plane;
        const float* from = x + image * channels * plane;
        if (layout == Layout::kNCHW) {
            pack_planes(from, plane, channels, w, first, last, out, image);
            continue;
        }
        uint8_t* to = packed_pixel(out, image, w, first);
        int64_t column = first % w;
        for (int64_t p = first; p < last; ++p) {
            pack_pixels_nhwc(from + p * channels, channels, to, out.pixel_pitch);
            to += out.pixel_pitch;
            if (++column < w) continue;
            column = 0;
            to += out.row_pitch - w * out.pixel_pitch;
        }
    }
}

// Floats to sign bits, written into the interior of a bit image.

inline uint8_t* packed_pixel(const BitImage& out, int64_t image, int32_t w, int64_t pixel) {
    return out.origin + image * out.image_pitch + pixel / w * out.row_pitch +
           pixel % w * out.pixel_pitch;
}

inline void pack_pixels_nhwc(const float* x, int32_t channels, uint8_t* to, int64_t pitch) {
    int32_t c = 0;
    for (; c + 32 <= channels; c += 32) put(to + c / 8, negative_bits(x + c));
    if (c == channels) return;
    uint32_t word = 0;
    for (int32_t i = c; i < channels; ++i) word |= (x[i] < 0 ? 1u : 0u) << (i - c);
    put_word(to + c / 8, word, pitch);
}

// 32 channels of kInts neighbouring pixels: lane p collects the word of pixel p.
inline Ints plane_words(const float* x, int64_t plane, int channels) {
    Ints words{};
    for (int c = 0; c < channels; ++c)
        words |= (load<Floats>(x + c * plane) < Floats{}) & static_cast<int32_t>(1u << c);
    return words;
}

inline void pack_planes(const float* x, int64_t plane, int32_t channels, int32_t w, int64_t pixel,
                        int64_t end, const BitImage& out, int64_t image) {
    for (int32_t c = 0; c < channels; c += 32) {
        const int some = channels - c < 32 ? channels - c : 32;
        const float* from = x + c * plane;
        int64_t p = pixel;
        for (; p + kInts <= end; p += kInts) {
            const Ints words = plane_words(from + p, plane, some);
            uint8_t* to = packed_pixel(out, image, w, p) + c / 8;
            int64_t column = p % w;
            for (int i = 0; i < kInts; ++i) {
                put_word(to, static_cast<uint32_t>(words[i]), out.pixel_pitch);
                to += out.pixel_pitch;
                if (++column == w) {
                    column = 0;
                    to += out.row_pitch - w * out.pixel_pitch;
                }
            }
        }
        for (; p < end; ++p) {
            uint32_t word = 0;
            for (int i = 0; i < some; ++i) word |= (from[i * plane + p] < 0 ? 1u : 0u) << i;
            put_word(packed_pixel(out, image, w, p) + c / 8, word, out.pixel_pitch);
        }
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

// Words of channels on their way to a bit image. Vectors of neighbouring pixels cross the ends of rows.

inline uint8_t* packed_pixel(const BitImage& out, int64_t image, int32_t w, int64_t pixel) {
    return out.origin + image * out.image_pitch + pixel / w * out.row_pitch +
           pixel % w * out.pixel_pitch;
}

// A word of 32 channels, from `byte` on, of `count` pixels in each plane.
inline void put_words(const BitImage& out, int64_t image, int32_t w, int64_t pixel, int64_t count,
                      int32_t byte, int planes, const Words* words) {
    for (int d = 0; d < planes; ++d) {
        uint8_t* to = packed_pixel(out, image, w, pixel) + byte + d * out.plane_pitch;
        int64_t column = pixel % w;
        for (int i = 0; i < count; ++i) {
            put_word(to, words[d][i], out.pixel_pitch);
            to += out.pixel_pitch;
            if (++column == w) {
                column = 0;
                to += out.row_pitch - w * out.pixel_pitch;
            }
        }
    }
}

// Pixels of up to 32 channels: those of an item are collected, then copied row by row.
struct PixelRows {
    alignas(64) uint8_t planes[kMaxPlanes][4 * kPackPixels + VECTOR_BYTES];

    // Words of kInts pixels from `pixel` on.
    void take(int plane, int64_t pixel, int64_t pixel_pitch, Words words) {
        uint8_t* to = planes[plane] + pixel * pixel_pitch;
        if (pixel_pitch == 1) put(to, low_bytes(words));
        else if (pixel_pitch == 2) put(to, __builtin_convertvector(words, Halves));
        else put(to, words);
    }

    // Pixels [first, last) of an image of `w` columns.
    void put_all(const BitImage& out, int64_t image, int32_t w, int64_t first, int64_t last,
                 int count) const {
        const int64_t pitch = out.pixel_pitch, bytes = (last - first) * pitch;
        uint8_t* to = out.origin + image * out.image_pitch + first / w * out.row_pitch + first % w * pitch;
        int64_t some = smaller(bytes, (w - first % w) * pitch);
        for (int64_t done = 0; done < bytes;) {
            for (int p = 0; p < count; ++p) copy_bytes(to + p * out.plane_pitch, planes[p] + done, some);
            to += some + out.row_pitch - w * pitch;
            done += some;
            some = smaller(bytes - done, w * pitch);
        }
    }

  private:
    typedef uint8_t Bytes __attribute__((vector_size(kInts)));

    static Bytes low_bytes(Words words) {
#if VECTOR_BYTES == 32
        // GCC 12 converts byte after byte.
        const __m256i first = _mm256_setr_epi64x(0x0c080400, 0, 0x0c080400, 0);
        const __m256i bytes = _mm256_shuffle_epi8((__m256i)words, first);
        const __m128i last = _mm256_extracti128_si256(bytes, 1);
        return (Bytes)_mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), last)[0];
#else
        return __builtin_convertvector(words, Bytes);
#endif
    }
};

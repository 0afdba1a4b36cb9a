// Max-pool on integers in planes of digits. A bit is 1 iff its digit is 0, so the largest integer has
// the least planes read as a number: compared digit by digit from the highest, for 32 or more
// channels at once. Channels of the mask are the other way round: the least of turned bits, turned.

constexpr int64_t kPlanePoolBytes = 1024;

// The running least of several numbers.
template <class V>
struct LeastDigits {
    V digits[kMaxPlanes];

    void start(int planes) {
        for (int p = 0; p < planes; ++p) digits[p] = ~V{};
    }
    // `cell(p)` gives plane p of the next number.
    template <class Cell>
    void take(int planes, const Cell& cell) {
        V next[kMaxPlanes], less{}, equal = ~V{};
        for (int p = 0; p < planes; ++p) {
            next[p] = cell(p);
            const V differ = next[p] ^ digits[p];
            less |= equal & differ & digits[p];
            equal &= ~differ;
        }
        for (int p = 0; p < planes; ++p) digits[p] ^= (digits[p] ^ next[p]) & less;
    }
};

// Rows of cells combined, a piece of kPlanePoolBytes for each plane.
struct PlaneBuffers {
    alignas(64) uint8_t cells[kMaxPlanes * kPlanePoolBytes], mask[kPlanePoolBytes];
};

inline void combine_plane_rows(const Window& w, const BitImage& in, const uint8_t* from, Cells rows,
                               int64_t bytes, PlaneBuffers& buffers) {
    const int64_t down = w.dilation_h * in.row_pitch;
    from += rows.start * in.row_pitch;
    for (int64_t i = 0; i < bytes; i += VECTOR_BYTES) {
        const Raw mask = load<Raw>(buffers.mask + i);
        LeastDigits<Raw> least;
        least.start(in.planes);
        for (int32_t kh = rows.from; kh < rows.to; ++kh)
            least.take(in.planes, [&](int p) {
                return load<Raw>(from + kh * down + i + p * in.plane_pitch) ^ mask;
            });
        for (int p = 0; p < in.planes; ++p)
            put(buffers.cells + p * kPlanePoolBytes + i, least.digits[p]);
    }
}

inline void put_least(const BitPool& pool, const BitImage& out, int32_t word, uint8_t* to,
                      const LeastDigits<uint32_t>& least) {
    const uint32_t mask = pool.all_mask ? pool.all_mask[word] : 0, used = channel_bits(pool, word);
    for (int p = 0; p < out.planes; ++p)
        put_word(to + p * out.plane_pitch + 4 * word, (least.digits[p] ^ mask) & used,
                 out.pixel_pitch);
}

// A window without cells.
inline void put_lowest(const BitPool& pool, const BitImage& out, uint8_t* to) {
    LeastDigits<uint32_t> least;
    least.start(out.planes);
    for (int32_t word = 0; word < pool.words; ++word) put_least(pool, out, word, to, least);
}

// The windows of an output row from column `ow` on, for as long as their cells are in the buffers.
// Returns the first column that is left.
inline int32_t pool_plane_columns(const BitPool& pool, const BitImage& in, const BitImage& out,
                                  const uint8_t* image, Cells rows, int32_t ow, PlaneBuffers& buffers,
                                  uint8_t* to) {
    const Window& w = pool.window;
    const int64_t pitch = in.pixel_pitch, capacity = kPlanePoolBytes / pitch;
    const Cells start = inside(ow, w.stride_w, w.pad_w, w.dilation_w, w.kernel_w, w.in_w);
    const int64_t first = start.start + start.from * int64_t{w.dilation_w};
    const int64_t end = first + capacity < w.in_w ? first + capacity : w.in_w;
    if (start.from >= start.to) {
        put_lowest(pool, out, to + ow * out.pixel_pitch);
        return ow + 1;
    }
    combine_plane_rows(w, in, image + first * pitch, rows, (end - first) * pitch, buffers);
    for (; ow < w.out_w; ++ow) {
        const Cells cols = inside(ow, w.stride_w, w.pad_w, w.dilation_w, w.kernel_w, w.in_w);
        const int64_t left = cols.start + cols.from * int64_t{w.dilation_w};
        const int64_t right = cols.start + (cols.to - 1) * int64_t{w.dilation_w};
        // A window after one that begins in the padding may begin further left.
        if (cols.from >= cols.to || left < first || right >= end) break;
        const uint8_t* cells = buffers.cells + (left - first) * pitch;
        for (int32_t word = 0; word < pool.words; ++word) {
            LeastDigits<uint32_t> least;
            least.start(in.planes);
            for (int32_t kw = 0; kw < cols.to - cols.from; ++kw)
                least.take(in.planes, [&](int p) {
                    return load<uint32_t>(cells + p * kPlanePoolBytes + kw * w.dilation_w * pitch +
                                          4 * word);
                });
            put_least(pool, out, word, to + ow * out.pixel_pitch, least);
        }
    }
    return ow;
}

// The same for pixels so large that the cells of a window would not fit.
inline void pool_plane_wide(const BitPool& pool, const BitImage& in, const BitImage& out,
                            const uint8_t* image, Cells rows, uint8_t* to) {
    const Window& w = pool.window;
    for (int32_t ow = 0; ow < w.out_w; ++ow, to += out.pixel_pitch) {
        const Cells cols = inside(ow, w.stride_w, w.pad_w, w.dilation_w, w.kernel_w, w.in_w);
        for (int32_t word = 0; word < pool.words; ++word) {
            const uint32_t mask = pool.all_mask ? pool.all_mask[word] : 0;
            LeastDigits<uint32_t> least;
            least.start(in.planes);
            for (int32_t kh = rows.from; kh < rows.to; ++kh)
                for (int32_t kw = cols.from; kw < cols.to; ++kw)
                    least.take(in.planes, [&](int p) {
                        return mask ^ load<uint32_t>(
                                          image + p * in.plane_pitch + 4 * word +
                                          (rows.start + kh * w.dilation_h) * in.row_pitch +
                                          (cols.start + kw * w.dilation_w) * in.pixel_pitch);
                    });
            put_least(pool, out, word, to, least);
        }
    }
}

template <int PLANES>
void plane_pool(const BitPool& pool, BitImage in, BitImage out, int64_t begin, int64_t end) {
    // A known number of planes stays in registers.
    if (PLANES) in.planes = out.planes = PLANES;
    const Window& w = pool.window;
    const bool wide =
        ((w.kernel_w - 1) * int64_t{w.dilation_w} + 1) * in.pixel_pitch > kPlanePoolBytes;
    PlaneBuffers buffers;
    const int64_t row = (w.in_w * in.pixel_pitch + VECTOR_BYTES - 1) / VECTOR_BYTES * VECTOR_BYTES;
    if (!wide) repeat_mask(pool, in.pixel_pitch, row < kPlanePoolBytes ? row : kPlanePoolBytes, buffers.mask);
    for (int64_t item = begin; item < end; ++item) {
        const int64_t image = item / w.out_h;
        const auto oh = static_cast<int32_t>(item % w.out_h);
        const Cells rows = inside(oh, w.stride_h, w.pad_h, w.dilation_h, w.kernel_h, w.in_h);
        const uint8_t* from = in.origin + image * in.image_pitch;
        uint8_t* to = out.origin + image * out.image_pitch + oh * out.row_pitch;
        if (wide) pool_plane_wide(pool, in, out, from, rows, to);
        else
            for (int32_t ow = 0; ow < w.out_w;)
                ow = pool_plane_columns(pool, in, out, from, rows, ow, buffers, to);
    }
}

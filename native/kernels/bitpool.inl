// Max-pool on sign bits. A maximum is -1 (bit 1) only if all cells are: AND. Channels of the mask
// are the other way round: OR. Cells outside the image count for neither.

// The part [from, to) of a window's cells that lies inside the image.
struct Cells {
    int32_t start, from, to;
};

inline Cells inside(int32_t position, int32_t stride, int32_t pad, int32_t dilation, int32_t kernel,
                    int32_t size) {
    Cells cells{position * stride - pad, 0, kernel};
    while (cells.from < kernel && cells.start + cells.from * dilation < 0) ++cells.from;
    while (cells.to > cells.from && cells.start + (cells.to - 1) * dilation >= size) --cells.to;
    return cells;
}

inline void pool_pixel(const BitPool& pool, const BitImage& in, const uint8_t* image, Cells rows,
                       Cells cols, uint8_t* to) {
    const Window& w = pool.window;
    for (int32_t word = 0; word < pool.words; ++word) {
        uint32_t all = ~0u, any = 0;
        for (int32_t kh = rows.from; kh < rows.to; ++kh) {
            const uint8_t* row = image + (rows.start + kh * w.dilation_h) * in.row_pitch + 4 * word;
            for (int32_t kw = cols.from; kw < cols.to; ++kw) {
                const auto bits =
                    load<uint32_t>(row + (cols.start + kw * w.dilation_w) * in.pixel_pitch);
                all &= bits;
                any |= bits;
            }
        }
        const uint32_t mask = pool.all_mask ? pool.all_mask[word] : 0;
        // A window without any cell would leave ones, also in the spare bits.
        const bool empty = rows.from >= rows.to || cols.from >= cols.to;
        put(to + 4 * word, empty ? 0 : all | (any & mask));
    }
}

void bit_pool(const BitPool& pool, const BitImage& in, const BitImage& out, int64_t begin,
              int64_t end) {
    const Window& w = pool.window;
    for (int64_t item = begin; item < end; ++item) {
        const int64_t image = item / w.out_h;
        const int32_t oh = static_cast<int32_t>(item % w.out_h);
        const Cells rows = inside(oh, w.stride_h, w.pad_h, w.dilation_h, w.kernel_h, w.in_h);
        uint8_t* to = out.origin + image * out.image_pitch + oh * out.row_pitch;
        for (int32_t ow = 0; ow < w.out_w; ++ow, to += out.pixel_pitch)
            pool_pixel(pool, in, in.origin + image * in.image_pitch, rows,
                       inside(ow, w.stride_w, w.pad_w, w.dilation_w, w.kernel_w, w.in_w), to);
    }
}

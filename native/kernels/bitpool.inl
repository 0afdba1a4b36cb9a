// Max-pool on sign bits. A maximum is -1 (bit 1) only if all cells are: AND. Channels of the mask
// are the other way round: OR, that is AND of turned bits. Cells outside the image do not count.

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

// Input pixels that are combined at once, and the mask of turned channels repeated over them.
struct PoolBuffers {
    static constexpr int64_t kBytes = 2048;
    alignas(64) uint8_t cells[kBytes], mask[kBytes];
};

// AND of the turned bits of the rows of cells over `bytes` of a row of pixels, in whole vectors.
inline void combine_rows(const Window& w, const BitImage& in, const uint8_t* from, Cells rows,
                         int64_t bytes, PoolBuffers& buffers) {
    const int64_t down = w.dilation_h * in.row_pitch;
    from += rows.start * in.row_pitch;
    for (int64_t i = 0; i < bytes; i += VECTOR_BYTES) {
        const Raw mask = load<Raw>(buffers.mask + i);
        Raw all = ~Raw{};
        for (int32_t kh = rows.from; kh < rows.to; ++kh) all &= load<Raw>(from + kh * down + i) ^ mask;
        put(buffers.cells + i, all);
    }
}

// AND over a window of one row of cells, `step` bytes apart. The compiler unrolls a known WIDTH.
template <int WIDTH>
inline void pool_columns(const uint8_t* cells, int64_t step, int32_t width, const uint8_t* mask,
                         int32_t words, uint8_t* to, int64_t pitch) {
    for (int32_t word = 0; word < words; ++word, cells += 4) {
        uint32_t all = ~0u;
        for (int32_t kw = 0; kw < (WIDTH ? WIDTH : width); ++kw) all &= load<uint32_t>(cells + kw * step);
        put_word(to + 4 * word, all ^ load<uint32_t>(mask + 4 * word), pitch);
    }
}

// The bits of a word that belong to channels.
inline uint32_t channel_bits(const BitPool& pool, int32_t word) {
    const int32_t left = pool.channels - 32 * word;
    return left < 32 ? (1u << left) - 1 : ~0u;
}

// A window without cells: what it would hold if there were one of -1 before bits are turned.
inline void put_no_cells(const BitPool& pool, uint8_t* to, int64_t pitch) {
    for (int32_t word = 0; word < pool.words; ++word)
        put_word(to + 4 * word, channel_bits(pool, word) & ~(pool.all_mask ? pool.all_mask[word] : 0),
                 pitch);
}

// The mask of turned channels repeated over `bytes` of a row of pixels.
inline void repeat_mask(const BitPool& pool, int64_t pitch, int64_t bytes, uint8_t* to) {
    if (!pool.all_mask) {
        __builtin_memset(to, 0, static_cast<size_t>(bytes));
        return;
    }
    const uint8_t* mask = reinterpret_cast<const uint8_t*>(pool.all_mask);
    for (int64_t i = 0, at = 0; i < bytes; ++i, at = at + 1 == pitch ? 0 : at + 1) to[i] = mask[at];
}

// Combines rows first, for all columns that fit into the buffer.
inline void pool_row(const BitPool& pool, const BitImage& in, const uint8_t* image, Cells rows,
                     PoolBuffers& buffers, uint8_t* to, int64_t to_pitch) {
    const Window& w = pool.window;
    const int64_t capacity = PoolBuffers::kBytes / in.pixel_pitch, pitch = in.pixel_pitch;
    const int64_t step = w.dilation_w * pitch, stride = w.stride_w * pitch;
    int64_t first = 0, end = 0;  // columns in the buffer
    for (int32_t ow = 0; ow < w.out_w;) {
        const Cells cols = inside(ow, w.stride_w, w.pad_w, w.dilation_w, w.kernel_w, w.in_w);
        const int32_t width = cols.to - cols.from;
        uint8_t* at = to + ow * to_pitch;
        ++ow;
        if (rows.from >= rows.to || width <= 0) {
            put_no_cells(pool, at, to_pitch);
            continue;
        }
        const int64_t left = cols.start + cols.from * int64_t{w.dilation_w};
        int64_t right = left + (width - 1) * int64_t{w.dilation_w};
        // A window after one that begins in the padding may begin further left.
        if (left < first || right >= end) {
            first = left;
            end = first + capacity < w.in_w ? first + capacity : w.in_w;
            combine_rows(w, in, image + first * pitch, rows, (end - first) * pitch, buffers);
        }
        const uint8_t* cells = buffers.cells + (left - first) * pitch;
        if (width != 2) {
            pool_columns<0>(cells, step, width, buffers.mask, pool.words, at, to_pitch);
            continue;
        }
        pool_columns<2>(cells, step, width, buffers.mask, pool.words, at, to_pitch);
        // The common case goes on for as long as windows are whole and in the buffer.
        if (w.kernel_w != 2) continue;
        for (right += w.stride_w; ow < w.out_w && right < end; ++ow, right += w.stride_w) {
            cells += stride;
            at += to_pitch;
            pool_columns<2>(cells, step, width, buffers.mask, pool.words, at, to_pitch);
        }
    }
}

// The same for pixels so large that the cells of a window would not fit.
inline void pool_wide_row(const BitPool& pool, const BitImage& in, const uint8_t* image, Cells rows,
                          uint8_t* to, int64_t to_pitch) {
    const Window& w = pool.window;
    for (int32_t ow = 0; ow < w.out_w; ++ow, to += to_pitch) {
        const Cells cols = inside(ow, w.stride_w, w.pad_w, w.dilation_w, w.kernel_w, w.in_w);
        if (rows.from >= rows.to || cols.from >= cols.to) {
            put_no_cells(pool, to, to_pitch);
            continue;
        }
        for (int32_t word = 0; word < pool.words; ++word) {
            const uint32_t mask = pool.all_mask ? pool.all_mask[word] : 0;
            uint32_t all = ~0u;
            for (int32_t kh = rows.from; kh < rows.to; ++kh)
                for (int32_t kw = cols.from; kw < cols.to; ++kw)
                    all &= mask ^ load<uint32_t>(
                                      image + (rows.start + kh * w.dilation_h) * in.row_pitch +
                                      (cols.start + kw * w.dilation_w) * in.pixel_pitch + 4 * word);
            put_word(to + 4 * word, all ^ mask, to_pitch);
        }
    }
}

template <int PLANES>
void plane_pool(const BitPool& pool, BitImage in, BitImage out, int64_t begin, int64_t end);

void bit_pool(const BitPool& pool, const BitImage& in, const BitImage& out, int64_t begin,
              int64_t end) {
    if (in.planes == 2) return plane_pool<2>(pool, in, out, begin, end);
    if (in.planes > 2) return plane_pool<0>(pool, in, out, begin, end);
    const Window& w = pool.window;
    const bool wide = ((w.kernel_w - 1) * int64_t{w.dilation_w} + 1) * in.pixel_pitch >
                      PoolBuffers::kBytes;
    PoolBuffers buffers;
    if (!wide) {
        // As much of the mask as a row or the buffer takes.
        const int64_t row = (w.in_w * in.pixel_pitch + VECTOR_BYTES - 1) / VECTOR_BYTES * VECTOR_BYTES;
        const int64_t bytes = row < PoolBuffers::kBytes ? row : PoolBuffers::kBytes;
        repeat_mask(pool, in.pixel_pitch, bytes, buffers.mask);
    }
    for (int64_t item = begin; item < end; ++item) {
        const int64_t image = item / w.out_h;
        const auto oh = static_cast<int32_t>(item % w.out_h);
        const Cells rows = inside(oh, w.stride_h, w.pad_h, w.dilation_h, w.kernel_h, w.in_h);
        const uint8_t* from = in.origin + image * in.image_pitch;
        uint8_t* to = out.origin + image * out.image_pitch + oh * out.row_pitch;
        if (wide) pool_wide_row(pool, in, from, rows, to, out.pixel_pitch);
        else pool_row(pool, in, from, rows, buffers, to, out.pixel_pitch);
    }
}

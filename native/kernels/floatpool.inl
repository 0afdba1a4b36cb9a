// Maximum and average over windows of floats. A NaN among the cells is the result, as in PyTorch. An
// average adds row after row, also as in PyTorch, and has the same bits on every target.

inline float pooled(float so_far, float x, bool average) {
    if (average) return so_far + x;
    // No short circuit: random floats would make it jump wrongly every second time.
    return (x > so_far) | (x != x) ? x : so_far;
}

inline float pool_start(bool average) { return average ? 0.0f : -__builtin_inff(); }

// Cells that an average divides by: those inside the image, or inside the padded image.
inline float pool_cells(const FloatPool& pool, Cells rows, Cells cols) {
    const Window& w = pool.window;
    if (!pool.count_padding)
        return static_cast<float>((rows.to - rows.from) * (cols.to - cols.from));
    return static_cast<float>(w.kernel_h * w.kernel_w);
}

inline Cells cell_rows(const Window& w, int32_t oh) {
    return inside(oh, w.stride_h, w.pad_h, w.dilation_h, w.kernel_h, w.in_h);
}

inline Cells cell_columns(const Window& w, int32_t ow) {
    return inside(ow, w.stride_w, w.pad_w, w.dilation_w, w.kernel_w, w.in_w);
}

inline void pool_row_nhwc(const FloatPool& pool, const float* image, int32_t oh, float* to) {
    const Window& w = pool.window;
    const Cells rows = cell_rows(w, oh);
    for (int32_t ow = 0; ow < w.out_w; ++ow, to += pool.channels) {
        const Cells cols = cell_columns(w, ow);
        for (int32_t c = 0; c < pool.channels; ++c) to[c] = pool_start(pool.average);
        for (int32_t kh = rows.from; kh < rows.to; ++kh)
            for (int32_t kw = cols.from; kw < cols.to; ++kw) {
                const int64_t h = rows.start + kh * w.dilation_h, v = cols.start + kw * w.dilation_w;
                const float* from = image + (h * w.in_w + v) * pool.channels;
                for (int32_t c = 0; c < pool.channels; ++c)
                    to[c] = pooled(to[c], from[c], pool.average);
            }
        const float cells = pool_cells(pool, rows, cols);
        if (pool.average)
            for (int32_t c = 0; c < pool.channels; ++c) to[c] /= cells;
    }
}

// Output columns [from, to) whose cell `kw` lies inside the image.
inline void columns_of(const Window& w, int32_t kw, int32_t& from, int32_t& to) {
    const int32_t start = kw * w.dilation_w - w.pad_w, room = w.in_w - 1 - start;
    from = start < 0 ? (-start + w.stride_w - 1) / w.stride_w : 0;
    to = room < 0 ? 0 : smaller(room / w.stride_w + 1, w.out_w);
}

// One cell of all windows of a row. The compiler makes vectors of a known STRIDE.
template <bool AVERAGE, int STRIDE>
inline void pool_cell(const float* row, int32_t stride, int32_t count, float* to) {
    for (int32_t i = 0; i < count; ++i) to[i] = pooled(to[i], row[i * (STRIDE ? STRIDE : stride)], AVERAGE);
}

// Rows of a pixel or a few, as of a global average: window after window.
template <bool AVERAGE>
inline void pool_narrow_plane(const FloatPool& pool, const float* plane, float* to) {
    const Window& w = pool.window;
    for (int32_t oh = 0; oh < w.out_h; ++oh) {
        const Cells rows = cell_rows(w, oh);
        for (int32_t ow = 0; ow < w.out_w; ++ow) {
            const Cells cols = cell_columns(w, ow);
            float result = pool_start(AVERAGE);
            for (int32_t kh = rows.from; kh < rows.to; ++kh) {
                const float* row = plane + (rows.start + kh * w.dilation_h) * int64_t{w.in_w} + cols.start;
                for (int32_t kw = cols.from; kw < cols.to; ++kw)
                    result = pooled(result, row[kw * w.dilation_w], AVERAGE);
            }
            *to++ = AVERAGE ? result / pool_cells(pool, rows, cols) : result;
        }
    }
}

inline Floats pooled(Floats so_far, Floats x) { return (x > so_far) | (x != x) ? x : so_far; }

// The floats of even and of odd places of two neighbouring vectors, in pairs that in_order sorts:
// until then nothing has to cross pieces of 16 bytes.
inline void part_floats(const float* from, Floats& even, Floats& odd) {
    const Floats a = load<Floats>(from), b = load<Floats>(from + kInts);
#if VECTOR_BYTES == 64
    const Ints order = {0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30};
#elif VECTOR_BYTES == 32
    const Ints order = {0, 2, 8, 10, 4, 6, 12, 14};
#else
    const Ints order = {0, 2, 4, 6};
#endif
    even = __builtin_shuffle(a, b, order);
    odd = __builtin_shuffle(a, b, order + 1);
}

inline Floats in_order(Floats x) {
#if VECTOR_BYTES == 64
    typedef int64_t Pairs __attribute__((vector_size(64)));
    return (Floats)__builtin_shuffle((Pairs)x, Pairs{0, 2, 4, 6, 1, 3, 5, 7});
#elif VECTOR_BYTES == 32
    typedef int64_t Pairs __attribute__((vector_size(32)));
    return (Floats)__builtin_shuffle((Pairs)x, Pairs{0, 2, 1, 3});
#else
    return x;
#endif
}

// Windows of 2x2 side by side: the last vector of a row overlaps the one before.
template <bool AVERAGE>
inline void pool_squares(const Window& w, const float* plane, float* to) {
    for (int32_t oh = 0; oh < w.out_h; ++oh, to += w.out_w) {
        const float* row = plane + 2 * oh * int64_t{w.in_w};
        for (int32_t ow = 0; ow < w.out_w; ow += kInts) {
            const int32_t at = ow + kInts <= w.out_w ? ow : w.out_w - kInts;
            Floats a, b, c, d;
            part_floats(row + 2 * at, a, b);
            part_floats(row + w.in_w + 2 * at, c, d);
            // The first of equal cells wins, as one after the other; sums keep their order.
            const Floats result = AVERAGE ? (spread(0) + a + b + c + d) / spread(4.0f)
                                          : pooled(pooled(a, b), pooled(c, d));
            put(to + at, in_order(result));
        }
    }
}

inline bool squares(const Window& w) {
    return w.kernel_h == 2 && w.kernel_w == 2 && w.stride_h == 2 && w.stride_w == 2 &&
           w.dilation_h == 1 && w.dilation_w == 1 && !w.pad_h && !w.pad_w && w.out_w >= kInts;
}

template <bool AVERAGE>
inline void pool_wide_plane(const FloatPool& pool, const float* plane, float* to) {
    const Window& w = pool.window;
    for (int32_t oh = 0; oh < w.out_h; ++oh, to += w.out_w) {
        const Cells rows = cell_rows(w, oh);
        for (int32_t ow = 0; ow < w.out_w; ++ow) to[ow] = pool_start(AVERAGE);
        for (int32_t kh = rows.from; kh < rows.to; ++kh)
            for (int32_t kw = 0; kw < w.kernel_w; ++kw) {
                int32_t from, end;
                columns_of(w, kw, from, end);
                const int64_t h = rows.start + kh * w.dilation_h;
                const int64_t v = int64_t{from} * w.stride_w + kw * w.dilation_w - w.pad_w;
                const float* row = plane + h * w.in_w + v;
                if (w.stride_w == 1) pool_cell<AVERAGE, 1>(row, 1, end - from, to + from);
                else if (w.stride_w == 2) pool_cell<AVERAGE, 2>(row, 2, end - from, to + from);
                else pool_cell<AVERAGE, 0>(row, w.stride_w, end - from, to + from);
            }
        if (AVERAGE)
            for (int32_t ow = 0; ow < w.out_w; ++ow) to[ow] /= pool_cells(pool, rows, cell_columns(w, ow));
    }
}

template <bool AVERAGE>
inline void pool_plane(const FloatPool& pool, const float* plane, float* to) {
    if (squares(pool.window)) pool_squares<AVERAGE>(pool.window, plane, to);
    else if (pool.window.out_w < kInts) pool_narrow_plane<AVERAGE>(pool, plane, to);
    else pool_wide_plane<AVERAGE>(pool, plane, to);
}

void float_pool(const FloatPool& pool, const float* in, float* out, int64_t begin, int64_t end) {
    const Window& w = pool.window;
    const int64_t in_plane = int64_t{w.in_h} * w.in_w, out_plane = int64_t{w.out_h} * w.out_w;
    for (int64_t item = begin; item < end; ++item) {
        if (pool.layout == Layout::kNCHW) {
            const float* from = in + item * in_plane;
            float* to = out + item * out_plane;
            if (pool.average) pool_plane<true>(pool, from, to);
            else pool_plane<false>(pool, from, to);
            continue;
        }
        const int64_t image = item / w.out_h;
        pool_row_nhwc(pool, in + image * in_plane * pool.channels,
                      static_cast<int32_t>(item % w.out_h),
                      out + item * w.out_w * pool.channels);
    }
}

// Maximum and average over windows of floats. A NaN among the cells is the result, as in PyTorch.

inline float pooled(float so_far, float x, bool average) {
    if (average) return so_far + x;
    return x > so_far || x != x ? x : so_far;
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

inline void pool_plane(const FloatPool& pool, const float* plane, float* to) {
    const Window& w = pool.window;
    for (int32_t oh = 0; oh < w.out_h; ++oh) {
        const Cells rows = cell_rows(w, oh);
        for (int32_t ow = 0; ow < w.out_w; ++ow) {
            const Cells cols = cell_columns(w, ow);
            float result = pool_start(pool.average);
            for (int32_t kh = rows.from; kh < rows.to; ++kh)
                for (int32_t kw = cols.from; kw < cols.to; ++kw)
                    result = pooled(result,
                                    plane[int64_t{rows.start + kh * w.dilation_h} * w.in_w +
                                          cols.start + kw * w.dilation_w],
                                    pool.average);
            *to++ = pool.average ? result / pool_cells(pool, rows, cols) : result;
        }
    }
}

void float_pool(const FloatPool& pool, const float* in, float* out, int64_t begin, int64_t end) {
    const Window& w = pool.window;
    const int64_t in_plane = int64_t{w.in_h} * w.in_w, out_plane = int64_t{w.out_h} * w.out_w;
    for (int64_t item = begin; item < end; ++item) {
        if (pool.layout == Layout::kNCHW) {
            pool_plane(pool, in + item * in_plane, out + item * out_plane);
            continue;
        }
        const int64_t image = item / w.out_h;
        pool_row_nhwc(pool, in + image * in_plane * pool.channels,
                      static_cast<int32_t>(item % w.out_h),
                      out + item * w.out_w * pool.channels);
    }
}

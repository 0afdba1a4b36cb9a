// What memory itself allows, for benchmarks.

void copy(const float* x, float* y, int64_t count) {
    int64_t i = 0;
    for (; i + kWide <= count; i += kWide)
        for (int r = 0; r < kWide; r += kInts) put(y + i + r, load<Floats>(x + i + r));
    for (; i < count; ++i) y[i] = x[i];
}

// The traffic of an AMSGrad step and hardly any arithmetic.
void five_streams(const float* g, float* const* streams, int64_t count) {
    float *const a = streams[0], *const b = streams[1], *const c = streams[2], *const d = streams[3];
    const Floats keep = spread(0.999f);
    for (int64_t i = 0; i + kInts <= count; i += kInts) {
        const Floats x = load<Floats>(g + i);
        put(a + i, load<Floats>(a + i) * keep + x);
        put(b + i, load<Floats>(b + i) * keep + x);
        put(c + i, load<Floats>(c + i) * keep + x);
        put(d + i, load<Floats>(d + i) * keep + x);
    }
}

// Counting with 512-bit popcount: 16 output channels in the lanes of a register, one 32-bit word of
// each pixel spread over them.

constexpr int kLanePixels = 7, kLaneRegisters = 4, kLanePanel = 16 * kLaneRegisters;

// Adds the differing bits of one plane.
template <int P, int R>
void lane_plane(const uint8_t* rows, int64_t pitch, const uint8_t* weights, int64_t words,
                __m512i (&sums)[P][R]) {
    for (int64_t k = 0; k < words; ++k, rows += 4, weights += 4 * kLanePanel) {
        __m512i part[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) part[r] = load<__m512i>(weights + 64 * r);
#pragma GCC unroll 7
        for (int p = 0; p < P; ++p) {
            const __m512i word = _mm512_set1_epi32(load<int32_t>(rows + p * pitch));
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r)
                sums[p][r] = _mm512_add_epi32(
                    sums[p][r], _mm512_popcnt_epi32(_mm512_xor_si512(word, part[r])));
        }
    }
}

template <int P, int R>
void lane_tile(const BitLayer& layer, const uint8_t* rows, const uint8_t* weights, int32_t* counts) {
    const int64_t words = (layer.row_bytes + 3) / 4;
    __m512i sums[P][R];
    for (int p = 0; p < P; ++p)
        for (int r = 0; r < R; ++r) sums[p][r] = _mm512_setzero_si512();
    lane_plane(rows, layer.row_pitch, weights, words, sums);
    for (int plane = 1; plane < layer.planes; ++plane) {
        for (int p = 0; p < P; ++p)
            for (int r = 0; r < R; ++r) sums[p][r] = _mm512_add_epi32(sums[p][r], sums[p][r]);
        lane_plane(rows + plane * plane_rows(layer), layer.row_pitch, weights, words, sums);
    }
    for (int p = 0; p < P; ++p)
        for (int r = 0; r < R; ++r) put(counts + p * kLanePanel + 16 * r, sums[p][r]);
}

struct PanelCounter {
    using Count = int32_t;

    static void prepare(const BitLayer&, const Scratch&, int) {}

    static void count(const BitLayer& layer, const Scratch& s, int pixels, int plane, int group,
                      int panel, int channels, int32_t* counts) {
        const uint8_t* weights = panel_at(layer, plane, group, panel);
        if (channels <= 16) tiles<1>(layer, s, pixels, weights, counts);
        else if (channels <= 32) tiles<2>(layer, s, pixels, weights, counts);
        else tiles<kLaneRegisters>(layer, s, pixels, weights, counts);
    }

  private:
    template <int R>
    static void tiles(const BitLayer& layer, const Scratch& s, int pixels, const uint8_t* weights,
                      int32_t* counts) {
        const int64_t pitch = layer.row_pitch;
        int p = 0;
        for (; p + kLanePixels <= pixels; p += kLanePixels)
            lane_tile<kLanePixels, R>(layer, s.rows + p * pitch, weights, counts + p * kLanePanel);
        for (; p + 2 <= pixels; p += 2)
            lane_tile<2, R>(layer, s.rows + p * pitch, weights, counts + p * kLanePanel);
        if (p < pixels)
            lane_tile<1, R>(layer, s.rows + p * pitch, weights, counts + p * kLanePanel);
    }
};

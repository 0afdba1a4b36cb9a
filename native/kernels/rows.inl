// Counting along plain rows of bits: the only way of targets without a better one, and the fastest
// for one pixel.

struct Scratch {
    uint8_t* rows;      // [plane][block][row_pitch]
    void* counts;       // [block][panel]
    void* wide;         // [block][padded_outputs], grouped layers
    uint16_t* indices;  // LUT targets
    uint16_t* part;     // [block][panel], LUT targets with several passes or planes of weights
    void* next;         // [block][panel], the counts of another plane of weights
};

inline bool several_planes(const BitLayer& layer) {
    return layer.planes > 1 || layer.weight_planes > 1;
}

inline int64_t plane_rows(const BitLayer& layer) { return layer.row_pitch * layer.block_pixels; }

inline Scratch divide(const BitLayer& layer, void* memory) {
    uint8_t* at = static_cast<uint8_t*>(memory);
    Scratch s{};
    s.rows = at;
    at += plane_rows(layer) * layer.planes;
    s.counts = at;
    at += int64_t{layer.panel} * layer.block_pixels * 4;
    s.wide = at;
    if (layer.groups > 1) at += int64_t{layer.padded_outputs} * layer.block_pixels * 4;
    s.part = reinterpret_cast<uint16_t*>(at);
    if (layer.planes > 2 || layer.weight_planes > 1) at += int64_t{layer.panel} * layer.block_pixels * 2;
    s.next = at;
    if (layer.weight_planes > 1) at += int64_t{layer.panel} * layer.block_pixels * 4;
    s.indices = reinterpret_cast<uint16_t*>(at);
    return s;
}

inline const uint8_t* panel_at(const BitLayer& layer, int plane, int group, int panel) {
    const int64_t first = int64_t{plane} * layer.groups + group;
    return layer.panel_weights + (first * layer.panels + panel) * layer.panel_bytes;
}

constexpr int kRowPixels = 4, kRowOutputs = 2;

struct RowCounter {
    using Count = int32_t;

    static void prepare(const BitLayer&, const Scratch&, int) {}

    static void count(const BitLayer& layer, const Scratch& s, int pixels, int plane, int group,
                      int panel, int channels, int32_t* counts) {
        const uint8_t* weights =
            layer.row_weights +
            (int64_t{plane} * layer.out_channels + int64_t{group} * layer.group_outputs +
             int64_t{panel} * layer.panel) *
                layer.weight_pitch;
        if (pixels == 1) return one_pixel(layer, s.rows, weights, channels, counts);
        for (int p = 0; p < pixels; p += kRowPixels)
            for (int c = 0; c < channels; c += kRowOutputs) {
                const uint8_t* rows = s.rows + p * layer.row_pitch;
                const uint8_t* outputs = weights + c * layer.weight_pitch;
                int32_t* to = counts + p * layer.panel + c;
                if (p + kRowPixels <= pixels && c + kRowOutputs <= channels)
                    tile<kRowPixels, kRowOutputs>(layer, rows, outputs, to);
                else
                    for (int i = p; i < pixels && i < p + kRowPixels; ++i)
                        for (int j = c; j < channels && j < c + kRowOutputs; ++j)
                            tile<1, 1>(layer, rows + (i - p) * layer.row_pitch,
                                       outputs + (j - c) * layer.weight_pitch,
                                       to + (i - p) * layer.panel + j - c);
            }
    }

  private:
    template <int P, int R>
    static void tile(const BitLayer& layer, const uint8_t* rows, const uint8_t* weights,
                     int32_t* counts) {
        uint64_t sums[P][R] = {};
        for (int plane = 0; plane < layer.planes; ++plane, rows += plane_rows(layer)) {
            for (int p = 0; p < P; ++p)
                for (int r = 0; r < R; ++r) sums[p][r] *= 2;
            for (int64_t k = 0; k < layer.row_bytes; k += 8)
                for (int p = 0; p < P; ++p)
                    for (int r = 0; r < R; ++r)
                        sums[p][r] +=
                            popcount64(load<uint64_t>(rows + p * layer.row_pitch + k) ^
                                       load<uint64_t>(weights + r * layer.weight_pitch + k));
        }
        for (int p = 0; p < P; ++p)
            for (int r = 0; r < R; ++r)
                counts[p * layer.panel + r] = static_cast<int32_t>(sums[p][r]);
    }

    static void one_pixel(const BitLayer& layer, const uint8_t* row, const uint8_t* weights,
                          int channels, int32_t* counts) {
        // The rows of weights are followed by three spare ones.
        for (int c = 0; c < channels; c += 4) {
            const uint8_t* outputs = weights + c * layer.weight_pitch;
            differing_bits4(row, outputs, layer.weight_pitch, layer.row_bytes, counts + c);
            for (int plane = 1; plane < layer.planes; ++plane) {
                int32_t part[4];
                differing_bits4(row + plane * plane_rows(layer), outputs, layer.weight_pitch,
                                layer.row_bytes, part);
                for (int r = 0; r < 4; ++r) counts[c + r] = 2 * counts[c + r] + part[r];
            }
        }
    }
};

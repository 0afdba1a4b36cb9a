// Counting integers of several bits by table lookup: two digits of four inputs in one shuffle.
//
// A table row holds popcount(low ^ w) + 2 * popcount(high ^ w) for the 16 weight nibbles w, where
// `low` and `high` are the nibbles of two planes of digits of one pixel; or, for the highest plane
// of an odd number, popcount(v ^ w). At most 12 is looked up, so 21 lookups fit into a byte: half as
// many as for pairs of pixels (lut.inl) but without a division of the sums, hence less than twice
// the time. Planes are taken in pairs from the highest, and each pass is worth four times the next.

struct PlaneTable {
    alignas(64) uint8_t rows[272][16];

    constexpr PlaneTable() : rows() {
        for (int v = 0; v < 256; ++v)
            for (int w = 0; w < 16; ++w)
                rows[v][w] = static_cast<uint8_t>(bits((v & 15) ^ w) + 2 * bits((v >> 4) ^ w));
        for (int v = 0; v < 16; ++v)
            for (int w = 0; w < 16; ++w) rows[256 + v][w] = static_cast<uint8_t>(bits(v ^ w));
    }

  private:
    static constexpr int bits(int x) { return (x & 1) + (x >> 1 & 1) + (x >> 2 & 1) + (x >> 3 & 1); }
};

constexpr PlaneTable kPlaneTable;

template <int P, int R>
void plane_loop(const uint16_t* indices, int64_t pitch, const uint8_t* weights, int triples,
                Reg (&sums)[P][R]) {
    const uint8_t* rows = kPlaneTable.rows[0];
    const uint8_t* end = weights + int64_t{triples} * 3 * kLutPanel;
    for (; weights != end; weights += kLutPanel, ++indices) {
        Reg part[R];
        for (int r = 0; r < R; ++r) part[r] = load<Reg>(weights + r * VECTOR_BYTES);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) {
            const Reg table = table_row(rows, indices[p * pitch]);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) sums[p][r] = add8(sums[p][r], lookup(table, part[r]));
        }
    }
}

#if VECTOR_BYTES == 32
#include "lut_avx2_planes.inl"
#endif

template <int P, int R>
void plane_chunk(const uint16_t* indices, int64_t pitch, const uint8_t* weights, int triples,
                 uint16_t* counts, bool add) {
    Reg sums[P][R];
    for (int p = 0; p < P; ++p)
        for (int r = 0; r < R; ++r) sums[p][r] = spread16(0);
    plane_loop(indices, pitch, weights, triples, sums);
    const Reg byte = spread16(0x00ff);
    for (int p = 0; p < P; ++p)
        for (int r = 0; r < R; ++r)
            flush(both(sums[p][r], byte), right(sums[p][r], 8),
                  counts + p * kLutPanel + r * VECTOR_BYTES, add);
}

// Sums of all planes; uint16_t only where they fit.
template <class C>
struct PlaneCounter {
    using Count = C;

    static void prepare(const BitLayer& layer, const Scratch& s, int pixels) {
        uint16_t* indices = s.indices;
        int plane = 0;
        if (layer.planes % 2) {
            for (int p = 0; p < pixels; ++p)
                expand_single(s.rows + p * layer.row_pitch, layer.row_bytes, indices + p * pitch(layer));
            indices += pass_indices(layer);
            plane = 1;
        }
        for (; plane < layer.planes; plane += 2, indices += pass_indices(layer)) {
            const uint8_t* high = s.rows + plane * plane_rows(layer);
            for (int p = 0; p < pixels; ++p, high += layer.row_pitch)
                expand_pair(high + plane_rows(layer), high, layer.row_bytes, indices + p * pitch(layer));
        }
    }

    static void count(const BitLayer& layer, const Scratch& s, int pixels, int plane, int group,
                      int panel, int channels, Count* counts) {
        const uint8_t* weights = panel_at(layer, plane, group, panel);
        const int passes = (layer.planes + 1) / 2;
        for (int pass = 0; pass < passes; ++pass) {
            const uint16_t* indices = s.indices + pass * pass_indices(layer);
            if (passes == 1 && sizeof(Count) == 2) {
                count_pass(layer, indices, pixels, weights, channels, reinterpret_cast<uint16_t*>(counts));
                return;
            }
            count_pass(layer, indices, pixels, weights, channels, s.part);
            add_pass(s.part, int64_t{pixels} * kLutPanel, pass == 0, counts);
        }
    }

  private:
    static int64_t pitch(const BitLayer& layer) { return 3 * int64_t{layer.triples} + 32; }
    static int64_t pass_indices(const BitLayer& layer) { return pitch(layer) * layer.block_pixels; }

    static void add_pass(const uint16_t* part, int64_t count, bool first, Count* counts) {
        for (int64_t i = 0; i < count; ++i)
            counts[i] = static_cast<Count>((first ? 0 : 4 * counts[i]) + part[i]);
    }

    static void count_pass(const BitLayer& layer, const uint16_t* indices, int pixels,
                           const uint8_t* weights, int channels, uint16_t* counts) {
        const bool narrow = channels <= VECTOR_BYTES;
        for (int start = 0; start < layer.triples; start += layer.chunk) {
            const int some = smaller(layer.chunk, layer.triples - start);
            const uint8_t* from = weights + int64_t{start} * 3 * kLutPanel;
            const uint16_t* at = indices + 3 * start;
            if (narrow) chunk<1>(layer, at, pixels, from, some, counts, start > 0);
            else chunk<LUT_REGISTERS>(layer, at, pixels, from, some, counts, start > 0);
        }
    }

    template <int R>
    static void chunk(const BitLayer& layer, const uint16_t* indices, int pixels,
                      const uint8_t* weights, int triples, uint16_t* counts, bool add) {
        const int64_t step = pitch(layer);
        int p = 0;
        for (; p + 4 <= pixels; p += 4)
            plane_chunk<4, R>(indices + p * step, step, weights, triples, counts + p * kLutPanel, add);
        for (; p < pixels; ++p)
            plane_chunk<1, R>(indices + p * step, step, weights, triples, counts + p * kLutPanel, add);
    }
};

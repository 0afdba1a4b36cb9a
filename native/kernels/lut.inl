// Counting by table lookup, for CPUs that shuffle bytes but do not count bits in vectors.
//
// A table row holds popcount(v ^ w) for the 16 weight nibbles w: for a nibble v of one pixel in the
// low half of each byte, for a nibble of a second pixel in the high half. One shuffle thus gives
// four bits of two pixels for as many output channels as a register has bytes. Three lookups add
// up to at most 12 a half; then the low halves go to a sum of bytes. The high halves are added as
// 16-bit words shifted by four, together with low halves of every other byte (which are known, and
// taken away at the end), because that spares a mask.
//
// The including file gives the type Reg and: table_row, lookup, add8, add16, sub16, both, right.

struct PairTable {
    alignas(64) uint8_t rows[256][16];

    constexpr PairTable() : rows() {
        for (int v = 0; v < 256; ++v)
            for (int w = 0; w < 16; ++w)
                rows[v][w] = static_cast<uint8_t>(bits((v & 15) ^ w) + 16 * bits((v >> 4) ^ w));
    }

  private:
    static constexpr int bits(int x) { return (x & 1) + (x >> 1 & 1) + (x >> 2 & 1) + (x >> 3 & 1); }
};

constexpr PairTable kPairTable;

constexpr int kLutPanel = LUT_REGISTERS * VECTOR_BYTES;

inline Reg three_lookups(const Reg* tables, const uint8_t* weights) {
    Reg sum = lookup(tables[0], load<Reg>(weights));
    sum = add8(sum, lookup(tables[1], load<Reg>(weights + kLutPanel)));
    return add8(sum, lookup(tables[2], load<Reg>(weights + 2 * kLutPanel)));
}

// Adds the bytes of a register to 16-bit counts, the even bytes first; see nibble_lane.
inline void flush(Reg even, Reg odd, uint16_t* counts, bool add) {
    uint16_t* second = counts + VECTOR_BYTES / 2;
    put(counts, add ? add16(even, load<Reg>(counts)) : even);
    put(second, add ? add16(odd, load<Reg>(second)) : odd);
}

// Adds to the sums `triples` times three nibbles of PAIRS pairs of pixels and R registers of
// channels.
template <int PAIRS, int R>
void lut_loop(const uint16_t* indices, int64_t pitch, const uint8_t* weights, int triples,
              Reg (&lows)[PAIRS][R], Reg (&highs)[PAIRS][R]) {
    const Reg low = spread16(0x0f0f);
    const uint8_t* rows = kPairTable.rows[0];
    for (; triples > 0; --triples, indices += 3, weights += 3 * kLutPanel) {
#pragma GCC unroll 4
        for (int p = 0; p < PAIRS; ++p) {
            const uint16_t* at = indices + p * pitch;
            const Reg tables[3] = {table_row(rows, at[0]), table_row(rows, at[1]),
                                   table_row(rows, at[2])};
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) {
                const Reg sum = three_lookups(tables, weights + r * VECTOR_BYTES);
                lows[p][r] = add8(lows[p][r], both(sum, low));
                highs[p][r] = add16(highs[p][r], right(sum, 4));
            }
        }
    }
}

#if VECTOR_BYTES == 32
#include "lut_avx2_tile.inl"
#endif

template <int PAIRS, int R>
void lut_chunk(const uint16_t* indices, int64_t pitch, const uint8_t* weights, int triples,
               uint16_t* counts, bool add) {
    Reg lows[PAIRS][R], highs[PAIRS][R];
    for (int p = 0; p < PAIRS; ++p)
        for (int r = 0; r < R; ++r) lows[p][r] = highs[p][r] = spread16(0);
    lut_loop(indices, pitch, weights, triples, lows, highs);
    const Reg byte = spread16(0x00ff);
    for (int p = 0; p < PAIRS; ++p)
        for (int r = 0; r < R; ++r) {
            uint16_t* to = counts + 2 * p * kLutPanel + r * VECTOR_BYTES;
            const Reg odd = right(lows[p][r], 8);
            const Reg high = sub16(highs[p][r], left(odd, 4));
            flush(both(lows[p][r], byte), odd, to, add);
            flush(both(high, byte), right(high, 8), to + kLutPanel, add);
        }
}

// Bytes a, b of two pixels as one 16-bit word each.
inline __m256i interleave(const uint8_t* a, const uint8_t* b) {
    const __m256i high = _mm256_cvtepu8_epi16(load<__m128i>(b));
    return _mm256_or_si256(_mm256_cvtepu8_epi16(load<__m128i>(a)), _mm256_slli_epi16(high, 8));
}

// Byte offsets of table rows from the high nibbles of both bytes of each word: 16 * (a + 16 * b).
inline __m256i offsets(__m256i words) {
    const __m256i nibbles = _mm256_and_si256(words, _mm256_set1_epi8(static_cast<char>(0xf0)));
    return _mm256_maddubs_epi16(nibbles, _mm256_set1_epi16(0x1001));
}

// Table offsets of all nibbles, in blocks of 16 bytes and then of 4, low nibbles first. `words_at(k)`
// gives two bytes k each of 16 words, and `start` is the offset of the first table row.
template <class WordsAt>
inline void expand(int64_t bytes, uint16_t* to, __m256i start, const WordsAt& words_at) {
    const auto from = [&](__m256i words) { return _mm256_add_epi16(offsets(words), start); };
    const int64_t whole = bytes / 16 * 16;
    for (int64_t k = 0; k < whole; k += 16, to += 32) {
        const __m256i words = words_at(k);
        put(to, from(_mm256_slli_epi16(words, 4)));
        put(to + 16, from(words));
    }
    for (int64_t k = whole; k < bytes; k += 4, to += 8) {
        const __m256i words = words_at(k);
        const __m256i low = from(_mm256_slli_epi16(words, 4));
        const __m256i four = _mm256_unpacklo_epi64(low, from(words));
        put(to, _mm256_castsi256_si128(four));
    }
    // The last triple may take up to two more, which must look up nothing: weights are 0 there too.
    to[0] = to[1] = 0;
}

inline void expand_pair(const uint8_t* a, const uint8_t* b, int64_t bytes, uint16_t* to) {
    expand(bytes, to, _mm256_setzero_si256(),
           [&](int64_t k) { return interleave(a + k, b + k); });
}

// One row alone, for tables that follow those of pairs.
inline void expand_single(const uint8_t* row, int64_t bytes, uint16_t* to) {
    expand(bytes, to, _mm256_set1_epi16(256 * 16),
           [&](int64_t k) { return _mm256_cvtepu8_epi16(load<__m128i>(row + k)); });
}

struct PanelCounter {
    using Count = uint16_t;

    static int64_t pitch(const BitLayer& layer) { return 3 * int64_t{layer.triples} + 32; }

    static void prepare(const BitLayer& layer, const Scratch& s, int pixels) {
        for (int p = 0; p < pixels; p += 2) {
            const uint8_t* first = s.rows + p * layer.row_pitch;
            const uint8_t* second = p + 1 < pixels ? first + layer.row_pitch : first;
            expand_pair(first, second, layer.row_bytes, s.indices + p / 2 * pitch(layer));
        }
    }

    static void count(const BitLayer& layer, const Scratch& s, int pixels, int plane, int group,
                      int panel, int channels, uint16_t* counts) {
        const uint8_t* weights = panel_at(layer, plane, group, panel);
        const bool narrow = channels <= VECTOR_BYTES;
        for (int start = 0; start < layer.triples; start += layer.chunk) {
            const int some = smaller(layer.chunk, layer.triples - start);
            const uint8_t* from = weights + int64_t{start} * 3 * kLutPanel;
            if (narrow) chunk<1>(layer, s, pixels, start, from, some, counts);
            else chunk<LUT_REGISTERS>(layer, s, pixels, start, from, some, counts);
        }
    }

  private:
    // One piece of a row for all pixels, so that its weights stay in the first-level cache.
    template <int R>
    static void chunk(const BitLayer& layer, const Scratch& s, int pixels, int start,
                      const uint8_t* weights, int triples, uint16_t* counts) {
        const int64_t step = pitch(layer);
        const uint16_t* indices = s.indices + 3 * start;
        int p = 0;
        for (; p + 2 * LUT_PAIRS - 2 < pixels; p += 2 * LUT_PAIRS)
            lut_chunk<LUT_PAIRS, R>(indices + p / 2 * step, step, weights, triples,
                                    counts + p * kLutPanel, start > 0);
        for (; p < pixels; p += 2)
            lut_chunk<1, R>(indices + p / 2 * step, step, weights, triples,
                            counts + p * kLutPanel, start > 0);
    }
};

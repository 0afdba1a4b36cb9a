// Counting for few output channels: neighbouring pixels in the lanes of a register, and tables of the
// weights instead of the inputs (lut.inl, which has output channels in its lanes and has to gather a
// row of bits for every pixel).
//
// An entry of the table of an output channel and of four input channels at a cell of the kernel is
// popcount(v ^ w) for the 16 nibbles v of the input. The nibbles of a band of input rows lie one in a
// byte, row after row with nothing between, so that output pixel q of the band finds those of a cell
// at q plus an offset. Between the rows of output pixels lie pixels that nobody needs.
//
// The including file gives what lut.inl needs, and left and in_register.

typedef uint16_t Counts16 __attribute__((vector_size(VECTOR_BYTES)));

// The output pixels of a band, and where they lie.
struct Band {
    int64_t image;
    int32_t row, rows;
    int64_t pixels;  // with those between, rounded up to registers
};

// Four bits of each of `count` words of T, one in a byte, by whole vectors: what is written too much
// is overwritten by the next row.
template <class T>
inline void split_nibble(const uint8_t* words, int64_t count, int shift, uint8_t* to) {
    constexpr int kSome = VECTOR_BYTES / sizeof(T);
    for (int64_t i = 0; i < count; i += kSome)
        for (int k = 0; k < kSome; ++k)
            to[i + k] = static_cast<uint8_t>(load<T>(words + (i + k) * sizeof(T)) >> shift & 15);
}

// All nibbles of a row of pixels of a plane; nibble n + 1 follows after `pitch` bytes.
inline void split_row(const uint8_t* from, int64_t pixel_pitch, int64_t columns, int nibbles,
                      uint8_t* words, uint8_t* to, int64_t pitch) {
    if (pixel_pitch <= 2) {
        for (int n = 0; n < nibbles; ++n, to += pitch)
            if (pixel_pitch == 1) split_nibble<uint8_t>(from, columns, 4 * n, to);
            else split_nibble<uint16_t>(from, columns, 4 * n, to);
        return;
    }
    for (int first = 0; first < nibbles; first += 8, from += 4) {
        for (int64_t i = 0; i < columns; ++i) put(words + 4 * i, load<uint32_t>(from + i * pixel_pitch));
        for (int n = first; n < nibbles && n < first + 8; ++n, to += pitch)
            split_nibble<uint32_t>(words, columns, 4 * (n - first), to);
    }
}

inline void split_band(const BitLayer& layer, const BitImage& in, const Band& band, uint8_t* words,
                       uint8_t* nibbles) {
    const PixelTables& t = layer.tables;
    const Window& w = layer.window;
    const int64_t rows = band.rows + int64_t{w.kernel_h - 1} * w.dilation_h;
    const uint8_t* from = in.origin + band.image * in.image_pitch +
                          (band.row - w.pad_h) * in.row_pitch - w.pad_w * in.pixel_pitch;
    for (int plane = 0; plane < layer.planes; ++plane, from += in.plane_pitch) {
        for (int64_t row = 0; row < rows; ++row)
            split_row(from + row * in.row_pitch, in.pixel_pitch, t.columns, t.nibbles, words,
                      nibbles + row * t.columns, t.nibble_pitch);
        nibbles += t.nibbles * t.nibble_pitch;
    }
}

// Adds the entries of `taps` nibbles of P registers of pixels, for two output channels.
template <int P>
inline void add_entries(const uint8_t* nibbles, const int32_t* offsets, const uint8_t* entries,
                        int taps, Reg (&sums)[P][2]) {
    for (int tap = 0; tap < taps; ++tap, entries += 32) {
        const Reg first = table_row(entries, 0), second = table_row(entries, 16);
        const uint8_t* at = nibbles + offsets[tap];
#pragma GCC unroll 5
        for (int p = 0; p < P; ++p) {
            Reg index = load<Reg>(at + p * VECTOR_BYTES);
            in_register(index);
            sums[p][0] = add8(sums[p][0], lookup(first, index));
            sums[p][1] = add8(sums[p][1], lookup(second, index));
            in_register(sums[p][0]);
            in_register(sums[p][1]);
        }
    }
}

// Counts of all planes. In each register of bytes the even pixels come first: flush.
template <int P>
inline void count_two(const BitLayer& layer, const uint8_t* nibbles, const uint8_t* entries,
                      uint16_t* counts, int64_t pitch) {
    const PixelTables& t = layer.tables;
    const Reg byte = spread16(0x00ff);
    for (int plane = 0; plane < layer.planes; ++plane, nibbles += t.nibbles * t.nibble_pitch)
        for (int start = 0; start < t.taps; start += t.flush) {
            Reg sums[P][2];
            for (int p = 0; p < P; ++p) sums[p][0] = sums[p][1] = spread16(0);
            add_entries(nibbles, t.offsets + start, entries + 32 * start,
                        smaller(t.flush, t.taps - start), sums);
            const int worth = layer.planes - 1 - plane;
            for (int p = 0; p < P; ++p)
                for (int c = 0; c < 2; ++c)
                    flush(left(both(sums[p][c], byte), worth), left(right(sums[p][c], 8), worth),
                          counts + c * pitch + p * VECTOR_BYTES, plane + start > 0);
        }
}

inline void count_band(const BitLayer& layer, const Band& band, const uint8_t* nibbles,
                       uint16_t* counts) {
    const PixelTables& t = layer.tables;
    const int64_t pair_bytes = 32 * int64_t{t.taps};
    for (int32_t c = 0; c < layer.out_channels; c += 2) {
        const uint8_t* entries = t.entries + c / 2 * pair_bytes;
        uint16_t* to = counts + c * t.band_pixels;
        for (int64_t q = 0; q < band.pixels; q += kTableRegisters * VECTOR_BYTES) {
            switch (smaller((band.pixels - q) / VECTOR_BYTES, kTableRegisters)) {
                case 1: count_two<1>(layer, nibbles + q, entries, to + q, t.band_pixels); break;
                case 2: count_two<2>(layer, nibbles + q, entries, to + q, t.band_pixels); break;
                case 3: count_two<3>(layer, nibbles + q, entries, to + q, t.band_pixels); break;
                case 4: count_two<4>(layer, nibbles + q, entries, to + q, t.band_pixels); break;
                default: count_two<5>(layer, nibbles + q, entries, to + q, t.band_pixels);
            }
        }
    }
}

// How many limits of a channel a register of pixels exceeds, a byte each, or the complement.
inline Reg exceeded_bytes(const BitLayer& layer, int32_t channel, const uint16_t* counts) {
    const Counts16 even = load<Counts16>(counts);
    const Counts16 odd = load<Counts16>(counts + VECTOR_BYTES / 2);
    Counts16 low{}, high{};
    const int32_t* limit = layer.limits + channel;
    for (int i = (1 << layer.out_planes) - 1; i > 0; --i, limit += layer.limit_pitch) {
        const Counts16 more = static_cast<uint16_t>(*limit + 1) - Counts16{};
        // A true comparison is -1.
        low -= (Counts16)(even >= more);
        high -= (Counts16)(odd >= more);
    }
    const Counts16 both_bytes = low | high << 8;
    const bool flip = layer.flips[channel / 32] >> channel % 32 & 1;
    return (Reg)(flip ? ~both_bytes : both_bytes);
}

// Bytes of eight output channels, [plane][pixel].
template <int PLANES>
inline void pack_channels(const BitLayer& layer, const Band& band, int32_t first,
                          const uint16_t* counts, uint8_t* to) {
    const int planes = PLANES ? PLANES : layer.out_planes;
    const int64_t pitch = layer.tables.band_pixels;
    const Reg ones = spread16(0x0101);
    for (int64_t q = 0; q < band.pixels; q += VECTOR_BYTES) {
        Reg words[PLANES ? PLANES : kMaxPlanes];
        for (int d = 0; d < planes; ++d) words[d] = spread16(0);
        for (int32_t c = smaller(first + 8, layer.out_channels) - 1; c >= first; --c) {
            const Reg level = exceeded_bytes(layer, c, counts + c * pitch + q);
            for (int d = 0; d < planes; ++d)
                words[d] = add8(add8(words[d], words[d]), both(right(level, planes - 1 - d), ones));
        }
        for (int d = 0; d < planes; ++d) put(to + d * pitch + q, words[d]);
    }
}

// Bytes of channels, `pitch` bytes from those of one eight to the next, to pixels.
inline void join_bytes(const uint8_t* from, int64_t pitch, int64_t pixels, int64_t pixel_pitch,
                       uint8_t* to) {
    if (pixel_pitch == 2)
        for (int64_t i = 0; i < pixels; ++i)
            put(to + 2 * i, static_cast<uint16_t>(from[i] | from[pitch + i] << 8));
    else
        for (int64_t byte = 0; byte < pixel_pitch; ++byte, from += pitch)
            for (int64_t i = 0; i < pixels; ++i) to[byte + i * pixel_pitch] = from[i];
}

// `bytes` has room for one plane more.
inline void put_levels(const BitLayer& layer, const Results& out, const Band& band,
                       const uint16_t* counts, uint8_t* bytes) {
    const int64_t pitch = layer.tables.band_pixels, pixel_pitch = out.bits.pixel_pitch;
    const int planes = layer.out_planes;
    for (int64_t b = 0; b < pixel_pitch; ++b) {
        const auto first = static_cast<int32_t>(8 * b);
        uint8_t* to = bytes + b * pitch * planes;
        if (planes == 1) pack_channels<1>(layer, band, first, counts, to);
        else if (planes == 2) pack_channels<2>(layer, band, first, counts, to);
        else pack_channels<0>(layer, band, first, counts, to);
    }
    uint8_t* joined = bytes + pitch * planes * pixel_pitch;
    const int64_t row_bytes = layer.window.out_w * pixel_pitch;
    for (int d = 0; d < planes; ++d) {
        const uint8_t* from = bytes + d * pitch;
        if (pixel_pitch > 1) {
            join_bytes(from, pitch * planes, band.pixels, pixel_pitch, joined);
            from = joined;
        }
        uint8_t* to = out.bits.origin + band.image * out.bits.image_pitch +
                      band.row * out.bits.row_pitch + d * out.bits.plane_pitch;
        for (int32_t row = 0; row < band.rows; ++row, to += out.bits.row_pitch)
            copy_bytes(to, from + row * layer.tables.columns * pixel_pitch, row_bytes);
    }
}

// Items: images * bands.
void run_bands(const BitLayer& layer, const BitImage& in, const Results& out, void* memory,
               int64_t begin, int64_t end) {
    const PixelTables& t = layer.tables;
    const int64_t bands = (layer.window.out_h + t.band_rows - 1) / t.band_rows;
    uint8_t* nibbles = static_cast<uint8_t*>(memory);
    uint8_t* words = nibbles + layer.planes * t.nibbles * t.nibble_pitch;
    uint16_t* counts = reinterpret_cast<uint16_t*>(words + t.words_bytes);
    uint8_t* bytes = reinterpret_cast<uint8_t*>(counts + t.band_pixels * (layer.out_channels + 1));
    for (int64_t item = begin; item < end; ++item) {
        const auto row = static_cast<int32_t>(item % bands * t.band_rows);
        const int32_t rows = smaller(t.band_rows, layer.window.out_h - row);
        const int64_t pixels = int64_t{rows - 1} * t.columns + layer.window.out_w;
        const Band band{item / bands, row, rows,
                        (pixels + VECTOR_BYTES - 1) / VECTOR_BYTES * VECTOR_BYTES};
        split_band(layer, in, band, words, nibbles);
        count_band(layer, band, nibbles, counts);
        put_levels(layer, out, band, counts, bytes);
    }
}

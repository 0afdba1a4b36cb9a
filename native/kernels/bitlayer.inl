// Direct binary convolution: gathers the input bits of a block of output pixels, lets the target
// count differing bits panel by panel, and finishes each panel while it is in the cache.
//
// A Counter has a type Count, `prepare(layer, scratch, count)`, called once a gathered block, and
// `count(layer, scratch, count, weight plane, group, panel, channels, counts)`, which fills
// counts[pixel][layer.panel].

inline void locate(const BitLayer& layer, int64_t first, int count, Place* places) {
    const Window& w = layer.window;
    const int64_t plane = int64_t{w.out_h} * w.out_w;
    Place at{first, static_cast<int32_t>(first / plane), 0, 0, 0};
    at.row = static_cast<int32_t>(first % plane / w.out_w);
    at.column = static_cast<int32_t>(first % w.out_w);
    for (int p = 0; p < count; ++p) {
        at.border = layer.row_border[at.row] * layer.col_borders + layer.col_border[at.column];
        places[p] = at;
        ++at.pixel;
        if (++at.column < w.out_w) continue;
        at.column = 0;
        if (++at.row < w.out_h) continue;
        at.row = 0;
        ++at.image;
    }
}

// Whole vectors: what a run writes too much is overwritten by the next or cleared at the end.
inline void copy_run(uint8_t* to, const uint8_t* from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += VECTOR_BYTES) put(to + i, load<Raw>(from + i));
}

// One plane. What the inner loops need is in locals: bytes are written, which may be anything.
inline void gather_plane(const BitLayer& layer, const BitImage& in, const Place* places, int count,
                         int group, uint8_t* rows) {
    const Window w = layer.window;
    const int64_t down = w.dilation_h * in.row_pitch, right = w.dilation_w * in.pixel_pitch;
    const int64_t row_pitch = layer.row_pitch, run_bytes = layer.run_bytes;
    const int64_t step_h = w.stride_h * in.row_pitch, step_w = w.stride_w * in.pixel_pitch;
    const int64_t image_pitch = in.image_pitch, row_bytes = layer.row_bytes;
    const int repeats = layer.repeats, run_count = layer.run_count;
    const bool words = run_count == 1 && run_bytes <= 8;
    const uint8_t* start = in.origin + int64_t{group} * layer.group_bytes - w.pad_h * in.row_pitch -
                           w.pad_w * in.pixel_pitch;
    for (int p = 0; p < count; ++p, rows += row_pitch) {
        const uint8_t* corner = start + places[p].image * image_pitch + places[p].row * step_h +
                                places[p].column * step_w;
        uint8_t* to = rows;
        for (int repeat = 0; repeat < repeats; ++repeat) {
            const uint8_t* from = corner;
            if (words) {
                for (int kh = 0; kh < w.kernel_h; ++kh, from += down, to += run_bytes)
                    put(to, load<uint64_t>(from));
                continue;
            }
            for (int kh = 0; kh < w.kernel_h; ++kh, from += down)
                for (int run = 0; run < run_count; ++run, to += run_bytes)
                    copy_run(to, from + run * right, run_bytes);
        }
        __builtin_memset(rows + row_bytes, 0, kSlack);
    }
}

inline void gather(const BitLayer& layer, const BitImage& in, const Place* places, int count,
                   int group, uint8_t* rows) {
    BitImage plane = in;
    for (int p = 0; p < layer.planes; ++p, plane.origin += in.plane_pitch, rows += plane_rows(layer))
        gather_plane(layer, plane, places, count, group, rows);
}

// The sum of the integers of each gathered row, to all of its counts. A bit is 1 iff its digit is 0.
template <class Count>
void add_inputs(const BitLayer& layer, const Scratch& s, int pixels, Count* counts) {
    for (int p = 0; p < pixels; ++p, counts += layer.panel) {
        uint32_t sum = 0;
        const uint8_t* row = s.rows + p * layer.row_pitch;
        for (int plane = 0; plane < layer.planes; ++plane, row += plane_rows(layer)) {
            uint64_t zeros = 0;
            for (int64_t k = 0; k < layer.row_bytes; k += 8) zeros += popcount64(load<uint64_t>(row + k));
            sum = 2 * sum + static_cast<uint32_t>(layer.row_inputs - static_cast<int64_t>(zeros));
        }
        for (int32_t c = 0; c < layer.panel; ++c)
            counts[c] = static_cast<Count>(static_cast<uint32_t>(counts[c]) + sum);
    }
}

// Counts of all planes of weights.
template <class Counter>
void count_weights(const BitLayer& layer, const Scratch& s, int pixels, int group, int panel,
                   int channels, typename Counter::Count* counts) {
    using Count = typename Counter::Count;
    Counter::count(layer, s, pixels, 0, group, panel, channels, counts);
    if (layer.weight_planes == 1) return;
    Count* next = static_cast<Count*>(s.next);
    for (int plane = 1; plane < layer.weight_planes; ++plane) {
        Counter::count(layer, s, pixels, plane, group, panel, channels, next);
        // Spare channels may have counted anything, which wraps around.
        for (int64_t i = 0; i < int64_t{pixels} * layer.panel; ++i)
            counts[i] = static_cast<Count>(2 * static_cast<uint32_t>(counts[i]) +
                                           static_cast<uint32_t>(next[i]));
    }
    if (layer.adds_inputs) add_inputs(layer, s, pixels, counts);
}

// All channels of a block of a grouped layer, group after group, then one epilogue.
template <class Counter>
void grouped_block(const BitLayer& layer, const BitImage& in, const Results& out, const Scratch& s,
                   const Place* places, int count) {
    using Count = typename Counter::Count;
    Count* counts = static_cast<Count*>(s.counts);
    Count* wide = static_cast<Count*>(s.wide);
    for (int group = 0; group < layer.groups; ++group) {
        gather(layer, in, places, count, group, s.rows);
        Counter::prepare(layer, s, count);
        for (int panel = 0; panel < layer.panels; ++panel) {
            const int32_t first = panel * layer.panel;
            const int32_t channels = smaller(layer.panel, layer.group_outputs - first);
            count_weights<Counter>(layer, s, count, group, panel, channels, counts);
            for (int p = 0; p < count; ++p)
                __builtin_memcpy(wide + int64_t{p} * layer.padded_outputs +
                                     group * layer.group_outputs + first,
                                 counts + int64_t{p} * layer.panel,
                                 static_cast<size_t>(channels) * sizeof(Count));
        }
    }
    finish(layer, out, places, count, Span{0, layer.out_channels}, wide, layer.padded_outputs);
}

template <class Counter>
void run_items(const BitLayer& layer, const BitImage& in, const Results& out, void* memory,
               int64_t begin, int64_t end) {
    using Count = typename Counter::Count;
    const int64_t pixels = int64_t{in.images} * layer.window.out_h * layer.window.out_w;
    const Scratch s = divide(layer, memory);
    Place places[kMaxBlock];
    int64_t current = -1;
    int32_t count = 0;
    for (int64_t item = begin; item < end; ++item) {
        const int64_t block = item / layer.item_panels;
        const int panel = static_cast<int>(item % layer.item_panels);
        if (block != current) {
            current = block;
            const int64_t first = block * layer.block_pixels;
            count = smaller(layer.block_pixels, pixels - first);
            locate(layer, first, count, places);
            if (layer.groups == 1) {
                gather(layer, in, places, count, 0, s.rows);
                Counter::prepare(layer, s, count);
            }
        }
        if (layer.groups > 1) {
            grouped_block<Counter>(layer, in, out, s, places, count);
            continue;
        }
        const int32_t first = panel * layer.panel;
        const Span span{first, smaller(layer.panel, layer.out_channels - first)};
        Count* counts = static_cast<Count*>(s.counts);
        count_weights<Counter>(layer, s, count, 0, panel, span.channels, counts);
        finish(layer, out, places, count, span, counts, layer.panel);
    }
}

#ifdef LUT_REGISTERS
#include "pixeltables.inl"
#endif

void bit_layer(const BitLayer& layer, const BitImage& in, const Results& out, void* memory,
               int64_t begin, int64_t end) {
    const int64_t pixels = int64_t{in.images} * layer.window.out_h * layer.window.out_w;
    if (layer.row_weights && (!layer.panel_weights || pixels == 1))
        run_items<RowCounter>(layer, in, out, memory, begin, end);
#ifdef LUT_REGISTERS
    else if (layer.tables.entries)
        run_bands(layer, in, out, memory, begin, end);
    else if (several_planes(layer) && layer.wide_counts)
        run_items<PlaneCounter<int32_t>>(layer, in, out, memory, begin, end);
    else if (several_planes(layer))
        run_items<PlaneCounter<uint16_t>>(layer, in, out, memory, begin, end);
#endif
    else
        run_items<PanelCounter>(layer, in, out, memory, begin, end);
}

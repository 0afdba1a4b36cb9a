// Decides whether a binary layer has few enough output channels for tables of its weights
// (kernels/pixeltables.inl), and makes them.
#include <algorithm>

#include "prepare.h"
#include "prepare_common.h"

namespace coarsegrad {
namespace {

int32_t columns_of(const Window& w) { return w.out_w + (w.kernel_w - 1) * w.dilation_w; }

int64_t in_rows_of(const Window& w, int64_t rows) {
    return rows + int64_t{w.kernel_h - 1} * w.dilation_h;
}

int64_t pixels_of(const Window& w, int64_t rows) { return (rows - 1) * columns_of(w) + w.out_w; }

// A band fills the registers of one pass over the tables, or is one row.
int32_t band_rows(const KernelTable& table, const Window& w) {
    const int64_t most = int64_t{kTableRegisters} * table.vector_bytes;
    if (w.out_w > most) return 1;
    return static_cast<int32_t>(std::min<int64_t>(w.out_h, (most - w.out_w) / columns_of(w) + 1));
}

// Popcounts of a nibble's differences from the weights; ternary weights stand twice.
void fill_entries(const BitLayer& layer, const uint8_t* row, int64_t nibble, uint8_t* entries) {
    const int64_t repeat_bytes = layer.row_bytes / layer.repeats;
    for (int32_t repeat = 0; repeat < layer.repeats; ++repeat, row += repeat_bytes) {
        const int weights = row[nibble / 2] >> (nibble % 2 * 4) & 15;
        for (int v = 0; v < 16; ++v)
            entries[v] = static_cast<uint8_t>(entries[v] + __builtin_popcount(v ^ weights));
    }
}

PixelTables shape_of(const KernelTable& table, const Window& w, int32_t in_channels) {
    PixelTables t{};
    t.nibbles = static_cast<int32_t>(ceil_div(in_channels, 4));
    t.taps = w.kernel_h * w.kernel_w * t.nibbles;
    t.columns = columns_of(w);
    t.band_rows = band_rows(table, w);
    t.band_pixels = round_up(pixels_of(w, t.band_rows), table.vector_bytes);
    t.nibble_pitch =
        round_up(in_rows_of(w, t.band_rows) * t.columns + table.vector_bytes, kSlack);
    t.words_bytes = round_up(4 * int64_t{t.columns}, kSlack);
    return t;
}

// What the passes over a band cost, in registers of pixels: loading the entries is worth one in each.
int64_t registers_of(const KernelTable& table, const Window& w, int64_t rows) {
    const int64_t registers = ceil_div(pixels_of(w, rows), table.vector_bytes);
    return registers + ceil_div(registers, kTableRegisters);
}

// The limits are measured against lut.inl with AVX2, 1 to 4 planes, kernels of 1 to 5 columns, 3 to 256
// channels, rows of 8 to 32 pixels: faster below them but for a few shapes (make bench-runtime has some
// rows of it). Larger registers are taken to cost as much, here and there.
bool faster_by_tables(const KernelTable& table, const BitLayer& layer, const PixelTables& t) {
    const Window& w = layer.window;
    constexpr int64_t kFirstLevelCache = 32768;
    // A wide pixel has many nibbles to split, and a kernel of one cell hardly uses them.
    if (w.kernel_h * w.kernel_w == 1 && t.nibbles > 16) return false;
    // Rows between those of a dilated kernel are split and not used.
    const int64_t used = t.band_rows + w.kernel_h - 1;
    if (in_rows_of(w, t.band_rows) > 4 * used) return false;
    const int64_t bytes = layer.planes * t.nibbles * t.nibble_pitch + 32 * int64_t{t.taps};
    const int64_t limit = bytes > kFirstLevelCache ? 20 : t.taps <= 32 ? 36 : 28;
    const int64_t bands = w.out_h / t.band_rows, rest = w.out_h % t.band_rows;
    const int64_t registers =
        bands * registers_of(table, w, t.band_rows) + (rest ? registers_of(table, w, rest) : 0);
    constexpr int64_t kMeasuredLanes = 32;
    // The cost in output channels, if all lanes had a pixel and all passes were full ones.
    const int64_t most = limit * w.out_h * w.out_w * (kTableRegisters + 1);
    return layer.out_channels * registers * kMeasuredLanes * kTableRegisters <= most;
}

}  // namespace

bool counts_by_tables(const KernelTable& table, const BitLayerSpec& spec, const BitLayer& layer,
                      int64_t borders) {
    const Window& w = layer.window;
    const bool possible = table.weights == KernelTable::Weights::kNibbles && layer.groups == 1 &&
                          layer.weight_planes == 1 && layer.finish == Finish::kThreshold && borders == 1 && w.stride_h == 1 &&
                          w.stride_w == 1 && most_counted(spec) < UINT16_MAX;
    return possible && faster_by_tables(table, layer, shape_of(table, w, spec.in_channels));
}

void prepare_tables(const KernelTable& table, const uint8_t* rows, int32_t in_channels, BitLayer& layer,
                    std::vector<Bytes>& storage) {
    const Window& w = layer.window;
    PixelTables& t = layer.tables;
    t = shape_of(table, w, in_channels);
    t.flush = UINT8_MAX / (4 * layer.repeats);
    auto* offsets = store<int32_t>(storage, t.taps);
    auto* entries = store<uint8_t>(storage, 32 * int64_t{t.taps} * ceil_div(layer.out_channels, 2));
    for (int32_t tap = 0; tap < t.taps; ++tap) {
        const int32_t cell = tap / t.nibbles, nibble = tap % t.nibbles;
        offsets[tap] = static_cast<int32_t>(
            nibble * t.nibble_pitch + cell / w.kernel_w * int64_t{w.dilation_h} * t.columns +
            cell % w.kernel_w * w.dilation_w);
        for (int32_t c = 0; c < layer.out_channels; ++c)
            fill_entries(layer, rows + c * layer.weight_pitch,
                         2 * int64_t{cell} * layer.group_bytes + nibble,
                         entries + 32 * (int64_t{c / 2} * t.taps + tap) + 16 * (c % 2));
    }
    t.offsets = offsets;
    t.entries = entries;
    const int64_t nibble_bytes = layer.planes * t.nibbles * t.nibble_pitch;
    const int64_t counts = 2 * t.band_pixels * (layer.out_channels + 1);
    const int64_t packed = t.band_pixels * (layer.out_planes + 1) * pixel_bytes(layer.out_channels);
    layer.scratch_bytes =
        round_up(nibble_bytes + t.words_bytes + counts + packed, kSlack) + kSlack;
}

}  // namespace coarsegrad

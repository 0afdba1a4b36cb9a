// Decides whether a binary layer has few enough output channels for tables of its weights
// (kernels/pixeltables.inl), and makes them.
#include <algorithm>

#include "prepare.h"
#include "prepare_common.h"

namespace coarsegrad {
namespace {

int32_t columns_of(const Window& w) { return w.out_w + (w.kernel_w - 1) * w.dilation_w; }

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

}  // namespace

bool counts_by_tables(const KernelTable& table, const BitLayer& layer, int64_t borders, int64_t most) {
    const Window& w = layer.window;
    return table.weights == KernelTable::Weights::kNibbles && layer.groups == 1 && borders == 1 &&
           w.stride_h == 1 && w.stride_w == 1 && layer.out_channels <= kTableOutputs &&
           most < UINT16_MAX;
}

void prepare_tables(const KernelTable& table, const uint8_t* rows, int32_t in_channels, BitLayer& layer,
                    std::vector<Bytes>& storage) {
    const Window& w = layer.window;
    PixelTables& t = layer.tables;
    t.nibbles = static_cast<int32_t>(ceil_div(in_channels, 4));
    t.groups = w.kernel_h * w.kernel_w * t.nibbles;
    t.flush = UINT8_MAX / (4 * layer.repeats);
    t.columns = columns_of(w);
    t.band_rows = band_rows(table, w);
    t.band_pixels = round_up(pixels_of(w, t.band_rows), table.vector_bytes);
    const int64_t in_rows = t.band_rows + int64_t{w.kernel_h - 1} * w.dilation_h;
    t.nibble_pitch = round_up(in_rows * t.columns + table.vector_bytes, kSlack);
    t.words_bytes = round_up(4 * int64_t{t.columns}, kSlack);

    auto* offsets = store<int32_t>(storage, t.groups);
    auto* entries = store<uint8_t>(storage, 32 * int64_t{t.groups} * ceil_div(layer.out_channels, 2));
    for (int32_t g = 0; g < t.groups; ++g) {
        const int32_t cell = g / t.nibbles, nibble = g % t.nibbles;
        offsets[g] = static_cast<int32_t>(
            nibble * t.nibble_pitch + cell / w.kernel_w * int64_t{w.dilation_h} * t.columns +
            cell % w.kernel_w * w.dilation_w);
        for (int32_t c = 0; c < layer.out_channels; ++c)
            fill_entries(layer, rows + c * layer.weight_pitch,
                         2 * int64_t{cell} * layer.group_bytes + nibble,
                         entries + 32 * (int64_t{c / 2} * t.groups + g) + 16 * (c % 2));
    }
    t.offsets = offsets;
    t.entries = entries;
    const int64_t nibble_bytes = layer.planes * t.nibbles * t.nibble_pitch;
    const int64_t counts = 2 * t.band_pixels * (layer.out_channels + 1);
    const int64_t packed = t.band_pixels * layer.out_planes * pixel_bytes(layer.out_channels);
    const int64_t block = 2 * int64_t{kMaxBlock} * layer.padded_outputs;
    layer.scratch_bytes =
        round_up(nibble_bytes + t.words_bytes + counts + std::max(packed, block), kSlack) + kSlack;
}

}  // namespace coarsegrad

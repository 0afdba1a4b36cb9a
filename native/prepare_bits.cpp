// Lays a binary layer out for a target: weight rows or panels, border classes, thresholds on counts.
#include <algorithm>
#include <climits>
#include <cstring>
#include <map>
#include <numeric>

#include "prepare.h"
#include "prepare_common.h"

namespace coarsegrad {
namespace {

using Weights = KernelTable::Weights;

// Lookup targets count in 16 bits; wider rows are counted by plain rows of bits.
constexpr int64_t kMaxNibbleBits = 65280;
// Bytes of table indices that a block of pixels may take: half of the first-level cache.
constexpr int64_t kIndexBytes = 16384;
// 21 triples of nibbles add up to at most 252 in a byte; of two planes, 7.
constexpr int32_t kMaxChunk = 21, kMaxPlaneChunk = 7;

int32_t repeats_of(const BitLayerSpec& spec) { return spec.mask ? 2 : 1; }

int64_t bits_of_row(const BitLayerSpec& spec) {
    return int64_t{spec.in_channels / spec.groups} * spec.window.kernel_h * spec.window.kernel_w *
           repeats_of(spec);
}

bool adds_inputs(const BitLayerSpec& spec) { return spec.weight_planes > 1 && !spec.odd_weights; }

// The largest integer of the input.
int64_t highest(const BitLayerSpec& spec) { return (int64_t{1} << spec.planes) - 1; }

// Whether the counts of a pass, over two planes if there are several, exceed 16 bits.
bool overflows_pass(const BitLayerSpec& spec) {
    return bits_of_row(spec) > (spec.planes > 1 ? UINT16_MAX / 3 : kMaxNibbleBits);
}

std::string refusal(const BitLayerSpec& spec) {
    const Window& w = spec.window;
    if (spec.planes < 1 || spec.planes > kMaxPlanes || spec.out_planes < 1 ||
        spec.out_planes > kMaxPlanes)
        return "integers have 1 to 8 planes";
    if (spec.planes > 1 && (spec.low != 0 || spec.pad_value != 0))
        return "integers of several planes start at 0 and are padded with 0";
    if (spec.weight_planes < 1 || spec.weight_planes > kMaxPlanes) return "weights have 1 to 8 planes";
    if (spec.weight_planes > 1 && (spec.low != 0 || spec.pad_value != 0 || spec.mask))
        return "weights of several planes need integers from 0 on, padded with 0, and no mask";
    if (spec.groups < 1 || spec.in_channels < 1 || spec.out_channels < 1)
        return "channels and groups must be at least 1";
    if (spec.in_channels % spec.groups || spec.out_channels % spec.groups)
        return "channels must be divisible by groups";
    if (spec.groups > 1 && (spec.in_channels / spec.groups) % 8)
        return "a grouped binary layer needs a multiple of 8 input channels per group";
    if (w.out_h < 1 || w.out_w < 1) return "the kernel does not fit into the padded input";
    if (spec.low == 0 && spec.pad_value < 0)
        return "inputs of 0 and 1 have no bit for padding with -1";
    if (most_counted(spec) > INT32_MAX / 8) return "too many inputs per output";
    if (spec.finish == Finish::kThreshold && !spec.thresholds) return "thresholds are missing";
    return {};
}

void choose_sizes(const KernelTable& table, const BitLayerSpec& spec, BitLayer& layer) {
    const Window& w = spec.window;
    layer.window = w;
    layer.finish = spec.finish;
    layer.groups = spec.groups;
    layer.out_channels = spec.out_channels;
    layer.group_outputs = spec.out_channels / spec.groups;
    layer.group_bytes = spec.groups == 1 ? static_cast<int32_t>(pixel_bytes(spec.in_channels))
                                         : spec.in_channels / spec.groups / 8;
    const bool joined = spec.groups == 1 && w.dilation_w == 1;
    layer.planes = spec.planes;
    layer.out_planes = spec.finish == Finish::kThreshold ? spec.out_planes : 1;
    layer.repeats = repeats_of(spec);
    layer.weight_planes = spec.weight_planes;
    layer.adds_inputs = adds_inputs(spec);
    layer.row_inputs = bits_of_row(spec);
    layer.halvings = (spec.mask != nullptr) + (spec.low == 0) + layer.adds_inputs;
    layer.run_count = joined ? 1 : w.kernel_w;
    layer.run_bytes = joined ? w.kernel_w * layer.group_bytes : layer.group_bytes;
    layer.row_bytes = int64_t{layer.repeats} * w.kernel_h * w.kernel_w * layer.group_bytes;
    layer.row_pitch = round_up(layer.row_bytes + kSlack, kSlack);
    layer.weight_pitch = round_up(layer.row_bytes, kSlack);
    layer.panel = table.panel;
    layer.panels = static_cast<int32_t>(ceil_div(layer.group_outputs, table.panel));
    layer.item_panels = spec.groups == 1 ? layer.panels : 1;
    layer.padded_outputs = static_cast<int32_t>(round_up(spec.out_channels, table.panel));
    const int64_t tail = ceil_div(layer.row_bytes % 16, 4) * 8;
    layer.triples = static_cast<int32_t>(ceil_div(layer.row_bytes / 16 * 32 + tail, 3));
    const bool several = spec.planes > 1 || spec.weight_planes > 1;
    const int32_t most = several ? kMaxPlaneChunk : kMaxChunk;
    layer.chunk = static_cast<int32_t>(ceil_div(layer.triples, ceil_div(layer.triples, most)));
    layer.wide_counts = most_counted(spec) > UINT16_MAX;
    layer.block_pixels = table.weights == Weights::kLanes ? 28 : 16;
    // Two pixels share indices of two bytes, or two planes.
    const int64_t index_bytes = several ? 2 * ceil_div(spec.planes, 2) : 1;
    if (table.weights == Weights::kNibbles) {
        const int64_t fit = kIndexBytes / (3 * int64_t{layer.triples} * index_bytes) / 4 * 4;
        layer.block_pixels = static_cast<int32_t>(std::clamp<int64_t>(fit, 4, kMaxBlock));
    }
    const int64_t block = layer.block_pixels;
    const int64_t rows = layer.row_pitch * block * spec.planes;
    const int64_t indices = (3 * int64_t{layer.triples} + 32) * index_bytes * block;
    const int64_t count_bytes = spec.weight_planes > 1 ? 10 : spec.planes > 2 ? 6 : 4;
    const int64_t counts = int64_t{layer.panel} * block * count_bytes;
    const int64_t wide = spec.groups == 1 ? 0 : int64_t{layer.padded_outputs} * block * 4;
    layer.scratch_bytes = round_up(rows + indices + counts + wide, kSlack) + kSlack;
}

// `count` <= 57 bits of the weights from bit `at` on, and none of the bytes after the last.
uint64_t some_bits(const uint8_t* weights, int64_t at, int64_t count) {
    uint64_t word = 0;
    const int64_t bytes = ((at & 7) + count + 7) >> 3;
    for (int64_t i = 0; i < bytes; ++i) word |= uint64_t{weights[(at >> 3) + i]} << (8 * i);
    return word >> (at & 7) & ((uint64_t{1} << count) - 1);
}

// One output channel from torch's order, channel after channel, to cell after cell.
void fill_row(const BitLayerSpec& spec, const BitLayer& layer, const uint8_t* weights, int64_t start,
              uint8_t* row) {
    const int64_t cells = int64_t{spec.window.kernel_h} * spec.window.kernel_w;
    const int64_t channels = spec.in_channels / spec.groups;
    if (cells == 1 && start % 8 == 0) {
        std::memcpy(row, weights + start / 8, static_cast<size_t>(ceil_div(channels, 8)));
        if (channels % 8) row[channels / 8] &= static_cast<uint8_t>((1 << channels % 8) - 1);
        return;
    }
    constexpr int64_t kSome = 48;
    for (int64_t c = 0; c < channels; ++c)
        for (int64_t cell = 0; cell < cells; cell += kSome) {
            const int64_t count = std::min(kSome, cells - cell);
            uint64_t word = some_bits(weights, start + c * cells + cell, count);
            uint8_t* to = row + cell * layer.group_bytes + (c >> 3);
            for (; word; word >>= 1, to += layer.group_bytes)
                *to = static_cast<uint8_t>(*to | (word & 1) << (c & 7));
        }
}

// [plane][out][weight_pitch], in the order in which kernels gather the input bits.
Bytes weight_rows(const BitLayerSpec& spec, const BitLayer& layer) {
    // Kernels read four rows at once, also past the last channel.
    const int64_t plane_bytes = layer.weight_pitch * spec.out_channels;
    Bytes memory(static_cast<size_t>(plane_bytes * spec.weight_planes + 3 * layer.weight_pitch));
    const auto fill = [&](const uint8_t* weights, int64_t from) {
        for (int32_t o = 0; o < spec.out_channels; ++o)
            fill_row(spec, layer, weights, o * spec.weight_stride,
                     memory.as<uint8_t>() + o * layer.weight_pitch + from);
    };
    for (int32_t plane = 0; plane < spec.weight_planes; ++plane)
        fill(spec.weights + plane * weight_plane_bytes(spec), plane * plane_bytes);
    if (!spec.mask) return memory;
    // Zeros were +1 so far, since their sign bits are 0; here they are -1.
    std::vector<uint8_t> second(static_cast<size_t>(ceil_div(spec.weight_stride * spec.out_channels, 8)));
    for (size_t i = 0; i < second.size(); ++i)
        second[i] = static_cast<uint8_t>(spec.weights[i] | ~spec.mask[i]);
    fill(second.data(), layer.row_bytes / 2);
    return memory;
}

// Where kernels put the indices of the two nibbles of a byte: blocks of 16 bytes, then of 4; in
// each the low nibbles come first.
int64_t nibble_position(int64_t byte, bool high, int64_t row_bytes) {
    const int64_t whole = row_bytes / 16 * 16;
    const int64_t block = byte < whole ? 16 : 4;
    const int64_t in = byte < whole ? byte : byte - whole;
    const int64_t start = byte < whole ? 0 : 2 * whole;
    return start + in / block * 2 * block + (high ? block : 0) + in % block;
}

// Even bytes of a register hold the first half of its channels and odd bytes the second, so that
// widening by masks and shifts leaves them in order.
int64_t nibble_lane(int64_t channel, int64_t vector_bytes) {
    const int64_t half = vector_bytes / 2, in = channel % vector_bytes;
    return channel / vector_bytes * vector_bytes + 2 * (in % half) + in / half;
}

// Byte after byte of all channels: what is written lies together, and what is read stays cached.
void fill_nibbles(const KernelTable& table, const BitLayer& layer, const uint8_t* rows,
                  int32_t channels, uint8_t* panel) {
    std::vector<int64_t> lanes(static_cast<size_t>(channels));
    for (int32_t c = 0; c < channels; ++c) lanes[c] = nibble_lane(c, table.vector_bytes);
    for (int64_t b = 0; b < layer.row_bytes; ++b) {
        uint8_t* low = panel + nibble_position(b, false, layer.row_bytes) * layer.panel;
        uint8_t* high = panel + nibble_position(b, true, layer.row_bytes) * layer.panel;
        const uint8_t* from = rows + b;
        for (int32_t c = 0; c < channels; ++c, from += layer.weight_pitch) {
            low[lanes[c]] = *from & 15;
            high[lanes[c]] = *from >> 4;
        }
    }
}

void fill_lanes(const BitLayer& layer, const uint8_t* rows, int32_t channels, uint8_t* panel) {
    for (int64_t b = 0; b < layer.row_bytes; b += 4, panel += int64_t{layer.panel} * 4)
        for (int32_t c = 0; c < channels; ++c)
            // Rows are zero up to their pitch.
            std::memcpy(panel + c * 4, rows + c * layer.weight_pitch + b, 4);
}

Bytes weight_panels(const KernelTable& table, const Bytes& rows, BitLayer& layer) {
    const bool nibbles = table.weights == Weights::kNibbles;
    layer.panel_bytes = layer.panel * (nibbles ? 3 * int64_t{layer.triples}
                                               : round_up(layer.row_bytes, 4));
    // Groups follow each other, and so do planes: all have the same rows.
    const int32_t groups = layer.groups * layer.weight_planes;
    Bytes memory(static_cast<size_t>(layer.panel_bytes) * layer.panels * groups);
    uint8_t* to = memory.as<uint8_t>();
    for (int32_t group = 0; group < groups; ++group)
        for (int32_t panel = 0; panel < layer.panels; ++panel, to += layer.panel_bytes) {
            const int32_t first = panel * layer.panel;
            const int32_t channels = std::min(layer.panel, layer.group_outputs - first);
            const uint8_t* from = rows.as<uint8_t>() +
                                  (int64_t{group} * layer.group_outputs + first) * layer.weight_pitch;
            if (nibbles) fill_nibbles(table, layer, from, channels, to);
            else fill_lanes(layer, from, channels, to);
        }
    return memory;
}

using Taps = std::vector<bool>;

// The cells of a kernel axis that fall inside the image, for every output position.
std::vector<Taps> valid_taps(int32_t in, int32_t out, int32_t kernel, int32_t stride,
                             int32_t dilation, int32_t pad) {
    std::vector<Taps> valid(out, Taps(kernel));
    for (int32_t o = 0; o < out; ++o)
        for (int32_t k = 0; k < kernel; ++k) {
            const int64_t at = int64_t{o} * stride - pad + int64_t{k} * dilation;
            valid[o][k] = at >= 0 && at < in;
        }
    return valid;
}

// Numbers the distinct members of `valid` into `of` and returns them. Padding that is +1 or -1
// counts like any input, so all positions are alike.
std::vector<Taps> classes_of(const std::vector<Taps>& valid, bool alike, uint16_t* of) {
    std::map<Taps, uint16_t> seen;
    std::vector<Taps> classes;
    for (size_t i = 0; i < valid.size(); ++i) {
        const Taps taps = alike ? Taps(valid[i].size(), true) : valid[i];
        const auto entry = seen.emplace(taps, static_cast<uint16_t>(seen.size()));
        if (entry.second) classes.push_back(taps);
        of[i] = entry.first->second;
    }
    return classes;
}

// Products of the weights of each output channel and kernel cell with an input of +1: [out][cell],
// those of a repeated row together.
std::vector<int32_t> sums_of_cells(const BitLayerSpec& spec, const BitLayer& layer,
                                   const uint8_t* rows) {
    const int64_t cells = int64_t{spec.window.kernel_h} * spec.window.kernel_w;
    std::vector<int32_t> sums;
    sums.reserve(static_cast<size_t>(spec.out_channels * cells));
    for (int32_t o = 0; o < spec.out_channels; ++o)
        for (int64_t cell = 0; cell < cells; ++cell) {
            const uint8_t* from = rows + o * layer.weight_pitch + cell * layer.group_bytes;
            int32_t minus = 0;
            for (int32_t repeat = 0; repeat < layer.repeats; ++repeat, from += cells * layer.group_bytes)
                for (int32_t i = 0; i < layer.group_bytes; ++i) minus += __builtin_popcount(from[i]);
            sums.push_back(layer.repeats * (spec.in_channels / spec.groups) - 2 * minus);
        }
    return sums;
}

// What is not halved yet: base - 2 * count, where a padded cell of value 0 beside inputs of -1 and +1
// was counted as if it held +1. Inputs of 0 and 1 are (x + 1) / 2, so the sum of the weights is added.
int32_t base_of(int64_t bits, const int32_t* cell_sums, const Taps& rows, const Taps& cols) {
    for (size_t kh = 0; kh < rows.size(); ++kh)
        for (size_t kw = 0; kw < cols.size(); ++kw)
            if (!rows[kh] || !cols[kw]) bits -= cell_sums[kh * cols.size() + kw];
    return static_cast<int32_t>(bits);
}

// The unused numbers of a channel never exceed their limit, which leaves their bits 0.
constexpr int32_t kNever = INT32_MAX;

// sum < threshold  <=>  2 * count > base - threshold  <=>  count > floor((base - threshold) / 2).
int32_t limit_of(int64_t base, int64_t threshold, int64_t bits) {
    return static_cast<int32_t>(std::clamp<int64_t>((base - threshold) >> 1, -1, bits));
}

// `cells`: border classes times channels.
void fill_limits(const BitLayerSpec& spec, int64_t cells, BitLayer& layer,
                 std::vector<Bytes>& storage) {
    const int64_t most = most_counted(spec), stride = layer.padded_outputs;
    const int64_t count = ((int64_t{1} << spec.out_planes) - 1) * cells;
    auto* limits = store<int32_t>(storage, count);
    auto* limits16 = store<int16_t>(storage, count);
    auto* flips = store<uint32_t>(storage, ceil_div(stride, 32));
    for (int32_t o = 0; o < spec.out_channels; ++o)
        if (spec.flips && spec.flips[o]) flips[o / 32] |= 1u << (o % 32);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t o = i % stride;
        const bool used = o < spec.out_channels, flip = used && spec.flips && spec.flips[o];
        const int64_t threshold = used ? spec.thresholds[i / cells * spec.out_channels + o] : 0;
        limits[i] = used ? limit_of(layer.base[i % cells], (threshold + flip) * (1 << layer.halvings), most)
                         : kNever;
        if (spec.out_planes == 1)
            limits16[i] = static_cast<int16_t>(std::min<int32_t>(limits[i], INT16_MAX));
        else
            limits16[i] = static_cast<int16_t>(std::min(limits[i], UINT16_MAX - 1) + 1 + INT16_MIN);
    }
    layer.limits = limits;
    layer.limits16 = most <= (spec.out_planes == 1 ? INT16_MAX : UINT16_MAX - 1) ? limits16 : nullptr;
    layer.limit_pitch = cells;
    layer.flips = flips;
}

// Returns how many border classes there are.
int64_t fill_tables(const BitLayerSpec& spec, const uint8_t* weight_rows, BitLayer& layer,
                    std::vector<Bytes>& storage) {
    const Window& w = spec.window;
    const bool alike = ring_value(spec) != 0;
    auto* row_border = store<uint16_t>(storage, w.out_h);
    auto* col_border = store<uint16_t>(storage, w.out_w);
    const auto rows = classes_of(
        valid_taps(w.in_h, w.out_h, w.kernel_h, w.stride_h, w.dilation_h, w.pad_h), alike, row_border);
    const auto cols = classes_of(
        valid_taps(w.in_w, w.out_w, w.kernel_w, w.stride_w, w.dilation_w, w.pad_w), alike, col_border);
    layer.row_border = row_border;
    layer.col_border = col_border;
    layer.col_borders = static_cast<int32_t>(cols.size());
    const int64_t bits = bits_of_row(spec), stride = layer.padded_outputs;
    const int64_t cells = static_cast<int64_t>(rows.size() * cols.size()) * stride;
    auto* base = store<int32_t>(storage, cells);
    layer.base = base;
    for (int32_t plane = 0; plane < spec.weight_planes; ++plane) {
        const std::vector<int32_t> cell_sums = sums_of_cells(
            spec, layer, weight_rows + plane * layer.weight_pitch * spec.out_channels);
        const size_t taps = cell_sums.size() / static_cast<size_t>(spec.out_channels);
        for (int64_t border = 0; border < cells / stride; ++border)
            for (int32_t o = 0; o < spec.out_channels; ++o) {
                const int32_t* of = cell_sums.data() + o * taps;
                const int32_t one = base_of(bits, of, rows[border / cols.size()], cols[border % cols.size()]);
                const int32_t sum = spec.low == 0 ? std::accumulate(of, of + taps, 0) : 0;
                int32_t& all = base[border * stride + o];
                all = static_cast<int32_t>(2 * all + highest(spec) * (one + sum));
            }
    }
    if (spec.finish == Finish::kThreshold) fill_limits(spec, cells, layer, storage);
    return cells / stride;
}

void keep_weights(const KernelTable& table, const BitLayerSpec& spec, bool dense, Bytes rows,
                  PreparedBits& out) {
    BitLayer& layer = out.view;
    const bool wide = table.weights == Weights::kNibbles && overflows_pass(spec);
    if (table.weights != Weights::kRows && !wide) {
        out.storage.push_back(weight_panels(table, rows, layer));
        layer.panel_weights = out.storage.back().as<uint8_t>();
    }
    if (layer.panel_weights && !dense) return;
    out.storage.push_back(std::move(rows));
    layer.row_weights = out.storage.back().as<uint8_t>();
}

}  // namespace

int64_t most_counted(const BitLayerSpec& spec) {
    const int64_t worth = (int64_t{1} << spec.weight_planes) - 1 + adds_inputs(spec);
    return bits_of_row(spec) * highest(spec) * worth;
}

std::string prepare_bits(const KernelTable& table, const BitLayerSpec& spec, PreparedBits& out) {
    out = PreparedBits{};
    std::string reason = refusal(spec);
    if (!reason.empty()) return reason;
    BitLayer& layer = out.view;
    choose_sizes(table, spec, layer);
    Bytes rows = weight_rows(spec, layer);
    const int64_t borders = fill_tables(spec, rows.as<uint8_t>(), layer, out.storage);
    // One pixel at a time is counted fastest along plain rows; only dense layers meet that case.
    const bool dense = spec.window.in_h == 1 && spec.window.in_w == 1;
    if (!dense && counts_by_tables(table, spec, layer, borders))
        prepare_tables(table, rows.as<uint8_t>(), spec.in_channels, layer, out.storage);
    else
        keep_weights(table, spec, dense, std::move(rows), out);
    layer.scale = copy_floats(out.storage, spec.scale, spec.out_channels, layer.padded_outputs, 1);
    layer.shift = copy_floats(out.storage, spec.shift, spec.out_channels, layer.padded_outputs, 0);
    return {};
}

int64_t bit_layer_items(const BitLayer& layer, int32_t images) {
    if (layer.tables.entries)
        return int64_t{images} * ceil_div(layer.window.out_h, layer.tables.band_rows);
    const int64_t pixels = int64_t{images} * layer.window.out_h * layer.window.out_w;
    return ceil_div(pixels, layer.block_pixels) * layer.item_panels;
}

}  // namespace coarsegrad

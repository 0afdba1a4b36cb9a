// Memory, bit planes, and float layers.
#include "prepare.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "prepare_common.h"

namespace coarsegrad {

Bytes::Bytes(size_t size) : size_(size) {
    const size_t whole = static_cast<size_t>(round_up(static_cast<int64_t>(size) + kSlack, 64));
    memory_.reset(std::aligned_alloc(64, whole));
    if (!memory_) throw std::bad_alloc();
    std::memset(memory_.get(), 0, whole);
}

void Bytes::Free::operator()(void* p) const { std::free(p); }

int64_t pixel_bytes(int32_t channels) {
    return channels <= 16 ? ceil_div(channels, 8) : ceil_div(channels, 32) * 4;
}

int64_t bit_plane_bytes(int32_t images, int32_t h, int32_t w, int32_t channels, int32_t ring_h,
                        int32_t ring_w, int32_t planes) {
    return pixel_bytes(channels) * (w + 2 * int64_t{ring_w}) * (h + 2 * int64_t{ring_h}) * images *
               planes +
           kSlack;
}

BitImage bit_plane_at(uint8_t* memory, int32_t images, int32_t h, int32_t w, int32_t channels,
                      int32_t ring_h, int32_t ring_w, int32_t planes) {
    BitImage view{};
    view.pixel_pitch = pixel_bytes(channels);
    view.row_pitch = view.pixel_pitch * (w + 2 * int64_t{ring_w});
    view.image_pitch = view.row_pitch * (h + 2 * int64_t{ring_h});
    view.origin = memory + ring_h * view.row_pitch + ring_w * view.pixel_pitch;
    view.images = images;
    view.planes = planes;
    view.plane_pitch = view.image_pitch * images;
    return view;
}

BitPlane make_bit_plane(int32_t images, int32_t h, int32_t w, int32_t channels, int32_t ring_h,
                        int32_t ring_w, int32_t planes) {
    BitPlane plane{Bytes(static_cast<size_t>(
                       bit_plane_bytes(images, h, w, channels, ring_h, ring_w, planes))),
                   {}};
    plane.view =
        bit_plane_at(plane.memory.as<uint8_t>(), images, h, w, channels, ring_h, ring_w, planes);
    return plane;
}

void fill_bit_plane(uint8_t* memory, int64_t bytes, int32_t channels, int32_t pad_value) {
    std::memset(memory, 0, static_cast<size_t>(bytes));
    if (pad_value >= 0) return;
    const int64_t pitch = pixel_bytes(channels);
    for (int64_t pixel = 0; pixel + pitch <= bytes - kSlack; pixel += pitch) {
        std::memset(memory + pixel, 0xff, static_cast<size_t>(channels / 8));
        if (channels % 8) memory[pixel + channels / 8] = static_cast<uint8_t>((1 << channels % 8) - 1);
    }
}

Window with_output_size(Window window, int32_t pad_after_h, int32_t pad_after_w) {
    const auto size = [](int64_t in, int64_t pads, int64_t kernel, int64_t stride, int64_t dilation) {
        const int64_t room = in + pads - dilation * (kernel - 1) - 1;
        return room < 0 ? 0 : static_cast<int32_t>(room / stride + 1);
    };
    window.out_h = size(window.in_h, int64_t{window.pad_h} + pad_after_h, window.kernel_h,
                        window.stride_h, window.dilation_h);
    window.out_w = size(window.in_w, int64_t{window.pad_w} + pad_after_w, window.kernel_w,
                        window.stride_w, window.dilation_w);
    return window;
}

namespace {

// Narrower outputs would leave most of the lanes idle.
constexpr int32_t kLeastRow = 4, kLeastSignRow = 8;
// Tables of so many taps fit into the first-level cache.
constexpr int32_t kMostSignTaps = 64;

std::string refusal(const FloatLayerSpec& spec) {
    if (spec.groups < 1 || spec.in_channels % spec.groups || spec.out_channels % spec.groups)
        return "channels must be divisible by groups";
    if (spec.window.out_h < 1 || spec.window.out_w < 1)
        return "the kernel does not fit into the padded input";
    if (spec.finish == Finish::kThreshold && !spec.thresholds) return "thresholds are missing";
    if (spec.finish == Finish::kThreshold && spec.groups > 1 &&
        spec.out_channels / spec.groups % kFloatPanel)
        return "sign bits of a grouped float layer need a multiple of 16 output channels per group";
    return {};
}

const float* weight_panels(const FloatLayerSpec& spec, const FloatLayer& layer,
                           std::vector<Bytes>& storage) {
    const int64_t row = layer.row;
    float* weights = store<float>(storage, row * kFloatPanel * layer.panels * layer.groups);
    for (int32_t o = 0; o < spec.out_channels; ++o) {
        const int64_t in_group = o % layer.group_outputs;
        float* panel = weights + (int64_t{o / layer.group_outputs} * layer.panels +
                                  in_group / kFloatPanel) * row * kFloatPanel;
        for (int64_t k = 0; k < row; ++k)
            panel[k * kFloatPanel + in_group % kFloatPanel] = spec.weights[o * row + k];
    }
    return weights;
}

// Where the kernel finds its taps, and the scratch memory that holds them.
void place_taps(FloatLayer& layer, std::vector<Bytes>& storage) {
    const Window& w = layer.window;
    const int32_t last = (w.kernel_w - 1) * w.dilation_w, cells = w.kernel_h * w.kernel_w;
    layer.by_rows = w.out_w >= kLeastRow;
    layer.phases = std::min(w.stride_w, last + 1);
    layer.pitch = w.out_w + last / w.stride_w;
    int32_t* taps = store<int32_t>(storage, layer.row);
    for (int32_t k = 0; k < layer.row; ++k) {
        const int32_t line = k / w.kernel_w, column = k % w.kernel_w * w.dilation_w;
        taps[k] = !layer.by_rows ? k * kFloatBlock
                                 : static_cast<int32_t>((line * layer.phases + column % w.stride_w) *
                                                        layer.pitch) + column / w.stride_w;
    }
    layer.taps = taps;
    const int64_t lines = int64_t{layer.row / cells} * w.kernel_h * layer.phases * layer.pitch;
    const int64_t inputs = layer.by_rows ? lines : int64_t{layer.row} * kFloatBlock;
    const int64_t tables = int64_t{layer.sign_groups} * 8 * kSignPixels;
    // Vectors may reach beyond the last pixel of the last line.
    layer.scratch_bytes =
        round_up((inputs + kSignPixels + tables + kFloatBlock * kFloatPanel) * 4, 64) + 128;
}

// The taps of a convolution that needs no padding and no phases, in the input itself.
void place_direct_taps(FloatLayer& layer, std::vector<Bytes>& storage) {
    const Window& w = layer.window;
    const auto fits = [](int64_t out, int64_t stride, int64_t pad, int64_t kernel, int64_t dilation,
                         int64_t in) {
        return pad == 0 && (out - 1) * stride + (kernel - 1) * dilation < in;
    };
    const int64_t reach = layer.row / w.kernel_w * int64_t{w.in_h} * w.in_w;
    if (!layer.by_rows || w.stride_w != 1 || reach > INT32_MAX ||
        !fits(w.out_h, w.stride_h, w.pad_h, w.kernel_h, w.dilation_h, w.in_h) ||
        !fits(w.out_w, w.stride_w, w.pad_w, w.kernel_w, w.dilation_w, w.in_w))
        return;
    int32_t* taps = store<int32_t>(storage, layer.row);
    for (int32_t k = 0; k < layer.row; ++k) {
        const int32_t line = k / w.kernel_w, channel = line / w.kernel_h;
        taps[k] = (channel * w.in_h + line % w.kernel_h * w.dilation_h) * w.in_w +
                  k % w.kernel_w * w.dilation_w;
    }
    layer.direct_taps = taps;
}

// An entry holds (+-a) + (+-b) + (+-c) for three taps, number 4 * (c < 0) + 2 * (b < 0) + (a < 0).
// The side of a channel turns all of its signs.
void choose_sign_entries(const FloatLayerSpec& spec, FloatLayer& layer, std::vector<Bytes>& storage) {
    if (spec.finish != Finish::kThreshold || spec.groups > 1 || layer.row > kMostSignTaps ||
        spec.window.out_w < kLeastSignRow)
        return;
    const int64_t count = int64_t{spec.out_channels} * layer.row;
    if (!std::all_of(spec.weights, spec.weights + count, [](float w) { return std::abs(w) == 1; }))
        return;
    layer.sign_groups = (layer.row + 2) / 3;
    uint16_t* entries = store<uint16_t>(storage, int64_t{spec.out_channels} * layer.sign_groups);
    layer.sign_entries = entries;
    for (int32_t o = 0; o < spec.out_channels; ++o)
        for (int32_t g = 0; g < layer.sign_groups; ++g, ++entries) {
            int32_t entry = 8 * g;
            for (int32_t k = 3 * g; k < std::min(3 * g + 3, layer.row); ++k)
                if ((spec.weights[o * layer.row + k] < 0) != (layer.side[o] < 0))
                    entry += 1 << (k - 3 * g);
            *entries = static_cast<uint16_t>(entry * kSignPixels * sizeof(float));
        }
}

}  // namespace

std::string prepare_floats(const FloatLayerSpec& spec, PreparedFloats& out) {
    out = PreparedFloats{};
    const std::string reason = refusal(spec);
    if (!reason.empty()) return reason;
    FloatLayer& layer = out.view;
    layer.window = spec.window;
    layer.groups = spec.groups;
    layer.in_channels = spec.in_channels;
    layer.out_channels = spec.out_channels;
    layer.group_outputs = spec.out_channels / spec.groups;
    layer.row = spec.in_channels / spec.groups * spec.window.kernel_h * spec.window.kernel_w;
    layer.panels = static_cast<int32_t>(ceil_div(layer.group_outputs, kFloatPanel));
    layer.finish = spec.finish;
    const int32_t padded = spec.out_channels + kFloatPanel;
    layer.scale = copy_floats(out.storage, spec.scale, spec.out_channels, padded, 1);
    layer.shift = copy_floats(out.storage, spec.shift, spec.out_channels, padded, 0);
    if (spec.finish == Finish::kThreshold) {
        float* side = store<float>(out.storage, padded);
        float* thresholds = store<float>(out.storage, padded);
        for (int32_t o = 0; o < spec.out_channels; ++o) {
            side[o] = spec.flips && spec.flips[o] ? -1.0f : 1.0f;
            thresholds[o] = side[o] * spec.thresholds[o];
        }
        layer.side = side;
        layer.thresholds = thresholds;
    }
    choose_sign_entries(spec, layer, out.storage);
    if (!layer.sign_entries) layer.weights = weight_panels(spec, layer, out.storage);
    place_taps(layer, out.storage);
    place_direct_taps(layer, out.storage);
    return {};
}

PreparedLevels prepare_levels(int32_t channels, int32_t h, int32_t w, int32_t planes,
                              const float* thresholds, const uint8_t* flips) {
    PreparedLevels out;
    const int64_t count = ((int64_t{1} << planes) - 1) * channels;
    float* side = store<float>(out.storage, channels);
    float* limits = store<float>(out.storage, count);
    for (int32_t c = 0; c < channels; ++c) side[c] = flips && flips[c] ? -1.0f : 1.0f;
    for (int64_t i = 0; i < count; ++i) limits[i] = side[i % channels] * thresholds[i];
    out.view = LevelPack{channels, h, w, planes, side, limits};
    return out;
}

int64_t float_layer_items(const FloatLayer& layer, int32_t images) {
    const int64_t rows = int64_t{images} * layer.window.out_h;
    if (layer.sign_entries) return rows;
    const int64_t blocks =
        layer.by_rows ? rows : ceil_div(rows * layer.window.out_w, kFloatBlock);
    return blocks * layer.groups * layer.panels;
}

}  // namespace coarsegrad

// Layers laid out for a target, once, at load. These own their memory; kernels see the plain views.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"

namespace coarsegrad {

// Zeroed, 64-byte aligned memory.
class Bytes {
  public:
    Bytes() = default;
    explicit Bytes(size_t size);
    template <class T>
    T* as() const { return reinterpret_cast<T*>(memory_.get()); }
    size_t size() const { return size_; }

  private:
    struct Free { void operator()(void* p) const; };
    std::unique_ptr<void, Free> memory_;
    size_t size_ = 0;
};

// A bit image that owns its memory, ring included.
struct BitPlane {
    Bytes memory;
    BitImage view{};
};
BitPlane make_bit_plane(int32_t images, int32_t h, int32_t w, int32_t channels, int32_t ring_h,
                        int32_t ring_w, int32_t planes = 1);
// Bytes that make_bit_plane takes, and the same view laid into memory that the caller owns.
int64_t bit_plane_bytes(int32_t images, int32_t h, int32_t w, int32_t channels, int32_t ring_h,
                        int32_t ring_w, int32_t planes = 1);
BitImage bit_plane_at(uint8_t* memory, int32_t images, int32_t h, int32_t w, int32_t channels,
                      int32_t ring_h, int32_t ring_w, int32_t planes = 1);
// What a pixel of so many channels takes.
int64_t pixel_bytes(int32_t channels);
// Every pixel, ring and all planes included: pad_value -1 sets the bits of the channels, 0 and +1
// clear them.
void fill_bit_plane(uint8_t* memory, int64_t bytes, int32_t channels, int32_t pad_value);

// `weights`: bits (1 = -1) in torch order (out, in / groups, kernel_h, kernel_w), least significant
// bit first; the row of output channel o starts at bit o * weight_stride.
struct BitLayerSpec {
    Window window{};
    int32_t in_channels = 0, out_channels = 0, groups = 1, pad_value = 0;
    int32_t low = -1;  // what an input bit of 1 stands for: -1 or 0
    int32_t planes = 1;  // of the input; several need low and pad_value 0
    const uint8_t* weights = nullptr;
    const uint8_t* mask = nullptr;  // like weights, 0 where a weight is 0; null: none is
    int64_t weight_stride = 0;
    // Weights of several bits: the sum of 2^p s_p over digits s_p of +-1 if odd, else half of one less
    // than that, where p counts from the lowest. `weights` holds as many planes, that of the highest first, each
    // of weight_plane_bytes(). Needs low and pad_value 0, and no mask.
    int32_t weight_planes = 1;
    bool odd_weights = false;
    Finish finish = Finish::kSums;
    const int32_t* thresholds = nullptr;  // [out]: +1 iff sum >= threshold
    const uint8_t* flips = nullptr;       // [out], may be null: where 1, +1 iff sum <= threshold
    int32_t out_planes = 1;  // if several, the integer is how many of thresholds[2^out_planes - 1][out] pass
    const float *scale = nullptr, *shift = nullptr;
};

inline int64_t weight_plane_bytes(const BitLayerSpec& spec) {
    return (spec.weight_stride * spec.out_channels + 7) / 8;
}

struct PreparedBits {
    BitLayer view{};
    std::vector<Bytes> storage;
};

// Fills `out`; returns why it cannot, or an empty string.
std::string prepare_bits(const KernelTable& table, const BitLayerSpec& spec, PreparedBits& out);
int64_t bit_layer_items(const BitLayer& layer, int32_t images);
// What the ring around the input bits holds, as fill_bit_plane takes it.
inline int32_t ring_value(const BitLayerSpec& spec) {
    return spec.low == 0 ? 2 * spec.pad_value - 1 : spec.pad_value;
}

struct FloatLayerSpec {
    Window window{};
    int32_t in_channels = 0, out_channels = 0, groups = 1;
    const float* weights = nullptr;  // torch order
    Finish finish = Finish::kAffine;
    const float* thresholds = nullptr;  // +1 unless sum < threshold
    const uint8_t* flips = nullptr;     // where 1, +1 unless sum > threshold
    const float *scale = nullptr, *shift = nullptr;  // null: 1 and 0
};

struct PreparedFloats {
    FloatLayer view{};
    std::vector<Bytes> storage;
};

// Thresholds that make integers of `planes` bits of floats, as BitLayerSpec's do of sums.
struct PreparedLevels {
    LevelPack view{};
    std::vector<Bytes> storage;
};
PreparedLevels prepare_levels(int32_t channels, int32_t h, int32_t w, int32_t planes,
                              const float* thresholds, const uint8_t* flips);

std::string prepare_floats(const FloatLayerSpec& spec, PreparedFloats& out);
int64_t float_layer_items(const FloatLayer& layer, int32_t images);

// out_h and out_w of a window from its other fields; 0 where the kernel does not fit.
Window with_output_size(Window window, int32_t pad_after_h, int32_t pad_after_w);

}  // namespace coarsegrad

// A network laid out for one target: stages run in order on one arena of memory per call.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels.h"
#include "prepare.h"
#include "threads.h"

namespace coarsegrad {

// What passes between two stages: sign bits or planes of digits with a ring for the consumer's
// padding, or floats NCHW.
struct Value {
    int32_t planes;  // 0: floats
    int32_t channels, height, width;
    int32_t ring_h = 0, ring_w = 0, pad_value = 0;
    int64_t offset = 0, bytes = 0;  // in the arena
};

struct Stage {
    enum class Kind {
        kPack, kPackLevels, kUnpack, kPad, kRelu, kBitLayer, kBitPool, kFloatLayer, kFloatPool
    } kind{};
    PreparedBits bits;
    PreparedFloats floats;
    PreparedLevels levels;
    BitPool bit_pool{};
    FloatPool float_pool{};
    std::vector<uint32_t> mask;
    int32_t pad_top = 0, pad_left = 0;
    float pad_value = 0;
    std::vector<float> table;  // what kUnpack makes of the bits of all planes, the highest first
};

// Built stage by stage, then sealed; a sealed engine never allocates again.
class Engine {
  public:
    Engine(const KernelTable& table, int32_t channels, int32_t height, int32_t width);

    // Each returns why the stage cannot be, or an empty string. The specs' sizes must be those of
    // the value so far; bit stages need bits before them, float stages floats.
    std::string add_pack();
    // Integers of `planes` bits: how many of thresholds[2^planes - 1][channels] the floats reach.
    std::string add_pack_levels(int32_t planes, const float* thresholds, const uint8_t* flips);
    // Floats from the integers, which index `levels`; a sign is 0 for -1 and 1.
    std::string add_unpack(const float* levels, int64_t count);
    // The larger of each float and 0.
    std::string add_relu();
    // Floats with cells of one value around them: layers on floats know padding with 0 only.
    std::string add_pad(int32_t top, int32_t left, int32_t bottom, int32_t right, float value);
    std::string add_bit_layer(BitLayerSpec spec);
    std::string add_bit_pool(Window window, const uint8_t* all_mask);
    std::string add_float_layer(FloatLayerSpec spec);
    // An average divides by all cells of the window, padding included.
    std::string add_float_pool(Window window, bool average);
    // Floats of one dimension from here on; bits stay a plane, whose window is then the whole image.
    std::string add_flatten();

    // `arenas`: how many calls may run at once, fewer where they would take much memory; further
    // calls wait. Returns why the network cannot be laid out, or an empty string.
    std::string seal(int threads, int arenas);

    // Nanoseconds of each stage for one chunk of at most `images` samples, least of `rounds`.
    std::vector<double> time_stages(const float* x, float* y, int32_t images, int rounds);
    // x: images samples in the input's shape; y: room for as many results. Safe from any thread.
    // Returns false, y untouched, if a number of x is not finite.
    bool run(const float* x, float* y, int64_t images);

    const Value& current() const { return values_.back(); }
    int64_t input_elements() const;
    int64_t output_elements() const;
    const char* target() const { return table_.name; }
    std::vector<std::string> stage_names() const;
    int64_t arena_bytes() const { return arena_bytes_; }
    int32_t chunk() const { return chunk_; }

  private:
    struct Call;
    std::string wrong(bool bits, const Window& window) const;
    void push(Stage stage, Value after);
    void lay_out();
    void run_stage(size_t i, uint8_t* arena, const float* x, float* y, int32_t images);
    int take_arena();
    void give_arena(int index);
    BitImage image_of(const Value& value, uint8_t* arena) const;
    int64_t items_of(const Stage& stage, const Value& in, const Value& out, int32_t images) const;
    static void body(void* context, int slot, int64_t begin, int64_t end);

    const KernelTable& table_;
    std::vector<Value> values_;
    std::vector<Stage> stages_;
    std::unique_ptr<ThreadPool> pool_;
    std::vector<Bytes> arenas_;
    std::vector<int> free_arenas_;
    std::mutex mutex_;
    std::condition_variable released_;
    int64_t arena_bytes_ = 0, scratch_offset_ = 0, scratch_bytes_ = 0;
    int32_t chunk_ = 1;
    int threads_ = 1;
};

}  // namespace coarsegrad

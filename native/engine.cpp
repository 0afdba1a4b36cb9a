#include "engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iterator>
#include <new>
#include <utility>

#include "plain_stages.h"
#include "prepare_common.h"

namespace coarsegrad {
namespace {

// Images that pass through all stages together: as many as keep the arena in the second-level
// cache, so that the weights of a stage are fetched once for many images.
constexpr int64_t kArenaTarget = 256 << 10;
constexpr int32_t kMaxChunk = 64;
// What the arenas of one model may take, so that a small file cannot claim a large machine.
constexpr int64_t kMaxArenas = int64_t{256} << 20;

int64_t elements(const Value& v) { return int64_t{v.channels} * v.height * v.width; }

int64_t value_bytes(const Value& v, int32_t images) {
    if (v.planes)
        return round_up(bit_plane_bytes(images, v.height, v.width, v.channels, v.ring_h, v.ring_w,
                                        v.planes), 64);
    return round_up(elements(v) * images * 4 + kSlack, 64);
}

bool all_finite(const float* x, int64_t count) {
    constexpr uint32_t kExponent = 0x7f800000;
    uint32_t found = 0;
    for (int64_t i = 0; i < count; ++i) {
        uint32_t bits;
        std::memcpy(&bits, x + i, sizeof bits);
        found |= (bits & kExponent) == kExponent;
    }
    return !found;
}

Stage stage_of(Stage::Kind kind) {
    Stage stage;
    stage.kind = kind;
    return stage;
}

}  // namespace

struct Engine::Call {
    const KernelTable& table;
    const Stage& stage;
    const Value &in, &out;
    BitImage in_bits, out_bits;
    const float* in_values;
    float* out_values;
    int32_t images;
    uint8_t* scratch;
    int64_t scratch_bytes;
};

Engine::Engine(const KernelTable& table, int32_t channels, int32_t height, int32_t width)
    : table_(table) {
    values_.push_back(Value{0, channels, height, width});
}

std::vector<std::string> Engine::stage_names() const {
    const char* kinds[] = {"pack",      "pack levels", "unpack",      "pad",       "relu",
                           "bit layer", "bit pool",    "float layer", "float pool"};
    std::vector<std::string> names;
    for (size_t i = 0; i < stages_.size(); ++i) {
        const Value& v = values_[i + 1];
        names.push_back(std::string(kinds[static_cast<int>(stages_[i].kind)]) + " -> " +
                        std::to_string(v.channels) + "x" + std::to_string(v.height) + "x" +
                        std::to_string(v.width) +
                        (v.planes > 1   ? " " + std::to_string(v.planes) + "-bit integers"
                         : v.planes == 1 ? " bits"
                                         : " floats"));
    }
    return names;
}

int64_t Engine::input_elements() const { return elements(values_.front()); }

int64_t Engine::output_elements() const { return elements(values_.back()); }

std::string Engine::wrong(bool bits, const Window& window) const {
    const Value& v = values_.back();
    if ((v.planes > 0) != bits) return bits ? "the stage needs bits, not floats" : "the stage needs floats, not bits";
    if (v.height != window.in_h || v.width != window.in_w) return "the stage has another size";
    if (window.out_h < 1 || window.out_w < 1) return "the window does not fit into the padded input";
    return {};
}

void Engine::push(Stage stage, Value after) {
    stages_.push_back(std::move(stage));
    values_.push_back(after);
}

std::string Engine::add_pack() {
    Value v = values_.back();
    if (v.planes) return "the stage needs floats, not bits";
    v.planes = 1;
    push(stage_of(Stage::Kind::kPack), v);
    return {};
}

std::string Engine::add_pack_levels(int32_t planes, const float* thresholds, const uint8_t* flips) {
    Value v = values_.back();
    if (v.planes) return "the stage needs floats, not bits";
    Stage stage = stage_of(Stage::Kind::kPackLevels);
    stage.levels = prepare_levels(v.channels, v.height, v.width, planes, thresholds, flips);
    v.planes = planes;
    push(std::move(stage), v);
    return {};
}

std::string Engine::add_unpack(const float* levels, int64_t count) {
    const Value v = values_.back();
    if (!v.planes) return "the stage needs bits, not floats";
    if (count != int64_t{1} << v.planes) return "the stage needs a level for each integer";
    Stage stage = stage_of(Stage::Kind::kUnpack);
    // A bit of 1 is a digit of 0.
    stage.table.assign(std::make_reverse_iterator(levels + count), std::make_reverse_iterator(levels));
    push(std::move(stage), Value{0, v.channels, v.height, v.width});
    return {};
}

std::string Engine::add_relu() {
    const Value v = values_.back();
    if (v.planes) return "the stage needs floats, not bits";
    push(stage_of(Stage::Kind::kRelu), Value{0, v.channels, v.height, v.width});
    return {};
}

std::string Engine::add_pad(int32_t top, int32_t left, int32_t bottom, int32_t right, float value) {
    const Value v = values_.back();
    if (v.planes) return "the stage needs floats, not bits";
    Stage stage = stage_of(Stage::Kind::kPad);
    stage.pad_top = top;
    stage.pad_left = left;
    stage.pad_value = value;
    push(std::move(stage), Value{0, v.channels, v.height + top + bottom, v.width + left + right});
    return {};
}

std::string Engine::add_bit_layer(BitLayerSpec spec) {
    const Window w = spec.window;
    std::string reason = wrong(true, w);
    if (!reason.empty()) return reason;
    Value& in = values_.back();
    if (in.channels != spec.in_channels) return "the stage has another number of channels";
    spec.planes = in.planes;
    Stage stage = stage_of(Stage::Kind::kBitLayer);
    reason = prepare_bits(table_, spec, stage.bits);
    if (!reason.empty()) return reason;
    // The ring is as wide as the window reaches beyond the image on any side.
    const auto beyond = [](int64_t out, int64_t stride, int64_t pad, int64_t reach, int64_t size) {
        return static_cast<int32_t>(
            std::max<int64_t>({0, pad, (out - 1) * stride - pad + reach - (size - 1)}));
    };
    in.ring_h = beyond(w.out_h, w.stride_h, w.pad_h, int64_t{w.dilation_h} * (w.kernel_h - 1), w.in_h);
    in.ring_w = beyond(w.out_w, w.stride_w, w.pad_w, int64_t{w.dilation_w} * (w.kernel_w - 1), w.in_w);
    in.pad_value = ring_value(spec);
    push(std::move(stage), Value{spec.finish == Finish::kThreshold ? spec.out_planes : 0,
                                 spec.out_channels, w.out_h, w.out_w});
    return {};
}

std::string Engine::add_bit_pool(Window window, const uint8_t* all_mask) {
    const std::string reason = wrong(true, window);
    if (!reason.empty()) return reason;
    const int32_t channels = values_.back().channels, planes = values_.back().planes;
    Stage stage = stage_of(Stage::Kind::kBitPool);
    stage.bit_pool.window = window;
    stage.bit_pool.channels = channels;
    stage.bit_pool.words = static_cast<int32_t>(ceil_div(channels, 32));
    if (all_mask) {
        stage.mask.resize(static_cast<size_t>(stage.bit_pool.words));
        for (int32_t c = 0; c < channels; ++c)
            if (all_mask[c]) stage.mask[static_cast<size_t>(c / 32)] |= 1u << (c % 32);
    }
    push(std::move(stage), Value{planes, channels, window.out_h, window.out_w});
    return {};
}

std::string Engine::add_float_layer(FloatLayerSpec spec) {
    std::string reason = wrong(false, spec.window);
    if (!reason.empty()) return reason;
    if (values_.back().channels != spec.in_channels) return "the stage has another number of channels";
    Stage stage = stage_of(Stage::Kind::kFloatLayer);
    reason = prepare_floats(spec, stage.floats);
    if (!reason.empty()) return reason;
    push(std::move(stage), Value{spec.finish == Finish::kThreshold ? 1 : 0, spec.out_channels,
                                 spec.window.out_h, spec.window.out_w});
    return {};
}

std::string Engine::add_float_pool(Window window, bool average) {
    const std::string reason = wrong(false, window);
    if (!reason.empty()) return reason;
    const int32_t channels = values_.back().channels;
    Stage stage = stage_of(Stage::Kind::kFloatPool);
    stage.float_pool = FloatPool{window, channels, Layout::kNCHW, average, true};
    push(std::move(stage), Value{0, channels, window.out_h, window.out_w});
    return {};
}

std::string Engine::add_flatten() {
    Value& v = values_.back();
    if (v.planes) return "bits are flattened by the window of the stage that follows";
    v = Value{0, v.channels * v.height * v.width, 1, 1};
    return {};
}

void Engine::lay_out() {
    int64_t per_image = 1;
    for (size_t i = 1; i < values_.size(); ++i) per_image += value_bytes(values_[i], 1);
    chunk_ = static_cast<int32_t>(std::clamp<int64_t>(kArenaTarget / per_image, 1, kMaxChunk));
    int64_t offset = 0;
    for (size_t i = 1; i < values_.size(); ++i) {
        Value& v = values_[i];
        const bool result = i + 1 == values_.size();
        v.offset = offset;
        v.bytes = result && !v.planes ? 0 : value_bytes(v, chunk_);
        offset += v.bytes;
    }
    for (const Stage& stage : stages_)
        scratch_bytes_ = std::max({scratch_bytes_, stage.bits.view.scratch_bytes,
                                   stage.floats.view.scratch_bytes});
    scratch_bytes_ = round_up(scratch_bytes_, 64);
    scratch_offset_ = round_up(offset, 64);
    arena_bytes_ = scratch_offset_ + scratch_bytes_ * threads_;
}

std::string Engine::seal(int threads, int arenas) {
    threads_ = std::max(1, threads);
    pool_ = std::make_unique<ThreadPool>(threads_);
    for (Stage& stage : stages_)
        if (!stage.mask.empty()) stage.bit_pool.all_mask = stage.mask.data();
    lay_out();
    if (arena_bytes_ > kMaxArenas)
        return "room for its values: they take " + std::to_string(arena_bytes_ >> 20) +
               " MiB a call, of " + std::to_string(kMaxArenas >> 20) + " MiB at most";
    const auto affordable = static_cast<int>(kMaxArenas / std::max<int64_t>(1, arena_bytes_));
    for (int i = 0; i < std::clamp(arenas, 1, affordable); ++i) {
        arenas_.emplace_back(static_cast<size_t>(arena_bytes_));
        // Rings are written here once; kernels write interiors only.
        for (const Value& v : values_)
            if (v.planes && v.bytes)
                fill_bit_plane(arenas_.back().as<uint8_t>() + v.offset,
                               bit_plane_bytes(chunk_, v.height, v.width, v.channels, v.ring_h,
                                               v.ring_w, v.planes),
                               v.channels, v.pad_value);
        free_arenas_.push_back(i);
    }
    return {};
}

BitImage Engine::image_of(const Value& v, uint8_t* arena) const {
    return bit_plane_at(arena + v.offset, chunk_, v.height, v.width, v.channels, v.ring_h, v.ring_w,
                        v.planes);
}

int64_t Engine::items_of(const Stage& stage, const Value& in, const Value& out, int32_t images) const {
    switch (stage.kind) {
        case Stage::Kind::kPack:
        case Stage::Kind::kPackLevels:
            return images * ceil_div(int64_t{in.height} * in.width, kPackPixels);
        case Stage::Kind::kUnpack: return int64_t{images} * in.channels * in.height;
        case Stage::Kind::kPad: return int64_t{images} * out.channels * out.height;
        case Stage::Kind::kRelu: return images * elements(in);
        case Stage::Kind::kBitLayer: return bit_layer_items(stage.bits.view, images);
        case Stage::Kind::kBitPool: return int64_t{images} * out.height;
        case Stage::Kind::kFloatLayer: return float_layer_items(stage.floats.view, images);
        case Stage::Kind::kFloatPool: return int64_t{images} * in.channels;
    }
    return 0;
}

void Engine::body(void* context, int slot, int64_t begin, int64_t end) {
    const Call& call = *static_cast<Call*>(context);
    const KernelTable& table = call.table;
    void* scratch = call.scratch + slot * call.scratch_bytes;
    const Results out{nullptr, call.out_values, nullptr, call.out_bits, Layout::kNCHW};
    switch (call.stage.kind) {
        case Stage::Kind::kPack:
            return table.pack(call.in_values, Layout::kNCHW, call.in.channels, call.in.height,
                              call.in.width, call.out_bits, begin, end);
        case Stage::Kind::kPackLevels:
            return table.pack_levels(call.stage.levels.view, call.in_values, call.out_bits, begin, end);
        case Stage::Kind::kUnpack:
            return unpack(call.in, call.in_bits, call.stage.table.data(), call.out_values, begin, end);
        case Stage::Kind::kPad:
            return pad(call.stage, call.in, call.out, call.in_values, call.out_values, begin, end);
        case Stage::Kind::kRelu: return relu(call.in_values, call.out_values, begin, end);
        case Stage::Kind::kBitLayer: {
            BitImage in = call.in_bits;
            in.images = call.images;
            return table.bit_layer(call.stage.bits.view, in, out, scratch, begin, end);
        }
        case Stage::Kind::kBitPool:
            return table.bit_pool(call.stage.bit_pool, call.in_bits, call.out_bits, begin, end);
        case Stage::Kind::kFloatLayer:
            return table.float_layer(call.stage.floats.view, call.in_values, call.images, out, scratch,
                                     begin, end);
        case Stage::Kind::kFloatPool:
            return table.float_pool(call.stage.float_pool, call.in_values, call.out_values, begin, end);
    }
}

void Engine::run_stage(size_t i, uint8_t* arena, const float* x, float* y, int32_t images) {
    const Value &in = values_[i], &out = values_[i + 1];
    Call call{table_, stages_[i], in, out, {}, {}, x, nullptr, images, arena + scratch_offset_,
              scratch_bytes_};
    if (in.planes) call.in_bits = image_of(in, arena);
    else if (i > 0) call.in_values = reinterpret_cast<float*>(arena + in.offset);
    if (out.planes) call.out_bits = image_of(out, arena);
    else call.out_values = i + 1 == stages_.size() ? y : reinterpret_cast<float*>(arena + out.offset);
    pool_->run(&Engine::body, &call, items_of(stages_[i], in, out, images));
}

int Engine::take_arena() {
    std::unique_lock<std::mutex> lock(mutex_);
    released_.wait(lock, [this] { return !free_arenas_.empty(); });
    const int index = free_arenas_.back();
    free_arenas_.pop_back();
    return index;
}

void Engine::give_arena(int index) {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        free_arenas_.push_back(index);
    }
    released_.notify_one();
}

std::vector<double> Engine::time_stages(const float* x, float* y, int32_t images, int rounds) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> least(stages_.size(), 1e300);
    const int32_t count = std::min(images, chunk_);
    const int index = take_arena();
    uint8_t* arena = arenas_[static_cast<size_t>(index)].as<uint8_t>();
    for (int round = 0; round < rounds; ++round)
        for (size_t i = 0; i < stages_.size(); ++i) {
            const auto start = Clock::now();
            run_stage(i, arena, x, y, count);
            const std::chrono::duration<double, std::nano> took = Clock::now() - start;
            least[i] = std::min(least[i], took.count());
        }
    give_arena(index);
    return least;
}

bool Engine::run(const float* x, float* y, int64_t images) {
    if (!all_finite(x, images * input_elements())) return false;
    const int index = take_arena();
    uint8_t* arena = arenas_[static_cast<size_t>(index)].as<uint8_t>();
    const int64_t in = input_elements(), out = output_elements();
    // A network that only flattens has no stage that would write its result.
    if (stages_.empty()) std::copy(x, x + images * in, y);
    for (int64_t done = 0; done < images; done += chunk_) {
        const auto count = static_cast<int32_t>(std::min<int64_t>(chunk_, images - done));
        for (size_t i = 0; i < stages_.size(); ++i)
            run_stage(i, arena, x + done * in, y + done * out, count);
    }
    give_arena(index);
    return true;
}

}  // namespace coarsegrad

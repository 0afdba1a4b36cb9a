// Times of single kernels on prepared layers, the best of many runs, for benchmarks/kernels.py.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "bind_testing.h"
#include "dispatch.h"
#include "prepare.h"
#include "threads.h"

namespace nb = nanobind;
using namespace coarsegrad;

namespace {

const KernelTable& table_named(const std::string& name) {
    const TableChoice choice = table_for(name.c_str());
    if (!choice.table) throw nb::value_error(choice.error);
    return *choice.table;
}

template <class Run>
double best_seconds(int repeats, const Run& run) {
    double best = 1e9;
    for (int i = 0; i < repeats; ++i) {
        const auto start = std::chrono::steady_clock::now();
        run();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        best = std::min(best, took.count());
    }
    return best;
}

uint32_t next_random(uint32_t& state) { return state = state * 1664525u + 1013904223u; }

void fill_random(const Bytes& bytes) {
    uint32_t state = 1;
    for (size_t i = 0; i < bytes.size(); ++i)
        bytes.as<uint8_t>()[i] = static_cast<uint8_t>(next_random(state) >> 24);
}

// Seconds of one square-kernel layer on random bits or integers of `planes` bits, which it also gives;
// `finish` is sums, bits or floats.
double time_bit_layer(const std::string& target, int32_t images, int32_t size, int32_t in_channels,
                      int32_t out_channels, int32_t kernel, int32_t stride, int32_t pad,
                      const std::string& finish, int threads, int repeats, int32_t planes,
                      bool ternary, int32_t weight_planes) {
    const KernelTable& table = table_named(target);
    BitLayerSpec spec;
    spec.planes = spec.out_planes = planes;
    if (planes > 1) spec.low = 0;
    spec.window = with_output_size(
        {size, size, 0, 0, kernel, kernel, stride, stride, 1, 1, pad, pad}, pad, pad);
    spec.in_channels = in_channels;
    spec.out_channels = out_channels;
    spec.weight_stride = int64_t{in_channels} * kernel * kernel;
    spec.weight_planes = weight_planes;
    if (weight_planes > 1) spec.low = 0;
    Bytes weights(static_cast<size_t>(weight_planes * weight_plane_bytes(spec) + 1));
    fill_random(weights);
    spec.weights = weights.as<uint8_t>();
    Bytes mask(weights.size());
    fill_random(mask);
    if (ternary) spec.mask = mask.as<uint8_t>();
    spec.finish = finish == "sums"   ? Finish::kSums
                  : finish == "bits" ? Finish::kThreshold
                                     : Finish::kAffine;
    std::vector<int32_t> thresholds;
    for (int32_t level = 0; level < (1 << planes) - 1; ++level)
        thresholds.insert(thresholds.end(), static_cast<size_t>(out_channels), 1 + 20 * level);
    spec.thresholds = thresholds.data();
    PreparedBits layer;
    const std::string reason = prepare_bits(table, spec, layer);
    if (!reason.empty()) throw nb::value_error(reason.c_str());
    const Window& w = layer.view.window;
    // Random spare bits make wrong sums, which take as long.
    BitPlane in = make_bit_plane(images, size, size, in_channels, pad, pad, planes);
    fill_random(in.memory);
    BitPlane bits = make_bit_plane(images, w.out_h, w.out_w, out_channels, 1, 1, planes);
    const auto cells = static_cast<size_t>(images) * static_cast<size_t>(w.out_h * w.out_w) *
                       static_cast<size_t>(out_channels);
    Bytes sums(cells * 4), values(cells * 4);
    const auto scratch_bytes = layer.view.scratch_bytes;
    Bytes scratch(static_cast<size_t>(scratch_bytes * threads));
    struct Job {
        const KernelTable& table;
        const BitLayer& layer;
        const BitImage& in;
        Results out;
        uint8_t* scratch;
    } job{table, layer.view, in.view,
          {sums.as<int32_t>(), values.as<float>(), nullptr, {}, Layout::kNHWC},
          scratch.as<uint8_t>()};
    if (finish == "bits") job.out.bits = bits.view;
    ThreadPool pool(threads);
    return best_seconds(repeats, [&] {
        pool.run(
            [](void* context, int slot, int64_t begin, int64_t end) {
                Job& j = *static_cast<Job*>(context);
                j.table.bit_layer(j.layer, j.in, j.out, j.scratch + slot * j.layer.scratch_bytes,
                                  begin, end);
            },
            &job, bit_layer_items(layer.view, images));
    });
}

double time_float_layer(const std::string& target, int32_t images, int32_t size, int32_t in_channels,
                        int32_t out_channels, int32_t kernel, int32_t stride, int32_t pad,
                        int repeats) {
    const KernelTable& table = table_named(target);
    FloatLayerSpec spec;
    spec.window = with_output_size(
        {size, size, 0, 0, kernel, kernel, stride, stride, 1, 1, pad, pad}, pad, pad);
    spec.in_channels = in_channels;
    spec.out_channels = out_channels;
    const std::vector<float> weights(static_cast<size_t>(in_channels * out_channels * kernel * kernel), 1);
    spec.weights = weights.data();
    PreparedFloats layer;
    const std::string reason = prepare_floats(spec, layer);
    if (!reason.empty()) throw nb::value_error(reason.c_str());
    const Window& w = layer.view.window;
    const std::vector<float> x(static_cast<size_t>(images * in_channels * size * size), 0.5f);
    Bytes values(static_cast<size_t>(images * out_channels * w.out_h * w.out_w) * 4);
    Bytes scratch(static_cast<size_t>(layer.view.scratch_bytes));
    const Results out{nullptr, values.as<float>(), nullptr, {}, Layout::kNCHW};
    return best_seconds(repeats, [&] {
        table.float_layer(layer.view, x.data(), images, out, scratch.as<void>(), 0,
                          float_layer_items(layer.view, images));
    });
}

double time_pack(const std::string& target, int32_t size, int32_t channels, bool nchw, int repeats) {
    const KernelTable& table = table_named(target);
    std::vector<float> x(static_cast<size_t>(size * size * channels));
    uint32_t state = 1;
    for (float& value : x) value = static_cast<float>(static_cast<int32_t>(next_random(state)));
    BitPlane out = make_bit_plane(1, size, size, channels, 1, 1);
    return best_seconds(repeats, [&] {
        table.pack(x.data(), nchw ? Layout::kNCHW : Layout::kNHWC, channels, size, size, out.view, 0,
                   (int64_t{size} * size + kPackPixels - 1) / kPackPixels);
    });
}

constexpr int kStages = 7;
const char* const kStageNames[kStages] = {"conv1", "pool1", "conv2", "pool2",
                                          "conv3", "dense1", "dense2"};

Window square(int32_t size, int32_t kernel, int32_t stride) {
    return with_output_size({size, size, 0, 0, kernel, kernel, stride, stride, 1, 1, 0, 0}, 0, 0);
}

// The stages of coarsegrad.models.small_cnn as an executor runs them, on random weights and pixels.
struct SmallCnn {
    const KernelTable& table;
    int32_t images;
    Bytes weights{1 << 14};
    std::vector<float> signs, floats, values;
    std::vector<int32_t> thresholds;
    PreparedFloats conv1;
    PreparedBits conv2, conv3, dense1, dense2;
    BitPool pool1, pool2;
    BitPlane plane26, plane13, plane11, plane5, plane3, plane1;
    Bytes scratch;

    SmallCnn(const KernelTable& table, int32_t images) : table(table), images(images) {
        const auto n = static_cast<size_t>(images);
        fill_random(weights);
        uint32_t state = 1;
        for (int i = 0; i < 288; ++i) signs.push_back(next_random(state) >> 31 ? 1.0f : -1.0f);
        for (size_t i = 0; i < n * 784; ++i)
            floats.push_back((static_cast<float>(next_random(state) >> 24) - 128.0f) / 128.0f);
        thresholds.assign(64, 1);
        values.resize(n * 10);
        pool1 = {square(26, 2, 2), 1, weights.as<uint32_t>(), 32};
        pool2 = {square(11, 2, 2), 2, weights.as<uint32_t>(), 64};
        plane26 = make_bit_plane(images, 26, 26, 32, 0, 0);
        plane13 = make_bit_plane(images, 13, 13, 32, 0, 0);
        plane11 = make_bit_plane(images, 11, 11, 64, 0, 0);
        plane5 = make_bit_plane(images, 5, 5, 64, 0, 0);
        plane3 = make_bit_plane(images, 3, 3, 64, 0, 0);
        plane1 = make_bit_plane(images, 1, 1, 64, 0, 0);
        prepare();
        int64_t most = conv1.view.scratch_bytes;
        for (const PreparedBits* layer : {&conv2, &conv3, &dense1, &dense2})
            most = std::max(most, layer->view.scratch_bytes);
        scratch = Bytes(static_cast<size_t>(most));
    }

    void prepare() {
        const std::vector<float> zeros(32);
        FloatLayerSpec first;
        first.window = square(28, 3, 1);
        first.in_channels = 1;
        first.out_channels = 32;
        first.weights = signs.data();
        first.finish = Finish::kThreshold;
        first.thresholds = zeros.data();
        prepare_floats(first, conv1);
        prepare_layer(conv2, square(13, 3, 1), 32, 64, Finish::kThreshold);
        prepare_layer(conv3, square(5, 3, 1), 64, 64, Finish::kThreshold);
        prepare_layer(dense1, square(3, 3, 1), 64, 64, Finish::kThreshold);
        prepare_layer(dense2, square(1, 1, 1), 64, 10, Finish::kAffine);
    }

    void prepare_layer(PreparedBits& layer, Window window, int32_t in, int32_t out, Finish finish) {
        BitLayerSpec spec;
        spec.window = window;
        spec.in_channels = in;
        spec.out_channels = out;
        spec.weights = weights.as<uint8_t>();
        spec.weight_stride = int64_t{in} * window.kernel_h * window.kernel_w;
        spec.finish = finish;
        spec.thresholds = thresholds.data();
        prepare_bits(table, spec, layer);
    }

    void bits(const PreparedBits& layer, const BitPlane& in, const BitPlane& out) {
        table.bit_layer(layer.view, in.view, {nullptr, nullptr, nullptr, out.view, Layout::kNHWC},
                        scratch.as<void>(), 0, bit_layer_items(layer.view, images));
    }

    void run(int stage) {
        if (stage == 0)
            table.float_layer(conv1.view, floats.data(), images,
                              {nullptr, nullptr, nullptr, plane26.view, Layout::kNHWC},
                              scratch.as<void>(), 0, float_layer_items(conv1.view, images));
        if (stage == 1) table.bit_pool(pool1, plane26.view, plane13.view, 0, images * 13);
        if (stage == 2) bits(conv2, plane13, plane11);
        if (stage == 3) table.bit_pool(pool2, plane11.view, plane5.view, 0, images * 5);
        if (stage == 4) bits(conv3, plane5, plane3);
        if (stage == 5) bits(dense1, plane3, plane1);
        if (stage == 6)
            table.bit_layer(dense2.view, plane1.view,
                            {nullptr, values.data(), nullptr, {}, Layout::kNHWC}, scratch.as<void>(),
                            0, bit_layer_items(dense2.view, images));
    }
};

// Microseconds of every stage of small_cnn, of all in a row, and of preparing its layers.
nb::dict time_small_cnn(const std::string& target, int32_t images, int repeats) {
    SmallCnn net(table_named(target), images);
    nb::dict times;
    for (int stage = 0; stage < kStages; ++stage)
        times[kStageNames[stage]] = 1e6 * best_seconds(repeats, [&] { net.run(stage); });
    times["all"] = 1e6 * best_seconds(repeats, [&] {
        for (int stage = 0; stage < kStages; ++stage) net.run(stage);
    });
    times["prepare"] = 1e6 * best_seconds(std::max(repeats / 10, 1), [&] { net.prepare(); });
    return times;
}

// Milliseconds of preparing a dense layer of size x size.
double time_prepare_dense(const std::string& target, int32_t size, int repeats) {
    const KernelTable& table = table_named(target);
    BitLayerSpec spec;
    spec.window = square(1, 1, 1);
    spec.in_channels = spec.out_channels = size;
    spec.weight_stride = size;
    Bytes weights(static_cast<size_t>(size) * static_cast<size_t>(size) / 8);
    fill_random(weights);
    spec.weights = weights.as<uint8_t>();
    PreparedBits layer;
    return 1e3 * best_seconds(repeats, [&] { prepare_bits(table, spec, layer); });
}

// Multiply-accumulates per nanosecond of the target's instructions on registers only.
double ceiling(const std::string& target, int repeats) {
    const KernelTable& table = table_named(target);
    constexpr int64_t kRounds = 5000;
    int64_t done = 0;
    const double seconds = best_seconds(repeats, [&] { done = table.ceiling(kRounds); });
    return static_cast<double>(done) / seconds * 1e-9;
}

}  // namespace

void bind_timing(nb::module_ m) {
    m.def("time_bit_layer", time_bit_layer, nb::arg("target"), nb::arg("images"), nb::arg("size"),
          nb::arg("in_channels"), nb::arg("out_channels"), nb::arg("kernel"), nb::arg("stride"),
          nb::arg("pad"), nb::arg("finish"), nb::arg("threads") = 1, nb::arg("repeats") = 50,
          nb::arg("planes") = 1, nb::arg("ternary") = false, nb::arg("weight_planes") = 1);
    m.def("time_float_layer", time_float_layer, nb::arg("target"), nb::arg("images"),
          nb::arg("size"), nb::arg("in_channels"), nb::arg("out_channels"), nb::arg("kernel"),
          nb::arg("stride"), nb::arg("pad"), nb::arg("repeats") = 50);
    m.def("time_pack", time_pack, nb::arg("target"), nb::arg("size"), nb::arg("channels"),
          nb::arg("nchw"), nb::arg("repeats") = 50);
    m.def("time_small_cnn", time_small_cnn, nb::arg("target"), nb::arg("images"),
          nb::arg("repeats") = 2000);
    m.def("time_prepare_dense", time_prepare_dense, nb::arg("target"), nb::arg("size"),
          nb::arg("repeats") = 3);
    m.def("ceiling", ceiling, nb::arg("target"), nb::arg("repeats") = 50);
}

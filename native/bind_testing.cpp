// Runs one kernel on numpy arrays, with every buffer poisoned before use.
#include "bind_testing.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "dispatch.h"
#include "prepare.h"
#include "threads.h"

namespace nb = nanobind;
using namespace coarsegrad;

namespace {

using FloatsIn = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using IntsIn = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using BytesIn = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Two = std::pair<int32_t, int32_t>;

const KernelTable& table_named(const std::optional<std::string>& name) {
    const TableChoice choice = table_for(name ? name->c_str() : nullptr);
    if (!choice.table) throw nb::value_error(choice.error);
    return *choice.table;
}

template <class T>
nb::ndarray<nb::numpy, T> poisoned(std::initializer_list<size_t> shape) {
    size_t count = 1;
    for (size_t n : shape) count *= n;
    T* data = new T[count + 1];
    std::memset(data, 0xff, (count + 1) * sizeof(T));
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return nb::ndarray<nb::numpy, T>(data, shape, owner);
}

int32_t dim(const FloatsIn& array, int axis) { return static_cast<int32_t>(array.shape(axis)); }

// A bit image and how its bytes looked before the kernel wrote into it.
struct Plane {
    Bytes memory;
    BitImage view{};
    int32_t h, w;
    int64_t bytes;

    Plane(int32_t images, int32_t h, int32_t w, int32_t channels, Two ring, int32_t planes = 1)
        : memory(static_cast<size_t>(
              bit_plane_bytes(images, h, w, channels, ring.first, ring.second, planes))),
          h(h), w(w), bytes(static_cast<int64_t>(memory.size())) {
        std::memset(memory.as<uint8_t>(), 0xff, memory.size());
        view = bit_plane_at(memory.as<uint8_t>(), images, h, w, channels, ring.first, ring.second,
                            planes);
    }

    // Signs of x, or, if there are several planes, the digits of its integers, [n][h][w][c].
    void write(const KernelTable& table, const FloatsIn& x) const {
        const int32_t channels = dim(x, 3);
        std::vector<float> digits(x.data(), x.data() + x.size());
        BitImage plane = view;
        for (int32_t p = 0; p < view.planes; ++p, plane.origin += view.plane_pitch) {
            for (size_t i = 0; view.planes > 1 && i < digits.size(); ++i)
                digits[i] = static_cast<int>(x.data()[i]) >> (view.planes - 1 - p) & 1 ? 1.0f : -1.0f;
            table.pack(digits.data(), Layout::kNHWC, channels, h, w, plane, 0,
                       int64_t{view.images} * ((int64_t{h} * w + kPackPixels - 1) / kPackPixels));
        }
    }

    // Interior bytes (plane, image, row, column, byte), without the first for one plane, and whether
    // everything else still is 0xff.
    nb::tuple interior() const {
        const auto pitch = static_cast<size_t>(view.pixel_pitch);
        const auto n = static_cast<size_t>(view.images), rows = static_cast<size_t>(h),
                   columns = static_cast<size_t>(w), planes = static_cast<size_t>(view.planes);
        auto out = planes > 1 ? poisoned<uint8_t>({planes, n, rows, columns, pitch})
                              : poisoned<uint8_t>({n, rows, columns, pitch});
        uint8_t* to = out.data();
        for (int32_t i = 0; i < view.planes * view.images; ++i)
            for (int32_t row = 0; row < h; ++row, to += w * pitch) {
                uint8_t* from = view.origin + i * view.image_pitch + row * view.row_pitch;
                std::memcpy(to, from, w * pitch);
                std::memset(from, 0xff, w * pitch);
            }
        bool intact = true;
        for (int64_t i = 0; i < bytes; ++i) intact &= memory.as<uint8_t>()[i] == 0xff;
        return nb::make_tuple(out, intact);
    }
};

// Runs work items in `pieces` ranges, last range first, or by a pool.
template <class Run>
void in_pieces(int64_t items, int pieces, int threads, int64_t scratch_bytes, const Run& run) {
    const size_t slots = static_cast<size_t>(threads < 1 ? 1 : threads);
    Bytes scratch(static_cast<size_t>(scratch_bytes) * slots + 64);
    std::memset(scratch.as<uint8_t>(), 0xff, scratch.size());
    struct Job {
        const Run& run;
        uint8_t* scratch;
        int64_t scratch_bytes;
    } job{run, scratch.as<uint8_t>(), scratch_bytes};
    if (threads > 1) {
        ThreadPool pool(threads);
        pool.run(
            [](void* context, int slot, int64_t begin, int64_t end) {
                const Job& j = *static_cast<Job*>(context);
                j.run(j.scratch + slot * j.scratch_bytes, begin, end);
            },
            &job, items);
        return;
    }
    for (int i = pieces - 1; i >= 0; --i)
        run(scratch.as<uint8_t>(), items * i / pieces, items * (i + 1) / pieces);
}

Window window_of(int32_t h, int32_t w, Two kernel, Two stride, Two padding, Two dilation) {
    return with_output_size({h, w, 0, 0, kernel.first, kernel.second, stride.first, stride.second,
                             dilation.first, dilation.second, padding.first, padding.second},
                            padding.first, padding.second);
}

// Planes of the digits of integers, that of the highest first; a bit is 1 where the digit is 0.
std::vector<uint8_t> weight_digits(const FloatsIn& w, int32_t planes, bool odd) {
    const auto count = static_cast<int64_t>(w.size()), bytes = (count + 7) / 8;
    std::vector<uint8_t> bits(static_cast<size_t>(planes * bytes + 1));
    for (int64_t i = 0; i < count; ++i) {
        const auto value = static_cast<int32_t>(w.data()[i]);
        const int32_t digits = odd ? (value + (1 << planes) - 1) / 2 : value + (1 << (planes - 1));
        for (int32_t p = 0; p < planes; ++p)
            bits[static_cast<size_t>(p * bytes + i / 8)] |=
                static_cast<uint8_t>(!(digits >> (planes - 1 - p) & 1) << (i % 8));
    }
    return bits;
}

// A bit for each weight that is as `is` says, which starts in the first byte.
template <class Is>
Bytes packed_weights(const FloatsIn& w, const Is& is) {
    const auto count = static_cast<int64_t>(w.size());
    Bytes bits(static_cast<size_t>(count / 8 + 1));
    for (int64_t i = 0; i < count; ++i)
        bits.as<uint8_t>()[i / 8] |= static_cast<uint8_t>(is(w.data()[i]) << (i % 8));
    return bits;
}

template <class Array>
auto pointer(const std::optional<Array>& array) -> decltype(array->data()) {
    return array ? array->data() : nullptr;
}

void refuse(const std::string& reason) {
    if (!reason.empty()) throw nb::value_error(reason.c_str());
}

nb::dict bit_layer(std::optional<std::string> target, FloatsIn x, FloatsIn w, Two stride, Two padding,
                   Two dilation, int32_t groups, int32_t pad_value, int32_t low,
                   std::optional<IntsIn> thresholds, std::optional<BytesIn> flips,
                   std::optional<FloatsIn> scale, std::optional<FloatsIn> shift,
                   std::optional<FloatsIn> residual, bool nchw, bool signs, int pieces, int threads,
                   int32_t planes, int32_t out_planes, int32_t weight_planes, bool odd_weights) {
    const KernelTable& table = table_named(target);
    const int32_t n = dim(x, 0), h = dim(x, 1), v = dim(x, 2), c = dim(x, 3), o = dim(w, 0);
    BitLayerSpec spec;
    spec.window = window_of(h, v, {dim(w, 2), dim(w, 3)}, stride, padding, dilation);
    spec.in_channels = c;
    spec.out_channels = o;
    spec.groups = groups;
    spec.pad_value = pad_value;
    spec.low = low;
    spec.planes = planes;
    spec.out_planes = out_planes;
    const Bytes weights = packed_weights(w, [](float x) { return x < 0; });
    const Bytes mask = packed_weights(w, [](float x) { return x != 0; });
    spec.weights = weights.as<uint8_t>();
    std::vector<uint8_t> digits;
    if (weight_planes > 1) digits = weight_digits(w, weight_planes, odd_weights);
    spec.weight_planes = weight_planes;
    spec.odd_weights = odd_weights;
    if (weight_planes > 1) spec.weights = digits.data();
    else if (std::count(w.data(), w.data() + w.size(), 0.0f)) spec.mask = mask.as<uint8_t>();
    spec.weight_stride = static_cast<int64_t>(w.size()) / o;
    spec.finish = thresholds ? Finish::kThreshold : scale ? Finish::kAffine : Finish::kSums;
    spec.thresholds = pointer(thresholds);
    spec.flips = pointer(flips);
    spec.scale = pointer(scale);
    spec.shift = pointer(shift);
    PreparedBits layer;
    refuse(prepare_bits(table, spec, layer));
    const Window& win = layer.view.window;

    Plane in(n, h, v, c, padding, planes);
    fill_bit_plane(in.memory.as<uint8_t>(), in.bytes, c, ring_value(spec));
    in.write(table, x);
    Plane bits(n, win.out_h, win.out_w, o, {1, 1}, out_planes);
    const auto un = static_cast<size_t>(n), uh = static_cast<size_t>(win.out_h),
               uw = static_cast<size_t>(win.out_w), uo = static_cast<size_t>(o);
    auto sums = poisoned<int32_t>({un, uh, uw, uo});
    auto values = nchw ? poisoned<float>({un, uo, uh, uw}) : poisoned<float>({un, uh, uw, uo});
    Results out{sums.data(), values.data(), pointer(residual), {}, nchw ? Layout::kNCHW : Layout::kNHWC};
    if (thresholds || signs) out.bits = bits.view;
    const auto run = [&](void* scratch, int64_t begin, int64_t end) {
        table.bit_layer(layer.view, in.view, out, scratch, begin, end);
    };
    in_pieces(bit_layer_items(layer.view, n), pieces, threads, layer.view.scratch_bytes, run);
    nb::dict result;
    result["by_tables"] = layer.view.tables.entries != nullptr;
    if (spec.finish == Finish::kSums) result["sums"] = sums;
    if (spec.finish == Finish::kAffine) result["values"] = values;
    if (out.bits.origin) result["bits"] = bits.interior();
    return result;
}

nb::tuple pack(std::optional<std::string> target, FloatsIn x, bool nchw, Two ring, int pieces) {
    const KernelTable& table = table_named(target);
    const int32_t n = dim(x, 0), h = dim(x, nchw ? 2 : 1), w = dim(x, nchw ? 3 : 2),
                  c = dim(x, nchw ? 1 : 3);
    Plane out(n, h, w, c, ring);
    const int64_t items = int64_t{n} * ((int64_t{h} * w + kPackPixels - 1) / kPackPixels);
    in_pieces(items, pieces, 1, 0, [&](void*, int64_t begin, int64_t end) {
        table.pack(x.data(), nchw ? Layout::kNCHW : Layout::kNHWC, c, h, w, out.view, begin, end);
    });
    return out.interior();
}

nb::tuple pack_levels(std::optional<std::string> target, FloatsIn x, FloatsIn thresholds,
                      std::optional<BytesIn> flips, int32_t planes, Two ring, int pieces) {
    const KernelTable& table = table_named(target);
    const int32_t n = dim(x, 0), c = dim(x, 1), h = dim(x, 2), w = dim(x, 3);
    const PreparedLevels levels = prepare_levels(c, h, w, planes, thresholds.data(), pointer(flips));
    Plane out(n, h, w, c, ring, planes);
    const int64_t items = int64_t{n} * ((int64_t{h} * w + kPackPixels - 1) / kPackPixels);
    in_pieces(items, pieces, 1, 0, [&](void*, int64_t begin, int64_t end) {
        table.pack_levels(levels.view, x.data(), out.view, begin, end);
    });
    return out.interior();
}

nb::tuple bit_pool(std::optional<std::string> target, FloatsIn x, Two kernel, Two stride, Two padding,
                   Two dilation, std::optional<BytesIn> all_mask, int pieces, int32_t planes) {
    const KernelTable& table = table_named(target);
    const int32_t n = dim(x, 0), h = dim(x, 1), w = dim(x, 2), c = dim(x, 3);
    BitPool pool{window_of(h, w, kernel, stride, padding, dilation), (c + 31) / 32, nullptr, c};
    Bytes mask(static_cast<size_t>(pool.words) * 4);
    for (int32_t i = 0; all_mask && i < c; ++i)
        mask.as<uint32_t>()[i / 32] |= static_cast<uint32_t>(all_mask->data()[i] != 0) << (i % 32);
    if (all_mask) pool.all_mask = mask.as<uint32_t>();
    Plane in(n, h, w, c, {0, 0}, planes);
    in.write(table, x);
    Plane out(n, pool.window.out_h, pool.window.out_w, c, {1, 1}, planes);
    in_pieces(int64_t{n} * pool.window.out_h, pieces, 1, 0, [&](void*, int64_t begin, int64_t end) {
        table.bit_pool(pool, in.view, out.view, begin, end);
    });
    return out.interior();
}

nb::dict float_layer(std::optional<std::string> target, FloatsIn x, FloatsIn w, Two stride,
                     Two padding, Two dilation, int32_t groups, std::optional<FloatsIn> thresholds,
                     std::optional<BytesIn> flips, std::optional<FloatsIn> scale,
                     std::optional<FloatsIn> shift, bool nchw, int pieces) {
    const KernelTable& table = table_named(target);
    const int32_t n = dim(x, 0), c = dim(x, 1), h = dim(x, 2), v = dim(x, 3), o = dim(w, 0);
    FloatLayerSpec spec;
    spec.window = window_of(h, v, {dim(w, 2), dim(w, 3)}, stride, padding, dilation);
    spec.in_channels = c;
    spec.out_channels = o;
    spec.groups = groups;
    spec.weights = w.data();
    spec.finish = thresholds ? Finish::kThreshold : Finish::kAffine;
    spec.thresholds = pointer(thresholds);
    spec.flips = pointer(flips);
    spec.scale = pointer(scale);
    spec.shift = pointer(shift);
    PreparedFloats layer;
    refuse(prepare_floats(spec, layer));
    const Window& win = layer.view.window;
    Plane bits(n, win.out_h, win.out_w, o, {1, 1});
    const auto un = static_cast<size_t>(n), uh = static_cast<size_t>(win.out_h),
               uw = static_cast<size_t>(win.out_w), uo = static_cast<size_t>(o);
    auto values = nchw ? poisoned<float>({un, uo, uh, uw}) : poisoned<float>({un, uh, uw, uo});
    Results out{nullptr, values.data(), nullptr, bits.view, nchw ? Layout::kNCHW : Layout::kNHWC};
    in_pieces(float_layer_items(layer.view, n), pieces, 1, layer.view.scratch_bytes,
              [&](void* scratch, int64_t begin, int64_t end) {
                  table.float_layer(layer.view, x.data(), n, out, scratch, begin, end);
              });
    nb::dict result;
    if (thresholds) result["bits"] = bits.interior();
    else result["values"] = values;
    return result;
}

nb::ndarray<nb::numpy, float> float_pool(std::optional<std::string> target, FloatsIn x, Two kernel,
                                         Two stride, Two padding, Two dilation, bool nchw,
                                         bool average, bool count_padding, int pieces) {
    const KernelTable& table = table_named(target);
    const int32_t n = dim(x, 0), h = dim(x, nchw ? 2 : 1), w = dim(x, nchw ? 3 : 2),
                  c = dim(x, nchw ? 1 : 3);
    const FloatPool pool{window_of(h, w, kernel, stride, padding, dilation), c,
                         nchw ? Layout::kNCHW : Layout::kNHWC, average, count_padding};
    const auto un = static_cast<size_t>(n), uh = static_cast<size_t>(pool.window.out_h),
               uw = static_cast<size_t>(pool.window.out_w), uc = static_cast<size_t>(c);
    auto out = nchw ? poisoned<float>({un, uc, uh, uw}) : poisoned<float>({un, uh, uw, uc});
    in_pieces(int64_t{n} * (nchw ? c : pool.window.out_h), pieces, 1, 0,
              [&](void*, int64_t begin, int64_t end) {
                  table.float_pool(pool, x.data(), out.data(), begin, end);
              });
    return out;
}

// How often a pool handed out each work item; one more entry counts what lay outside.
nb::ndarray<nb::numpy, int32_t> pool_visits(int threads, int64_t items, int rounds) {
    auto visits = poisoned<int32_t>({static_cast<size_t>(items) + 1});
    std::memset(visits.data(), 0, visits.nbytes());
    struct Job {
        int32_t* visits;
        int64_t items;
    } job{visits.data(), items};
    ThreadPool pool(threads);
    for (int round = 0; round < rounds; ++round)
        pool.run(
            [](void* context, int, int64_t begin, int64_t end) {
                const Job& j = *static_cast<Job*>(context);
                for (int64_t i = begin; i < end; ++i)
                    __atomic_fetch_add(j.visits + (i < j.items ? i : j.items), 1, __ATOMIC_RELAXED);
            },
            &job, items);
    return visits;
}

}  // namespace

void bind_testing(nb::module_ m) {
    const Two one{1, 1}, none{0, 0};
    m.def("bit_layer", bit_layer, nb::arg("target").none(), nb::arg("x"), nb::arg("w"),
          nb::arg("stride") = one, nb::arg("padding") = none, nb::arg("dilation") = one,
          nb::arg("groups") = 1, nb::arg("pad_value") = 0, nb::arg("low") = -1,
          nb::arg("thresholds") = nb::none(),
          nb::arg("flips") = nb::none(), nb::arg("scale") = nb::none(), nb::arg("shift") = nb::none(),
          nb::arg("residual") = nb::none(), nb::arg("nchw") = false, nb::arg("signs") = false,
          nb::arg("pieces") = 1, nb::arg("threads") = 1, nb::arg("planes") = 1,
          nb::arg("out_planes") = 1, nb::arg("weight_planes") = 1, nb::arg("odd_weights") = false);
    m.def("pack_levels", pack_levels, nb::arg("target").none(), nb::arg("x"), nb::arg("thresholds"),
          nb::arg("flips").none(), nb::arg("planes"), nb::arg("ring") = one, nb::arg("pieces") = 1);
    m.def("pack", pack, nb::arg("target").none(), nb::arg("x"), nb::arg("nchw") = false,
          nb::arg("ring") = one, nb::arg("pieces") = 1);
    m.def("bit_pool", bit_pool, nb::arg("target").none(), nb::arg("x"), nb::arg("kernel"),
          nb::arg("stride"), nb::arg("padding") = none, nb::arg("dilation") = one,
          nb::arg("all_mask") = nb::none(), nb::arg("pieces") = 1, nb::arg("planes") = 1);
    m.def("float_layer", float_layer, nb::arg("target").none(), nb::arg("x"), nb::arg("w"),
          nb::arg("stride") = one, nb::arg("padding") = none, nb::arg("dilation") = one,
          nb::arg("groups") = 1, nb::arg("thresholds") = nb::none(), nb::arg("flips") = nb::none(),
          nb::arg("scale") = nb::none(), nb::arg("shift") = nb::none(), nb::arg("nchw") = false,
          nb::arg("pieces") = 1);
    m.def("float_pool", float_pool, nb::arg("target").none(), nb::arg("x"), nb::arg("kernel"),
          nb::arg("stride"), nb::arg("padding") = none, nb::arg("dilation") = one,
          nb::arg("nchw") = true, nb::arg("average") = false, nb::arg("count_padding") = true,
          nb::arg("pieces") = 1);
    m.def("pool_visits", pool_visits, nb::arg("threads"), nb::arg("items"), nb::arg("rounds"));
    bind_timing(m);
}

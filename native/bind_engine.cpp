// The executor's door to Python: stages are added one by one, then the engine is sealed and run.
#include "bind_engine.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <tuple>

#include "dispatch.h"
#include "engine.h"

namespace nb = nanobind;
using namespace coarsegrad;

namespace {

template <class T>
using Row = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using MaybeRow = std::optional<Row<T>>;
using Batch = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Room = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
// kernel, stride, padding before, padding after, dilation; each (vertical, horizontal)
using Two = std::tuple<int32_t, int32_t>;
using Geometry = std::tuple<Two, Two, Two, Two, Two>;

Window window_of(const Engine& engine, const Geometry& g) {
    const auto& [kernel, stride, before, after, dilation] = g;
    const Value& in = engine.current();
    const auto& [kh, kw] = kernel;
    const auto& [sh, sw] = stride;
    const auto& [ph, pw] = before;
    const auto& [dh, dw] = dilation;
    return with_output_size({in.height, in.width, 0, 0, kh, kw, sh, sw, dh, dw, ph, pw},
                            std::get<0>(after), std::get<1>(after));
}

template <class T>
const T* pointer(const MaybeRow<T>& row, int64_t least, const char* what) {
    if (!row) return nullptr;
    if (static_cast<int64_t>(row->size()) < least) throw nb::value_error(what);
    return row->data();
}

void refuse(const std::string& reason) {
    if (!reason.empty()) throw nb::value_error(reason.c_str());
}

const KernelTable& table_named(const std::optional<std::string>& name) {
    const TableChoice choice = table_for(name ? name->c_str() : nullptr);
    if (!choice.table) throw nb::value_error(choice.error);
    return *choice.table;
}

// Thresholds of a channel that make an integer of so many bits.
int64_t limits_of(int32_t bits) {
    if (bits < 1 || bits > kMaxPlanes) throw nb::value_error("integers have 1 to 8 bits");
    return (int64_t{1} << bits) - 1;
}

void add_pack_levels(Engine& engine, int32_t bits, Row<float> thresholds, MaybeRow<uint8_t> flips) {
    const int64_t channels = engine.current().channels;
    if (static_cast<int64_t>(thresholds.size()) < limits_of(bits) * channels)
        throw nb::value_error("too few thresholds");
    refuse(engine.add_pack_levels(bits, thresholds.data(), pointer(flips, channels, "too few flips")));
}

void add_bit_layer(Engine& engine, const Geometry& geometry, int32_t out, int32_t groups, int32_t pad,
                   int32_t low, Row<uint8_t> weights, int32_t weight_bits, bool odd_weights,
                   MaybeRow<uint8_t> mask, MaybeRow<int32_t> thresholds, int32_t bits, MaybeRow<uint8_t> flips,
                   MaybeRow<float> scale, MaybeRow<float> shift) {
    BitLayerSpec spec;
    spec.window = window_of(engine, geometry);
    spec.in_channels = engine.current().channels;
    spec.out_channels = out;
    spec.groups = groups;
    spec.pad_value = pad;
    spec.low = low;
    spec.weight_stride = int64_t{spec.in_channels} / groups * spec.window.kernel_h * spec.window.kernel_w;
    spec.weight_planes = weight_bits;
    spec.odd_weights = odd_weights;
    const int64_t bytes = weight_plane_bytes(spec);
    if (weight_bits < 1 || weight_bits > kMaxPlanes) throw nb::value_error("weights have 1 to 8 bits");
    if (static_cast<int64_t>(weights.size()) < bytes * weight_bits) throw nb::value_error("too few weights");
    spec.weights = weights.data();
    spec.mask = pointer(mask, bytes, "too short a mask");
    spec.finish = thresholds ? Finish::kThreshold : Finish::kAffine;
    spec.thresholds = pointer(thresholds, limits_of(bits) * out, "too few thresholds");
    spec.out_planes = bits;
    spec.flips = pointer(flips, out, "too few flips");
    spec.scale = pointer(scale, out, "too few scales");
    spec.shift = pointer(shift, out, "too few shifts");
    refuse(engine.add_bit_layer(spec));
}

void add_float_layer(Engine& engine, const Geometry& geometry, int32_t out, int32_t groups,
                     Row<float> weights, MaybeRow<float> thresholds, MaybeRow<uint8_t> flips,
                     MaybeRow<float> scale, MaybeRow<float> shift) {
    FloatLayerSpec spec;
    spec.window = window_of(engine, geometry);
    spec.in_channels = engine.current().channels;
    spec.out_channels = out;
    spec.groups = groups;
    const int64_t row = int64_t{spec.in_channels} / groups * spec.window.kernel_h * spec.window.kernel_w;
    if (static_cast<int64_t>(weights.size()) < row * out) throw nb::value_error("too few weights");
    spec.weights = weights.data();
    spec.finish = thresholds ? Finish::kThreshold : Finish::kAffine;
    spec.thresholds = pointer(thresholds, out, "too few thresholds");
    spec.flips = pointer(flips, out, "too few flips");
    spec.scale = pointer(scale, out, "too few scales");
    spec.shift = pointer(shift, out, "too few shifts");
    refuse(engine.add_float_layer(spec));
}

int64_t checked_images(const Engine& engine, const Batch& x, const Room& y) {
    const int64_t images = x.ndim() ? static_cast<int64_t>(x.shape(0)) : 0;
    if (y.ndim() < 1 || static_cast<int64_t>(y.shape(0)) != images ||
        static_cast<int64_t>(y.size()) != images * engine.output_elements() ||
        static_cast<int64_t>(x.size()) != images * engine.input_elements())
        throw nb::value_error("x and y need as many samples, of the network's sizes");
    return images;
}

bool run(Engine& engine, const Batch& x, const Room& y) {
    const int64_t images = checked_images(engine, x, y);
    nb::gil_scoped_release release;
    return engine.run(x.data(), y.data(), images);
}

nb::list time_stages(Engine& engine, const Batch& x, const Room& y, int rounds) {
    const auto images = static_cast<int32_t>(checked_images(engine, x, y));
    nb::list times;
    for (double time : engine.time_stages(x.data(), y.data(), images, rounds)) times.append(time);
    return times;
}

}  // namespace

void bind_engine(nb::module_& m) {
    nb::class_<Engine>(m, "Engine", "A network laid out for one target.")
        .def("__init__",
             [](Engine* self, const std::optional<std::string>& target,
                std::tuple<int32_t, int32_t, int32_t> shape) {
                 new (self) Engine(table_named(target), std::get<0>(shape), std::get<1>(shape),
                                   std::get<2>(shape));
             }, nb::arg("target").none(), nb::arg("shape"))
        .def("add_pack", [](Engine& e) { refuse(e.add_pack()); })
        .def("add_pack_levels", &add_pack_levels, nb::arg("bits"), nb::arg("thresholds"),
             nb::arg("flips").none())
        .def("add_unpack",
             [](Engine& e, const Row<float>& levels) {
                 refuse(e.add_unpack(levels.data(), static_cast<int64_t>(levels.size())));
             }, nb::arg("levels"))
        .def("add_relu", [](Engine& e) { refuse(e.add_relu()); })
        .def("add_pad",
             [](Engine& e, Two before, Two after, float value) {
                 refuse(e.add_pad(std::get<0>(before), std::get<1>(before), std::get<0>(after),
                                  std::get<1>(after), value));
             }, nb::arg("before"), nb::arg("after"), nb::arg("value"))
        .def("add_flatten", [](Engine& e) { refuse(e.add_flatten()); })
        .def("add_bit_layer", &add_bit_layer, nb::arg("geometry"), nb::arg("out"), nb::arg("groups"),
             nb::arg("pad"), nb::arg("low"), nb::arg("weights"), nb::arg("weight_bits"),
             nb::arg("odd_weights"), nb::arg("mask").none(),
             nb::arg("thresholds").none(), nb::arg("bits"), nb::arg("flips").none(),
             nb::arg("scale").none(), nb::arg("shift").none())
        .def("add_bit_pool",
             [](Engine& e, const Geometry& geometry, const MaybeRow<uint8_t>& mask) {
                 const int32_t channels = e.current().channels;
                 refuse(e.add_bit_pool(window_of(e, geometry), pointer(mask, channels, "too short a mask")));
             }, nb::arg("geometry"), nb::arg("all_mask").none())
        .def("add_float_layer", &add_float_layer, nb::arg("geometry"), nb::arg("out"), nb::arg("groups"),
             nb::arg("weights"), nb::arg("thresholds").none(), nb::arg("flips").none(),
             nb::arg("scale").none(), nb::arg("shift").none())
        .def("add_float_pool",
             [](Engine& e, const Geometry& geometry, bool average) {
                 refuse(e.add_float_pool(window_of(e, geometry), average));
             }, nb::arg("geometry"), nb::arg("average"))
        .def("seal", [](Engine& e, int threads, int arenas) { refuse(e.seal(threads, arenas)); },
             nb::arg("threads"), nb::arg("arenas"))
        .def("time_stages", &time_stages, nb::arg("x"), nb::arg("y"), nb::arg("rounds"))
        .def("run", &run, nb::arg("x"), nb::arg("y"))
        .def_prop_ro("shape", [](const Engine& e) {
            const Value& v = e.current();
            return std::make_tuple(v.channels, v.height, v.width);
        })
        .def_prop_ro("target", [](const Engine& e) { return std::string(e.target()); })
        .def_prop_ro("stage_names", &Engine::stage_names)
        .def_prop_ro("arena_bytes", &Engine::arena_bytes)
        .def_prop_ro("chunk", &Engine::chunk);
}

// Memory comes as one flat list of addresses and sizes: 161 tensors as objects of their own would
// take longer to convert than small ones take to update.
#include "bind_optim.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dispatch.h"
#include "optim_step.h"

namespace nb = nanobind;
using namespace coarsegrad;

namespace {

using Addresses = std::vector<uint64_t>;

// Columns of the flat list, each as long as there are tensors. An address of 0: there is none.
enum Column { kW, kG, kM, kV, kVhat, kStep, kBounds, kRecord, kElements, kChannels, kColumns };

// A pool for every number of threads that was asked for, of this process. Never freed: its threads
// sleep, and after a fork they are the parent's alone.
struct Pools {
    const pid_t process = getpid();
    std::mutex mutex;
    std::map<int, std::unique_ptr<ThreadPool>> pools;
};

ThreadPool& pool_of(int threads) {
    static std::atomic<Pools*> current{nullptr};
    Pools* all = current.load();
    if (!all || all->process != getpid()) {
        auto* const fresh = new Pools;
        if (current.compare_exchange_strong(all, fresh)) all = fresh;
        else delete fresh;
    }
    const int wanted = std::clamp(threads, 1, 1024);
    std::lock_guard<std::mutex> lock(all->mutex);
    std::unique_ptr<ThreadPool>& pool = all->pools[wanted];
    if (!pool) pool = std::make_unique<ThreadPool>(wanted);
    return *pool;
}

const OptimTable& table_named(const std::optional<std::string>& name) {
    const TableChoice choice = table_for(name ? name->c_str() : nullptr);
    if (!choice.optim) throw nb::value_error(choice.error);
    return *choice.optim;
}

size_t count_of(const Addresses& flat) {
    if (flat.size() % kColumns) throw nb::value_error("the list of addresses has ragged columns");
    return flat.size() / kColumns;
}

OptimTensor tensor_at(const Addresses& flat, size_t i) {
    const size_t count = flat.size() / kColumns;
    const auto at = [&](Column column) { return flat[column * count + i]; };
    const auto floats = [&](Column column) { return reinterpret_cast<float*>(at(column)); };
    return {floats(kW), floats(kG), floats(kM), floats(kV), floats(kVhat), floats(kStep),
            reinterpret_cast<double*>(at(kRecord)), static_cast<int64_t>(at(kElements)),
            static_cast<int64_t>(at(kChannels))};
}

template <class T>
T chosen(const std::string& name, std::initializer_list<std::pair<const char*, T>> choices) {
    for (const auto& [text, value] : choices)
        if (name == text) return value;
    throw nb::value_error(("unknown option " + name).c_str());
}

void bamsprod(const Addresses& flat, int threads, bool by_channel, double lr, double beta1,
              double beta2, const std::string& beta1_decay, double beta1_lambda, double eps,
              double gamma, double weight_decay, double box_low, double box_high, double kappa,
              double rho_min, const std::string& cstar, double c, double L_inf, double D_inf,
              double alpha, const std::string& reduce, double memory, bool average,
              bool inverse_sqrt, bool bias_correction, bool sqrt_space, bool maximize,
              const std::optional<std::string>& target) {
    BamsOptions o{lr, beta1, beta2, beta1_lambda, eps, gamma, weight_decay, box_low, box_high,
                  kappa, rho_min, c, L_inf, D_inf, alpha, memory, {}, {}, {}, average,
                  inverse_sqrt, bias_correction, sqrt_space, maximize};
    o.beta1_decay = chosen<Beta1Decay>(beta1_decay, {{"constant", Beta1Decay::kConstant},
                                                     {"power", Beta1Decay::kPower},
                                                     {"inverse", Beta1Decay::kInverse}});
    o.cstar = chosen<CStar>(cstar, {{"relative", CStar::kRelative}, {"grad", CStar::kGrad},
                                    {"literal", CStar::kLiteral}, {"constant", CStar::kConstant}});
    o.reduce = chosen<Reduce>(reduce, {{"mean", Reduce::kMean}, {"ema", Reduce::kEma},
                                       {"freeze", Reduce::kFreeze}});
    const size_t count = count_of(flat);
    std::vector<BamsTensor> tensors(count);
    for (size_t i = 0; i < count; ++i) {
        BamsTensor& t = tensors[i];
        t.at = tensor_at(flat, i);
        t.bounds = reinterpret_cast<double*>(flat[kBounds * count + i]);
        t.columns = by_channel && t.bounds ? t.at.channels : 1;
    }
    const OptimTable& table = table_named(target);
    nb::gil_scoped_release released;
    bamsprod_step(table, pool_of(threads), o, tensors);
}

void bound(const Addresses& flat, int threads, double lr, double base_lr, double final_lr,
           double beta1, double beta2, double gamma, double eps, double weight_decay,
           double box_low, double box_high, bool bias_correction, bool maximize,
           const std::optional<std::string>& target) {
    const BoundOptions o{lr, base_lr, final_lr, beta1, beta2, gamma, eps, weight_decay, box_low,
                         box_high, bias_correction, maximize};
    std::vector<BoundTensor> tensors(count_of(flat));
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i].at = tensor_at(flat, i);
    const OptimTable& table = table_named(target);
    nb::gil_scoped_release released;
    bound_step(table, pool_of(threads), o, tensors);
}

void bop(const Addresses& flat, int threads, double rate, double sigma, double threshold,
         double eps, bool unbiased, bool maximize, const std::optional<std::string>& target) {
    std::vector<OptimTensor> tensors(count_of(flat));
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i] = tensor_at(flat, i);
    const OptimTable& table = table_named(target);
    nb::gil_scoped_release released;
    bop_step(table, pool_of(threads), {rate, sigma, threshold, eps, unbiased, maximize}, tensors);
}

// Pieces as the threads of a step take them.
constexpr int64_t kPiece = 16 * kOptimChunk;

struct Streams {
    const OptimTable& table;
    const float* g;
    float* const* rest;
    int64_t count;
};

void move(uint64_t g, const std::vector<uint64_t>& others, int64_t count, int threads) {
    std::vector<float*> rest;
    for (const uint64_t other : others) rest.push_back(reinterpret_cast<float*>(other));
    Streams job{table_named(std::nullopt), reinterpret_cast<const float*>(g), rest.data(), count};
    if (rest.size() != 1 && rest.size() != 4)
        throw nb::value_error("one array to copy to, or four to update");
    const bool copy = rest.size() == 1;
    nb::gil_scoped_release released;
    pool_of(threads).run(
        copy ? [](void* context, int, int64_t begin, int64_t end) {
            const Streams& s = *static_cast<Streams*>(context);
            const int64_t first = begin * kPiece, last = std::min(end * kPiece, s.count);
            s.table.copy(s.g + first, s.rest[0] + first, last - first);
        } : [](void* context, int, int64_t begin, int64_t end) {
            const Streams& s = *static_cast<Streams*>(context);
            const int64_t first = begin * kPiece, last = std::min(end * kPiece, s.count);
            float* const rest[] = {s.rest[0] + first, s.rest[1] + first, s.rest[2] + first,
                                   s.rest[3] + first};
            s.table.five_streams(s.g + first, rest, last - first);
        },
        &job, (count + kPiece - 1) / kPiece, 1);
}

}  // namespace

void bind_optim(nb::module_ m) {
    m.def("bamsprod", bamsprod, nb::arg("flat"), nb::arg("threads"), nb::kw_only(),
          nb::arg("by_channel"), nb::arg("lr"), nb::arg("beta1"), nb::arg("beta2"),
          nb::arg("beta1_decay"), nb::arg("beta1_lambda"), nb::arg("eps"), nb::arg("gamma"),
          nb::arg("weight_decay"), nb::arg("box_low"), nb::arg("box_high"), nb::arg("kappa"),
          nb::arg("rho_min"), nb::arg("cstar"), nb::arg("c"), nb::arg("L_inf"), nb::arg("D_inf"),
          nb::arg("alpha"), nb::arg("reduce"), nb::arg("memory"), nb::arg("average"),
          nb::arg("inverse_sqrt"), nb::arg("bias_correction"), nb::arg("sqrt_space"),
          nb::arg("maximize"), nb::arg("target") = nb::none());
    m.def("bound", bound, nb::arg("flat"), nb::arg("threads"), nb::kw_only(), nb::arg("lr"),
          nb::arg("base_lr"), nb::arg("final_lr"), nb::arg("beta1"), nb::arg("beta2"),
          nb::arg("gamma"), nb::arg("eps"), nb::arg("weight_decay"), nb::arg("box_low"),
          nb::arg("box_high"), nb::arg("bias_correction"), nb::arg("maximize"),
          nb::arg("target") = nb::none());
    m.def("bop", bop, nb::arg("flat"), nb::arg("threads"), nb::kw_only(), nb::arg("rate"),
          nb::arg("sigma"), nb::arg("threshold"), nb::arg("eps"), nb::arg("unbiased"),
          nb::arg("maximize"), nb::arg("target") = nb::none());
    m.def("move", move, nb::arg("g"), nb::arg("others"), nb::arg("count"), nb::arg("threads"),
          "Copy g to one array, or run the five-stream pass over g and four: for benchmarks.");
}

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "optim_step.h"

namespace coarsegrad {
namespace {

#include "kernels/narrow.inl"

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Waking a thread costs as much as this many elements.
constexpr int64_t kInline = 32768;
// Chunks that a thread takes at once: enough to keep the prefetchers going.
constexpr int64_t kPiece = 16;

// Appends the chunks of a tensor of `channels` channels: as many whole ones as fit, else parts of one.
void divide(int64_t tensor, int64_t elements, int64_t channels, int64_t most,
            std::vector<OptimChunk>& chunks) {
    if (elements == 0) return;
    const int64_t row = elements / channels;
    const int64_t rows = std::max<int64_t>(std::min(kOptimChunk / row, most), 1);
    for (int64_t start = 0; start < elements; start += rows * row) {
        const int64_t end = std::min(start + rows * row, elements);
        for (int64_t i = start; i < end; i += kOptimChunk)
            chunks.push_back({tensor, i, std::min(kOptimChunk, end - i)});
    }
}

template <class Job>
void run(ThreadPool& pool, void (*kernel)(const Job&, int64_t, int64_t), const Job& job,
         const std::vector<OptimChunk>& chunks) {
    int64_t elements = 0;
    for (const OptimChunk& chunk : chunks) elements += chunk.count;
    const auto count = static_cast<int64_t>(chunks.size());
    if (elements < kInline) return kernel(job, 0, count);
    struct Call {
        void (*kernel)(const Job&, int64_t, int64_t);
        const Job* job;
    } call{kernel, &job};
    pool.run(
        [](void* context, int, int64_t begin, int64_t end) {
            const Call& c = *static_cast<Call*>(context);
            c.kernel(*c.job, begin, end);
        },
        &call, count, kPiece);
}

void add(OptimSums& sums, const OptimSums& part) {
    sums.v += part.v;
    sums.hw2 += part.hw2;
    sums.h += part.h;
    sums.hw += part.hw;
    sums.w += part.w;
    sums.error += part.error;
    sums.rho += part.rho;
    sums.low += part.low;
    sums.high += part.high;
    sums.flips += part.flips;
    sums.negative += part.negative;
}

double share(int64_t count, int64_t elements) {
    return static_cast<double>(count) / static_cast<double>(elements);
}

// Sums of the chunks [next, ...) that belong to `tensor`; moves `next` behind them.
OptimSums tensor_sums(int64_t tensor, const std::vector<OptimChunk>& chunks,
                      const std::vector<OptimSums>& sums, size_t& next) {
    OptimSums all{};
    for (; next < chunks.size() && chunks[next].tensor == tensor; ++next) add(all, sums[next]);
    return all;
}

struct Rates {
    double beta1, eta, corrected;
};

// The step counter is a float32 tensor; t is what it holds after this step.
Rates rates_at(const BamsOptions& o, double t) {
    Rates rates{o.beta1, o.lr, 0};
    double product = std::pow(o.beta1, t);  // of all beta1 so far
    if (o.beta1_decay == Beta1Decay::kPower) {
        rates.beta1 = o.beta1 * std::pow(o.lambda, t - 1);
        product *= std::pow(o.lambda, t * (t - 1) / 2);
    } else if (o.beta1_decay == Beta1Decay::kInverse) {
        rates.beta1 = o.beta1 / t;
        product /= std::tgamma(t + 1);
    }
    if (o.inverse_sqrt) rates.eta /= std::sqrt(t);
    rates.corrected = rates.eta;
    if (o.bias_correction)
        rates.corrected *= std::sqrt(1 - std::pow(o.beta2, t)) / (1 - product);
    return rates;
}

// Fills in what depends on the step.
void begin_step(const BamsOptions& o, std::vector<BamsTensor>& tensors) {
    double last = -1;
    Rates rates{};
    for (BamsTensor& t : tensors) {
        const double step = *t.at.step += 1;
        if (step != last) rates = rates_at(o, last = step);
        t.eta = rates.eta;
        t.lerp = static_cast<float>(1 - rates.beta1);
        t.step_size = static_cast<float>(rates.corrected);
        t.decay = static_cast<float>(1 - rates.eta * o.weight_decay);
        t.average_weight = static_cast<float>(1 / step);
        const double ratio = t.at.record && rates.eta > 0 ? t.at.record[5] / rates.eta : kNaN;
        t.ratio2 = static_cast<float>(ratio * ratio);
        const bool by_channel = t.columns != 1 || (o.cstar != CStar::kConstant && o.alpha != o.alpha);
        if (!t.bounds || !by_channel) t.at.channels = 1;
    }
}

template <class Tensor>
const OptimTensor& memory_of(const Tensor& t) { return t.at; }
const OptimTensor& memory_of(const OptimTensor& t) { return t; }

template <class Tensor>
std::vector<OptimChunk> chunks_of(const std::vector<Tensor>& tensors) {
    std::vector<OptimChunk> chunks;
    int64_t tensor = 0;
    for (const Tensor& each : tensors) {
        const OptimTensor& t = memory_of(each);
        divide(tensor++, t.elements, t.channels, t.channels, chunks);
    }
    return chunks;
}

bool fresh(const BamsTensor& t) {
    for (int64_t k = 0; t.bounds && k < t.columns; ++k)
        if (t.bounds[k] == 0) return true;
    return false;
}

// A constant c* needs no statistics and bounds its own step, from the first gradient that is not 0.
// Whether there has been one is asked in a pass of its own, and no more once there has.
void narrow_ahead(const OptimTable& table, ThreadPool& pool, BamsJob job,
                  const std::vector<BamsTensor>& tensors) {
    std::vector<OptimChunk> chunks;
    for (size_t i = 0; i < tensors.size(); ++i)
        if (fresh(tensors[i]))
            divide(static_cast<int64_t>(i), tensors[i].at.elements, tensors[i].at.channels, 1, chunks);
    std::vector<OptimSums> sums(chunks.size());
    job.chunks = chunks.data();
    job.sums = sums.data();
    run(pool, table.bamsprod_seen, job, chunks);
    size_t next = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
        const BamsTensor& t = tensors[i];
        const bool asked = fresh(t);
        const int64_t row = t.at.elements / std::max<int64_t>(t.at.channels, 1);
        for (int64_t k = 0; t.bounds && k < t.columns; ++k) {
            const auto until = static_cast<size_t>(asked ? (row + kOptimChunk - 1) / kOptimChunk : 0);
            bool seen = t.bounds[k] > 0;
            for (const size_t end = next + until; next < end; ++next) seen |= sums[next].v != 0;
            narrow(job.options, t.bounds + k, t.columns, job.options.c, seen);
        }
    }
}

// Adds up the parts of channels longer than a chunk, and finishes each.
OptimSums long_channels(const BamsOptions& o, const BamsTensor& t, int64_t row,
                        const OptimSums* sums) {
    OptimSums all{};
    const int64_t parts = (row + kOptimChunk - 1) / kOptimChunk;
    for (int64_t k = 0; k < t.at.channels; ++k) {
        OptimSums channel{};
        for (int64_t i = 0; i < parts; ++i) add(channel, *sums++);
        channel.error = channel_error(o, channel, static_cast<double>(row));
        if (t.columns != 1)
            channel.rho = finish_column(o, t, k, channel, static_cast<double>(row));
        add(all, channel);
    }
    return all;
}

void end_step(const BamsOptions& o, const std::vector<BamsTensor>& tensors,
              const std::vector<OptimChunk>& chunks, const std::vector<OptimSums>& sums) {
    size_t next = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
        const BamsTensor& t = tensors[i];
        if (t.at.elements == 0) continue;  // nor has torch an address for bounds of no channels
        const int64_t row = t.at.elements / t.at.channels;
        const size_t first = next;
        OptimSums all = tensor_sums(static_cast<int64_t>(i), chunks, sums, next);
        if (row > kOptimChunk) all = long_channels(o, t, row, sums.data() + first);
        const double rho = t.columns != 1
                               ? all.rho / static_cast<double>(t.columns)
                               : finish_column(o, t, 0, all, static_cast<double>(t.at.elements));
        if (!t.at.record) continue;
        const bool previous = t.ratio2 == t.ratio2;
        const double found[] = {o.cstar == CStar::kConstant || !t.bounds ? kNaN : rho,
                                share(all.low, t.at.elements), share(all.high, t.at.elements),
                                share(all.flips, t.at.elements),
                                previous ? share(all.negative, t.at.elements) : kNaN, t.eta};
        std::copy(std::begin(found), std::end(found), t.at.record);
    }
}

// Shares of elements for rules that have no statistics.
void note(const OptimTensor& t, const OptimSums& sums, bool bounded) {
    if (!t.record || t.elements == 0) return;
    const double found[] = {kNaN, bounded ? share(sums.low, t.elements) : kNaN,
                            bounded ? share(sums.high, t.elements) : kNaN,
                            share(sums.flips, t.elements), kNaN, kNaN};
    std::copy(std::begin(found), std::end(found), t.record);
}

// Runs `kernel` over all chunks and notes what they count.
template <class Job, class Tensor>
void simple_step(ThreadPool& pool, void (*kernel)(const Job&, int64_t, int64_t), Job& job,
                 const std::vector<Tensor>& tensors, bool bounded) {
    const std::vector<OptimChunk> chunks = chunks_of(tensors);
    std::vector<OptimSums> sums(chunks.size());
    job.tensors = tensors.data();
    job.chunks = chunks.data();
    job.sums = sums.data();
    run(pool, kernel, job, chunks);
    size_t next = 0;
    int64_t tensor = 0;
    for (const Tensor& t : tensors)
        note(memory_of(t), tensor_sums(tensor++, chunks, sums, next), bounded);
}

}  // namespace

void bamsprod_step(const OptimTable& table, ThreadPool& pool, const BamsOptions& options,
                   std::vector<BamsTensor>& tensors) {
    begin_step(options, tensors);
    BamsJob job{options, tensors.data(), nullptr, nullptr};
    if (options.cstar == CStar::kConstant) narrow_ahead(table, pool, job, tensors);
    const std::vector<OptimChunk> chunks = chunks_of(tensors);
    std::vector<OptimSums> sums(chunks.size());
    job.chunks = chunks.data();
    job.sums = sums.data();
    run(pool, table.bamsprod, job, chunks);
    end_step(options, tensors, chunks, sums);
}

void bound_step(const OptimTable& table, ThreadPool& pool, const BoundOptions& o,
                std::vector<BoundTensor>& tensors) {
    const double ratio = o.base_lr > 0 ? o.lr / o.base_lr : o.lr > 0;
    const double final_rate = o.final_lr * ratio;
    for (BoundTensor& t : tensors) {
        t.at.channels = 1;
        const double step = *t.at.step += 1;
        double rate = o.lr;
        if (o.bias_correction)
            rate *= std::sqrt(1 - std::pow(o.beta2, step)) / (1 - std::pow(o.beta1, step));
        t.rate = static_cast<float>(rate);
        t.decay = static_cast<float>(1 - o.lr * o.weight_decay);
        t.low = static_cast<float>(final_rate * (1 - 1 / (o.gamma * step + 1)));
        t.high = static_cast<float>(final_rate * (1 + 1 / (o.gamma * step)));
    }
    BoundJob job{static_cast<float>(1 - o.beta1), static_cast<float>(o.beta2),
                 static_cast<float>(1 - o.beta2), static_cast<float>(o.eps),
                 o.maximize ? -1.0f : 1.0f, static_cast<float>(o.box_low),
                 static_cast<float>(o.box_high), nullptr, nullptr, nullptr};
    simple_step(pool, table.bound, job, tensors, true);
}

void bop_step(const OptimTable& table, ThreadPool& pool, const BopOptions& o,
              std::vector<OptimTensor>& tensors) {
    for (OptimTensor& t : tensors) {
        t.channels = 1;
        *t.step += 1;
    }
    // A schedule that has ended at rate 0 says nothing more about any weight: m / infinity is 0.
    const auto unit = !o.unbiased ? 1.0f : o.rate > 0 ? static_cast<float>(o.rate) : INFINITY;
    BopJob job{static_cast<float>(o.rate), static_cast<float>(o.sigma), static_cast<float>(1 - o.sigma),
               static_cast<float>(o.threshold), static_cast<float>(o.eps),
               o.maximize ? -1.0f : 1.0f, unit,
               o.unbiased ? static_cast<float>(o.sigma) : 1.0f, nullptr, nullptr, nullptr};
    simple_step(pool, table.bop, job, tensors, false);
}

}  // namespace coarsegrad

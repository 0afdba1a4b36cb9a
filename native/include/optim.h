// Optimizer steps in one pass over memory: arguments of the kernels and the table of one target.
#pragma once

#include <cstdint>

namespace coarsegrad {

// A chunk is whole channels of a tensor, or a part of one longer than this; so the shapes alone fix
// the order of every sum.
constexpr int64_t kOptimChunk = 16384;

struct OptimChunk {
    int64_t tensor, first, count;  // elements [first, first + count) of that tensor
};

// What one chunk adds to its tensor's totals. `h` to `w` only where it is part of a channel, `error`
// and `rho` only where it is whole ones. Counts are of elements.
struct OptimSums {
    double v, hw2, h, hw, w, error, rho;
    int64_t low, high, flips, negative;
};

// One parameter in dense memory, dimension 0 outermost, state in the same order.
struct OptimTensor {
    float* w;
    const float* g;
    float *m, *v, *vhat;  // null where the rule has none
    float* step;          // how often it was stepped
    double* record;       // diagnostics as in fused.py, or null
    int64_t elements;
    int64_t channels;  // slices of dimension 0 that have sums of their own
};

enum class CStar : int32_t { kRelative, kGrad, kLiteral, kConstant };
enum class Reduce : int32_t { kMean, kEma, kFreeze };
enum class Beta1Decay : int32_t { kConstant, kPower, kInverse };

struct BamsOptions {
    double lr, beta1, beta2, lambda, eps, gamma, weight_decay, box_low, box_high;
    double kappa, rho_min, c, L_inf, D_inf;
    double alpha;   // NaN: mean|w| of each channel
    double memory;  // of kEma: share of the old c; of kFreeze: the last step that counts
    Beta1Decay beta1_decay;
    CStar cstar;
    Reduce reduce;
    bool average;  // vhat is the mean of v over the steps, not the maximum
    bool inverse_sqrt, bias_correction, sqrt_space, maximize;
};

struct BamsTensor {
    OptimTensor at;
    double* bounds;   // rows n, c, c_l, c_u of `columns` numbers; null: unbounded
    int64_t columns;  // 1, or a column for each channel
    // Of this step:
    float lerp, step_size, decay, average_weight;
    float ratio2;  // (previous eta / eta)^2, NaN where there is none
    double eta;
};

struct BamsJob {
    BamsOptions options;
    const BamsTensor* tensors;
    const OptimChunk* chunks;
    OptimSums* sums;  // of every chunk
};

struct BoundTensor {
    OptimTensor at;
    float rate, decay, low, high;  // of this step
};

struct BoundJob {
    float lerp, beta2, square, eps, sign, box_low, box_high;
    const BoundTensor* tensors;
    const OptimChunk* chunks;
    OptimSums* sums;
};

struct BopJob {
    float rate, sigma, keep, threshold, eps, sign;  // keep = 1 - sigma
    float rate_unit, sigma_unit;  // m and v are divided by these before they are compared
    const OptimTensor* tensors;
    const OptimChunk* chunks;
    OptimSums* sums;
};

// Every function takes a range of chunks and gives the same result for any division of them.
struct OptimTable {
    void (*bamsprod)(const BamsJob&, int64_t begin, int64_t end);
    // Changes nothing; the sum v becomes 1 where a gradient of the chunk is not 0.
    void (*bamsprod_seen)(const BamsJob&, int64_t begin, int64_t end);
    void (*bound)(const BoundJob&, int64_t begin, int64_t end);
    void (*bop)(const BopJob&, int64_t begin, int64_t end);
    // The machine's limits for benchmarks: y = x, and a pass that reads five and writes four.
    void (*copy)(const float* x, float* y, int64_t count);
    void (*five_streams)(const float* g, float* const* streams, int64_t count);
};

}  // namespace coarsegrad

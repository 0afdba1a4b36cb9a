// One step of an optimizer over all tensors of a group: division into chunks, threads, and what
// follows from the chunks' sums. See optim.h.
#pragma once

#include <vector>

#include "optim.h"
#include "threads.h"

namespace coarsegrad {

// One step of every tensor, `step` counted up first. `tensors` are as the caller knows them: `at`,
// `bounds` and `columns`; the rest is filled in. The same result for any number of threads.
void bamsprod_step(const OptimTable& table, ThreadPool& pool, const BamsOptions& options,
                   std::vector<BamsTensor>& tensors);

struct BoundOptions {
    double lr, base_lr, final_lr, beta1, beta2, gamma, eps, weight_decay, box_low, box_high;
    bool bias_correction, maximize;
};

// AMSBound where a tensor has `vhat`, else AdaBound.
void bound_step(const OptimTable& table, ThreadPool& pool, const BoundOptions& options,
                std::vector<BoundTensor>& tensors);

struct BopOptions {
    double rate, sigma, threshold, eps;
    bool unbiased, maximize;
};

// Bop2ndOrder where a tensor has `v`, else Bop.
void bop_step(const OptimTable& table, ThreadPool& pool, const BopOptions& options,
              std::vector<OptimTensor>& tensors);

}  // namespace coarsegrad

// Eight threads run one prepared layer at once, through pools of their own and through a shared one,
// and must all get what one thread gets. Meant for ThreadSanitizer.
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "dispatch.h"
#include "prepare.h"
#include "threads.h"

using namespace coarsegrad;

namespace {

constexpr int kThreads = 8, kRounds = 30, kSize = 9, kIn = 64, kOut = 130;

struct Job {
    const KernelTable* table;
    const BitLayer* layer;
    const BitImage* in;
    Results out;
    uint8_t* scratch;
};

void run_part(void* context, int slot, int64_t begin, int64_t end) {
    Job& job = *static_cast<Job*>(context);
    job.table->bit_layer(*job.layer, *job.in, job.out,
                         job.scratch + slot * job.layer->scratch_bytes, begin, end);
}

// How many of the threads' results differ from one thread's.
int check(const KernelTable& table) {
    std::vector<uint8_t> weights(kOut * kIn * 9 / 8);
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<uint8_t>(i * 37);
    BitLayerSpec spec;
    spec.window = with_output_size({kSize, kSize, 0, 0, 3, 3, 1, 1, 1, 1, 1, 1}, 1, 1);
    spec.in_channels = kIn;
    spec.out_channels = kOut;
    spec.weights = weights.data();
    spec.weight_stride = kIn * 9;
    PreparedBits layer;
    if (!prepare_bits(table, spec, layer).empty()) return 1;
    const BitPlane in = make_bit_plane(2, kSize, kSize, kIn, 1, 1);
    const int64_t items = bit_layer_items(layer.view, 2);
    const size_t cells = 2 * kSize * kSize * kOut;
    ThreadPool shared(4);
    const auto run = [&](ThreadPool& pool, std::vector<int32_t>& sums) {
        Bytes scratch(static_cast<size_t>(layer.view.scratch_bytes) * 4);
        Job job{&table, &layer.view, &in.view, {}, scratch.as<uint8_t>()};
        job.out.sums = sums.data();
        pool.run(run_part, &job, items);
    };
    std::vector<int32_t> want(cells);
    ThreadPool alone(1);
    run(alone, want);
    std::vector<int> wrong(kThreads);
    std::vector<std::thread> callers;
    for (int t = 0; t < kThreads; ++t)
        callers.emplace_back([&, t] {
            ThreadPool own(2);
            for (int round = 0; round < kRounds; ++round) {
                std::vector<int32_t> sums(cells, -1);
                run(round % 2 ? shared : own, sums);
                wrong[t] += sums != want;
            }
        });
    for (std::thread& caller : callers) caller.join();
    int total = 0;
    for (int count : wrong) total += count;
    return total;
}

}  // namespace

int main() {
    int wrong = 0;
    for (int i = 0; i < target_count(); ++i) {
        const Target target = target_at(i);
        if (!target.runs) continue;
        const int count = check(*table_for(target.name).table);
        std::printf("%s: %d wrong results of %d\n", target.name, count, kThreads * kRounds);
        wrong += count;
    }
    return wrong != 0;
}

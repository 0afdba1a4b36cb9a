// Eight threads call one sealed engine, whose four arenas they share and wait for, and must all get
// what one caller gets. Meant for ThreadSanitizer.
#include <cstdio>
#include <thread>
#include <vector>

#include "dispatch.h"
#include "engine.h"

using namespace coarsegrad;

namespace {

constexpr int kCallers = 8, kRounds = 20, kSize = 12, kIn = 3, kMiddle = 40, kFew = 8, kOut = 10;
constexpr int64_t kImages = 70;

Window window(int32_t size, int32_t kernel, int32_t stride, int32_t pad) {
    return with_output_size({size, size, 0, 0, kernel, kernel, stride, stride, 1, 1, pad, pad}, pad,
                            pad);
}

// Float convolution to bits, pool on bits, binary convolution, dense layer on its plane to floats.
bool build(Engine& engine) {
    static const std::vector<float> floats(kMiddle * kIn * 9, 1.0f);
    static const std::vector<float> thresholds(kMiddle, 0.0f);
    static const std::vector<int32_t> integers(kMiddle, 1);
    static std::vector<uint8_t> bits(kMiddle * kMiddle * 9);
    for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint8_t>(i * 37);
    FloatLayerSpec first;
    first.window = window(kSize, 3, 1, 1);
    first.in_channels = kIn;
    first.out_channels = kMiddle;
    first.weights = floats.data();
    first.finish = Finish::kThreshold;
    first.thresholds = thresholds.data();
    BitLayerSpec second;
    second.window = window(kSize / 2, 3, 1, 1);
    second.in_channels = second.out_channels = kMiddle;
    second.weights = bits.data();
    second.weight_stride = kMiddle * 9;
    second.finish = Finish::kThreshold;
    second.thresholds = integers.data();
    BitLayerSpec few = second;  // few enough for tables, on the targets that have them
    few.out_channels = kFew;
    few.pad_value = 1;
    BitLayerSpec last;
    last.window = window(kSize / 2, kSize / 2, 1, 0);
    last.in_channels = kFew;
    last.out_channels = kOut;
    last.weights = bits.data();
    last.weight_stride = kFew * (kSize / 2) * (kSize / 2);
    last.finish = Finish::kAffine;
    return engine.add_float_layer(first).empty() &&
           engine.add_bit_pool(window(kSize, 2, 2, 0), nullptr).empty() &&
           engine.add_bit_layer(second).empty() && engine.add_bit_layer(few).empty() &&
           engine.add_bit_layer(last).empty() &&
           engine.seal(2, 4).empty();
}

int check(const KernelTable& table) {
    Engine engine(table, kIn, kSize, kSize);
    if (!build(engine)) return -1;
    std::vector<float> x(kImages * kIn * kSize * kSize);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 29 % 17) - 8.0f;
    std::vector<float> want(kImages * kOut);
    engine.run(x.data(), want.data(), kImages);
    std::vector<int> wrong(kCallers);
    std::vector<std::thread> callers;
    for (int t = 0; t < kCallers; ++t)
        callers.emplace_back([&, t] {
            for (int round = 0; round < kRounds; ++round) {
                std::vector<float> y(want.size(), -1.0f);
                engine.run(x.data(), y.data(), kImages);
                wrong[static_cast<size_t>(t)] += y != want;
            }
        });
    for (std::thread& caller : callers) caller.join();
    int total = 0;
    for (int count : wrong) total += count;
    return total;
}

}  // namespace

int main() {
    int failed = 0;
    for (int i = 0; i < target_count(); ++i) {
        const Target target = target_at(i);
        if (!target.runs) continue;
        const int count = check(*table_for(target.name).table);
        std::printf("%s: one model, %d wrong results of %d\n", target.name, count, kCallers * kRounds);
        failed |= count != 0;
    }
    return failed;
}

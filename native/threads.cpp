#include "threads.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace coarsegrad {
namespace {

// About 20 microseconds: longer than the gap between two layers of one network.
constexpr int kSpins = 2000;

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::State {
    int threads = 1;
    std::vector<std::thread> workers;
    std::mutex owner;  // held by the caller whose job the workers do

    Body body = nullptr;
    void* context = nullptr;
    int64_t items = 0, piece = 1;
    std::atomic<int64_t> next{0};
    std::atomic<uint64_t> job{0};   // number of the latest job
    std::atomic<uint64_t> open{0};  // the job that workers may still join; 0: none
    std::atomic<int> inside{0};     // workers that have joined or are looking whether they may
    std::atomic<bool> stop{false};
    std::mutex sleep;
    std::condition_variable wake;
    std::atomic<int> sleepers{0};

    void take_pieces(int slot) {
        for (;;) {
            const int64_t begin = next.fetch_add(piece, std::memory_order_relaxed);
            if (begin >= items) return;
            body(context, slot, begin, begin + piece < items ? begin + piece : items);
        }
    }

    // The number of a job later than `seen`, or `seen` when the pool stops.
    uint64_t await(uint64_t seen) {
        for (int i = 0; i < kSpins; ++i) {
            const uint64_t now = job.load(std::memory_order_acquire);
            if (now != seen || stop.load(std::memory_order_relaxed)) return now;
            relax();
        }
        std::unique_lock<std::mutex> lock(sleep);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return job.load() != seen || stop.load(); });
        sleepers.fetch_sub(1);
        return job.load(std::memory_order_acquire);
    }

    // A late worker finds the job closed and nobody waits for it.
    void join(int slot) {
        inside.fetch_add(1);
        if (open.load() != 0) take_pieces(slot);
        inside.fetch_sub(1);
    }

    void work(int slot) {
        uint64_t seen = 0;
        for (;;) {
            const uint64_t now = await(seen);
            if (now == seen) return;
            seen = now;
            join(slot);
        }
    }

    void announce() {
        open.store(job.load() + 1);
        job.fetch_add(1);
        if (sleepers.load() == 0) return;
        // The lock orders this after a worker's last look at `job`, so that none misses the call.
        std::lock_guard<std::mutex> lock(sleep);
        wake.notify_all();
    }
};

ThreadPool::ThreadPool(int threads) : state_(new State) {
    state_->threads = threads < 1 ? 1 : threads;
    for (int slot = 1; slot < state_->threads; ++slot)
        state_->workers.emplace_back([this, slot] { state_->work(slot); });
}

ThreadPool::~ThreadPool() {
    {
        std::lock_guard<std::mutex> lock(state_->sleep);
        state_->stop.store(true);
    }
    state_->wake.notify_all();
    for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return state_->threads; }

void ThreadPool::run(Body body, void* context, int64_t items, int64_t piece) {
    State& s = *state_;
    std::unique_lock<std::mutex> owned(s.owner, std::try_to_lock);
    if (s.threads == 1 || items < 2 || !owned.owns_lock()) {
        if (items > 0) body(context, 0, 0, items);
        return;
    }
    s.body = body;
    s.context = context;
    s.items = items;
    const int64_t pieces = int64_t{s.threads} * 4;
    s.piece = piece > 0 ? piece : (items + pieces - 1) / pieces;
    s.next.store(0);
    s.announce();
    s.take_pieces(0);
    s.open.store(0);
    for (int i = 0; s.inside.load() != 0; ++i) {
        if (i < kSpins) relax();
        else std::this_thread::yield();
    }
}

}  // namespace coarsegrad

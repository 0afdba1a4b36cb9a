// A pool of persistent workers that divide one range of work items.
#pragma once

#include <cstdint>
#include <memory>

namespace coarsegrad {

class ThreadPool {
  public:
    // `threads` counts the caller: 1 starts no worker.
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const;

    // `slot` in [0, threads) is the caller's (0) or a worker's, to pick scratch memory.
    using Body = void (*)(void* context, int slot, int64_t begin, int64_t end);

    // Runs body over [0, items) and returns when all is done. Safe from any number of threads: one
    // caller at a time gets the workers, the others do their own work. Allocates nothing. Threads
    // take `piece` items at a time, or a quarter of their share where it is 0.
    void run(Body body, void* context, int64_t items, int64_t piece = 0);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace coarsegrad

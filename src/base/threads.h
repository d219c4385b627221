// A persistent pool that runs one parallel loop at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace ruvltra {

// Number of physical cores this process may run on (hardware threads of one core count once).
int physical_cores();

// Threads that can run at full speed: the physical cores, or fewer where a container's CPU quota is smaller.
int default_threads();

// Thread safety: parallel_for may be called by one thread at a time, and not from inside a task.
// The calling thread works too, as thread 0; n_threads - 1 workers wait: first spinning, then asleep on a
// futex. Tasks are handed out one by one in ascending order, so a preempted thread delays only its own task.
class ThreadPool {
 public:
  // Where the system grants fewer threads than asked for, the pool works with those it got.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return n_threads_; }

  // Calls f(task, thread) once for each task in [0, n_tasks); returns when all have returned.
  template <class F>
  void parallel_for(size_t n_tasks, F&& f) {
    using Function = std::remove_reference_t<F>;
    run(
        n_tasks,
        [](void* context, size_t task, int thread) { (*static_cast<Function*>(context))(task, thread); },
        const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  using Trampoline = void (*)(void* context, size_t task, int thread);
  void run(size_t n_tasks, Trampoline call, void* context);
  void work(int thread);
  void worker_loop(int thread);

  int n_threads_ = 1;
  const int spin_rounds_;
  std::vector<std::thread> workers_;

  // One loop's description; written by the caller before epoch_ moves, read by workers after.
  Trampoline call_ = nullptr;
  void* context_ = nullptr;
  size_t n_tasks_ = 0;

  alignas(64) std::atomic<size_t> next_task_{0};
  alignas(64) std::atomic<int> busy_workers_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // one more per loop, and once more to stop
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace ruvltra

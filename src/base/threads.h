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
// futex. Every thread starts on its own contiguous share of the tasks, in ascending order, so that it walks
// memory in one direction; who is done takes tasks from the tail of another's share. A thread that the system
// has put aside delays only the task it is in.
class ThreadPool {
 public:
  enum class Pinning { kNone, kOneCpuEach };
  // Where the system grants fewer threads than asked for, the pool works with those it got. kOneCpuEach binds
  // worker i to the i-th CPU this process may use (best effort); the calling thread stays free.
  explicit ThreadPool(int n_threads, Pinning pinning = Pinning::kNone);
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
  // Tasks [begin, end) of one thread not yet taken, packed so that both ends move in one atomic step.
  struct alignas(64) Share {
    std::atomic<uint64_t> range{0};
    bool take_first(size_t& task);
    bool take_last(size_t& task);
  };

  void run(size_t n_tasks, Trampoline call, void* context);
  void work(int thread);
  bool enter_loop();
  void worker_loop(int thread);

  int n_threads_ = 1;
  const int spin_rounds_;
  std::vector<std::thread> workers_;

  // One loop's description; written by the caller before the gate opens, read by workers inside.
  Trampoline call_ = nullptr;
  void* context_ = nullptr;
  std::unique_ptr<Share[]> shares_;  // (n_threads)

  // Workers inside the loop, and kClosed while none may enter: a worker that wakes late misses the loop.
  static constexpr uint32_t kClosed = uint32_t{1} << 31;
  alignas(64) std::atomic<uint32_t> gate_{kClosed};
  alignas(64) std::atomic<uint32_t> epoch_{0};  // one more per loop, and once more to stop
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace ruvltra

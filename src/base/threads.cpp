#include "base/threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <fstream>
#include <set>
#include <string>
#include <utility>

#include "base/cgroup.h"
#include "base/check.h"

namespace ruvltra {
namespace {

// About 30 microseconds of pause instructions: shorter than a futex round trip, long enough for the gap
// between two phases of a layer.
constexpr int kSpinRounds = 2000;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int usable_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0)
    return static_cast<int>(std::thread::hardware_concurrency());
  return CPU_COUNT(&set);
}

}  // namespace

int physical_cores() {
  cpu_set_t set;
  const bool known = sched_getaffinity(0, sizeof set, &set) == 0;
  std::set<std::pair<int, int>> cores;
  for (int cpu = 0; known && cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    int package = 0;
    int core = cpu;
    std::ifstream(folder + "physical_package_id") >> package;
    std::ifstream(folder + "core_id") >> core;
    cores.emplace(package, core);
  }
  return std::max(1, cores.empty() ? usable_cpus() : static_cast<int>(cores.size()));
}

int default_threads() {
  const double quota = cgroup_limits().cpus.value_or(CPU_SETSIZE);
  return std::min(physical_cores(), static_cast<int>(std::ceil(std::min<double>(quota, CPU_SETSIZE))));
}

ThreadPool::ThreadPool(int n_threads) : spin_rounds_(n_threads <= usable_cpus() ? kSpinRounds : 0) {
  CHECK(n_threads >= 1);
  workers_.reserve(static_cast<size_t>(n_threads) - 1);
  try {
    for (; n_threads_ < n_threads; ++n_threads_) {
      workers_.emplace_back([this, thread = n_threads_] { worker_loop(thread); });
    }
  } catch (const std::exception&) {
    // A limit on processes or memory: the threads made so far are joined or used, never abandoned.
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(size_t n_tasks, Trampoline call, void* context) {
  if (n_tasks == 0) return;
  if (n_threads_ == 1 || n_tasks == 1) {
    for (size_t task = 0; task < n_tasks; ++task) call(context, task, 0);
    return;
  }
  call_ = call;
  context_ = context;
  n_tasks_ = n_tasks;
  next_task_.store(0, std::memory_order_relaxed);
  busy_workers_.store(n_threads_ - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1);
  if (sleepers_.load() != 0) epoch_.notify_all();
  work(0);
  for (int round = 0; busy_workers_.load(std::memory_order_acquire) != 0; ++round) {
    if (round < spin_rounds_) {
      pause_cpu();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::work(int thread) {
  for (;;) {
    const size_t task = next_task_.fetch_add(1, std::memory_order_relaxed);
    if (task >= n_tasks_) return;
    call_(context_, task, thread);
  }
}

void ThreadPool::worker_loop(int thread) {
  uint32_t seen = 0;
  for (;;) {
    for (int round = 0; round < spin_rounds_ && epoch_.load(std::memory_order_acquire) == seen; ++round)
      pause_cpu();
    if (epoch_.load() == seen) {
      sleepers_.fetch_add(1);
      epoch_.wait(seen);
      sleepers_.fetch_sub(1);
    }
    const uint32_t now = epoch_.load(std::memory_order_acquire);
    if (now == seen) continue;
    seen = now;
    if (stop_.load()) return;
    work(thread);
    busy_workers_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace ruvltra

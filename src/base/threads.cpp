#include "base/threads.h"

#include <pthread.h>
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

// The two ends of a share.
constexpr uint64_t packed(size_t begin, size_t end) {
  return static_cast<uint64_t>(begin) << 32 | static_cast<uint64_t>(end);
}
constexpr size_t begin_of(uint64_t range) { return static_cast<size_t>(range >> 32); }
constexpr size_t end_of(uint64_t range) { return static_cast<size_t>(range & UINT32_MAX); }

// Binds a thread to the index-th CPU of this process's set.
void pin(std::thread& thread, int index) {
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &usable) || index-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(thread.native_handle(), sizeof one, &one);
    return;
  }
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

ThreadPool::ThreadPool(int n_threads, Pinning pinning)
    : spin_rounds_(n_threads <= usable_cpus() ? kSpinRounds : 0),
      shares_(std::make_unique<Share[]>(static_cast<size_t>(std::max(1, n_threads)))) {
  CHECK(n_threads >= 1);
  workers_.reserve(static_cast<size_t>(n_threads) - 1);
  try {
    for (; n_threads_ < n_threads; ++n_threads_) {
      workers_.emplace_back([this, thread = n_threads_] { worker_loop(thread); });
      if (pinning == Pinning::kOneCpuEach) pin(workers_.back(), n_threads_);
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

bool ThreadPool::Share::take_first(size_t& task) {
  uint64_t now = range.load(std::memory_order_relaxed);
  do {
    if (begin_of(now) >= end_of(now)) return false;
    task = begin_of(now);
  } while (!range.compare_exchange_weak(now, packed(task + 1, end_of(now)), std::memory_order_relaxed));
  return true;
}

bool ThreadPool::Share::take_last(size_t& task) {
  uint64_t now = range.load(std::memory_order_relaxed);
  do {
    if (begin_of(now) >= end_of(now)) return false;
    task = end_of(now) - 1;
  } while (!range.compare_exchange_weak(now, packed(begin_of(now), task), std::memory_order_relaxed));
  return true;
}

void ThreadPool::run(size_t n_tasks, Trampoline call, void* context) {
  if (n_tasks == 0) return;
  if (n_threads_ == 1 || n_tasks == 1) {
    for (size_t task = 0; task < n_tasks; ++task) call(context, task, 0);
    return;
  }
  CHECK(n_tasks <= UINT32_MAX);
  call_ = call;
  context_ = context;
  const auto n_shares = static_cast<size_t>(n_threads_);
  for (size_t i = 0; i < n_shares; ++i) {
    shares_[i].range.store(packed(n_tasks * i / n_shares, n_tasks * (i + 1) / n_shares),
                           std::memory_order_relaxed);
  }
  gate_.store(0, std::memory_order_release);
  epoch_.fetch_add(1);
  if (sleepers_.load() != 0) epoch_.notify_all();
  work(0);
  gate_.fetch_or(kClosed, std::memory_order_relaxed);
  for (int round = 0; gate_.load(std::memory_order_acquire) != kClosed; ++round) {
    if (round < spin_rounds_) {
      pause_cpu();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::work(int thread) {
  const auto own = static_cast<size_t>(thread);
  const auto n_shares = static_cast<size_t>(n_threads_);
  size_t task;
  while (shares_[own].take_first(task)) call_(context_, task, thread);
  for (size_t i = 1; i < n_shares; ++i) {
    while (shares_[(own + i) % n_shares].take_last(task)) call_(context_, task, thread);
  }
}

bool ThreadPool::enter_loop() {
  uint32_t inside = gate_.load(std::memory_order_relaxed);
  do {
    if ((inside & kClosed) != 0) return false;
  } while (!gate_.compare_exchange_weak(inside, inside + 1, std::memory_order_acquire));
  return true;
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
    if (!enter_loop()) continue;
    work(thread);
    gate_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace ruvltra

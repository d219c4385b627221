#include "base/threads.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <numeric>
#include <thread>
#include <vector>

namespace ruvltra {
namespace {

TEST(ThreadPool, RunsEachTaskExactlyOnce) {
  for (const int n_threads : {1, 2, 3, 7}) {
    ThreadPool pool(n_threads);
    for (int loop = 0; loop < 200; ++loop) {
      const size_t n_tasks = static_cast<size_t>(loop % 37);
      std::vector<int> hits(n_tasks, 0);
      pool.parallel_for(n_tasks, [&](size_t task, int thread) {
        EXPECT_GE(thread, 0);
        EXPECT_LT(thread, n_threads);
        ++hits[task];
      });
      EXPECT_EQ(std::accumulate(hits.begin(), hits.end(), 0), static_cast<int>(n_tasks));
      for (const int n : hits) EXPECT_EQ(n, 1);
    }
  }
}

TEST(ThreadPool, WakesSleepingWorkers) {
  ThreadPool pool(2);
  for (int loop = 0; loop < 5; ++loop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::atomic<int> sum{0};
    pool.parallel_for(100, [&](size_t task, int) { sum += static_cast<int>(task); });
    EXPECT_EQ(sum.load(), 4950);
  }
}

TEST(ThreadPool, ResultsAreVisibleToTheCaller) {
  ThreadPool pool(3);
  std::vector<uint64_t> values(1000);
  for (uint64_t loop = 1; loop < 500; ++loop) {
    pool.parallel_for(values.size(), [&](size_t task, int) { values[task] = loop * task; });
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], loop * i);
  }
}

// Task 0 returns only when all others have: the rest of its thread's share must be taken by another.
TEST(ThreadPool, TakesOverTheShareOfAThreadThatIsBusy) {
  constexpr int kTasks = 100;
  ThreadPool pool(2);
  std::atomic<int> others_done{0};
  pool.parallel_for(kTasks, [&](size_t task, int) {
    if (task != 0) {
      ++others_done;
      return;
    }
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (others_done.load() < kTasks - 1 && std::chrono::steady_clock::now() < give_up)
      std::this_thread::yield();
    EXPECT_EQ(others_done.load(), kTasks - 1);
  });
}

TEST(ThreadPool, BindsWorkersToOneCpuEachOnRequest) {
  ThreadPool pool(2, ThreadPool::Pinning::kOneCpuEach);
  std::atomic<bool> worker_seen{false};
  pool.parallel_for(2, [&](size_t, int thread) {
    if (thread == 0) {
      const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (!worker_seen.load() && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
      return;
    }
    cpu_set_t cpus;
    EXPECT_EQ(sched_getaffinity(0, sizeof cpus, &cpus), 0);
    EXPECT_EQ(CPU_COUNT(&cpus), 1);
    worker_seen = true;
  });
  EXPECT_TRUE(worker_seen.load());
}

// In a process of its own: with room for a few stacks only. True if the pool is smaller than asked and works.
bool works_with_few_threads() {
  constexpr int kAsked = 64;
  const auto page = static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
  rlim_t n_pages = 0;
  std::ifstream("/proc/self/statm") >> n_pages;
  const rlim_t room = n_pages * page + (rlim_t{64} << 20);
  const rlimit limit{room, room};
  if (setrlimit(RLIMIT_AS, &limit) != 0) return false;
  ThreadPool pool(kAsked);
  std::atomic<int> sum{0};
  pool.parallel_for(100, [&](size_t task, int) { sum += static_cast<int>(task); });
  return pool.n_threads() < kAsked && sum.load() == 4950;
}

TEST(ThreadPool, MakesDoWithTheThreadsItGets) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer needs the address space itself";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "a sanitizer needs the address space itself";
#endif
#endif
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(works_with_few_threads() ? 0 : 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(DefaultThreads, AreAtMostThePhysicalCores) {
  EXPECT_GE(default_threads(), 1);
  EXPECT_LE(default_threads(), physical_cores());
}

}  // namespace
}  // namespace ruvltra

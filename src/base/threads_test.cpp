#include "base/threads.h"

#include <gtest/gtest.h>

#include <numeric>
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

TEST(PhysicalCores, IsPositive) { EXPECT_GE(physical_cores(), 1); }

}  // namespace
}  // namespace ruvltra

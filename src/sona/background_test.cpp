#include "sona/background.h"

#include <gtest/gtest.h>

#include <atomic>
#include <semaphore>
#include <vector>

namespace ruvltra {
namespace {

TEST(Background, TasksAreDoneInOrderAndBeforeTheEnd) {
  std::vector<int> done;
  std::binary_semaphore go{0};
  {
    Background background(3, [] { return false; });
    ASSERT_TRUE(background.post([&] { go.acquire(); }));
    while (!background.post([&] { done.push_back(0); })) {
    }
    int n_taken = 1;
    for (int i = 1; i < 10; ++i) {
      if (background.post([&done, i] { done.push_back(i); })) ++n_taken;
    }
    EXPECT_LE(n_taken, 3);  // the others were refused
    EXPECT_GE(n_taken, 2);
    go.release();
  }
  EXPECT_GE(done.size(), 2u);
  for (size_t i = 0; i < done.size(); ++i) EXPECT_EQ(done[i], static_cast<int>(i));
}

TEST(Background, UpkeepGoesOnWhileThereIsSomeAndWhenWoken) {
  std::atomic<int> n{0};
  std::counting_semaphore<100> portion{0};
  {
    Background background(3, [&] {
      const bool more = ++n % 5 != 0;
      portion.release();
      return more;
    });
    for (int i = 0; i < 5; ++i) portion.acquire();
    background.wake();
    for (int i = 0; i < 5; ++i) portion.acquire();
  }
  EXPECT_EQ(n, 10);
}

}  // namespace
}  // namespace ruvltra

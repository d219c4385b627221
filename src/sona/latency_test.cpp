#include "sona/latency.h"

#include <gtest/gtest.h>

namespace ruvltra {
namespace {

TEST(LatencyHistogram, QuantilesOfKnownDurations) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.quantile_us(0.5), 0);
  for (int i = 1; i <= 1000; ++i) histogram.add(std::chrono::microseconds(i));
  EXPECT_NEAR(histogram.quantile_us(0.5), 500, 50);
  EXPECT_NEAR(histogram.quantile_us(0.99), 990, 99);
  histogram.add(std::chrono::hours(10));  // beyond the last bin
  histogram.add(std::chrono::nanoseconds(0));
  EXPECT_GT(histogram.quantile_us(1), 1e9 / 2);
}

}  // namespace
}  // namespace ruvltra

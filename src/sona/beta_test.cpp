#include "sona/beta.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ruvltra {
namespace {

// The distribution function by Simpson's rule on t = sin^2(u), under which the density has no pole at the
// ends for a, b >= 1/2: independent of the library that inverts it.
double beta_cdf(double a, double b, double x) {
  const double log_norm = std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b);
  const int n = 20000;
  const double end = std::asin(std::sqrt(x)), h = end / n;
  const auto f = [&](double u) {
    const double s = std::sin(u), c = std::cos(u);
    if (s == 0 || c == 0) return 0.0;
    return 2 * std::exp(log_norm + (2 * a - 1) * std::log(s) + (2 * b - 1) * std::log(c));
  };
  double sum = f(0) + f(end);
  for (int i = 1; i < n; ++i) sum += (i % 2 == 1 ? 4 : 2) * f(i * h);
  return sum * h / 3;
}

TEST(Beta, LowerBoundsOfTheDesign) {
  EXPECT_NEAR(beta_lcb({1, 1}), 0.0500, 5e-5);
  EXPECT_NEAR(beta_lcb({3, 1}), 0.3684, 5e-5);  // 0.05^(1/3)
  EXPECT_NEAR(beta_lcb({2, 2}), 0.1354, 5e-5);
  EXPECT_NEAR(beta_lcb({10, 2}), 0.6356, 5e-5);
}

TEST(Beta, IsTheFivePercentQuantile) {
  for (const double a : {1.0, 1.5, 2.6, 7.0, 40.0, 300.0}) {
    for (const double b : {1.0, 1.4, 3.0, 25.0, 200.0}) {
      EXPECT_NEAR(beta_cdf(a, b, beta_lcb({a, b})), 0.05, 1e-6) << a << " " << b;
    }
  }
}

TEST(Beta, HugeCountsStayInRange) {
  for (const double a : {1e-3, 1.0, 1e6, 1e12}) {
    for (const double b : {1e-3, 1.0, 1e6, 1e12}) {
      const double x = beta_lcb({a, b});
      EXPECT_GE(x, 0) << a << " " << b;
      EXPECT_LE(x, 1) << a << " " << b;
    }
  }
  EXPECT_NEAR(beta_lcb({1e8, 1e8}), 0.5, 1e-3);
}

TEST(Beta, StartsFromQualityAndIsSwappedForAvoid) {
  const BetaCounts good = beta_start(PatternKind::kStrategy, 0.9);
  EXPECT_DOUBLE_EQ(good.a, 2.8);
  EXPECT_DOUBLE_EQ(good.b, 1.2);
  const BetaCounts avoid = beta_start(PatternKind::kAvoid, 0);
  EXPECT_DOUBLE_EQ(avoid.a, 3);
  EXPECT_DOUBLE_EQ(avoid.b, 1);
}

// A fresh item passes the gate of injection from a quality of about 0.8, or after one confirmed use.
TEST(Beta, FreshItemsAndTheGate) {
  EXPECT_LT(beta_lcb(beta_start(PatternKind::kStrategy, 0.7)), 0.25);
  EXPECT_GT(beta_lcb(beta_start(PatternKind::kStrategy, 0.85)), 0.25);
  BetaCounts used = beta_start(PatternKind::kStrategy, 0.7);
  used.a += 1;
  EXPECT_GT(beta_lcb(used), 0.25);
}

TEST(Beta, RecencyHalvesInThirtyDays) {
  const int64_t day = 24ll * 3600 * 1000000;
  EXPECT_DOUBLE_EQ(recency(100 * day, 100 * day), 1);
  EXPECT_DOUBLE_EQ(recency(100 * day, 70 * day), 0.5);
  EXPECT_DOUBLE_EQ(recency(100 * day, 40 * day), 0.25);
  EXPECT_DOUBLE_EQ(recency(100 * day, 101 * day), 1);
}

TEST(Beta, LastingValueOrdersAsLcbTimesRecencyAtAnyTime) {
  const int64_t day = 24ll * 3600 * 1000000;
  const struct {
    double lcb;
    int64_t used;
  } items[] = {{0.3, 1000 * day}, {0.6, 969 * day}, {0.05, 1001 * day}, {0.9, 900 * day}, {0.36, 999 * day}};
  for (const int64_t now : {1001 * day, 1100 * day, 1900 * day}) {
    for (const auto& x : items) {
      for (const auto& y : items) {
        const bool less = x.lcb * recency(now, x.used) < y.lcb * recency(now, y.used);
        EXPECT_EQ(less, lasting_value(x.lcb, x.used) < lasting_value(y.lcb, y.used));
      }
    }
  }
  EXPECT_TRUE(std::isfinite(lasting_value(0, 0)));
}

}  // namespace
}  // namespace ruvltra

#include "sona/ewc.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/num.h"

namespace ruvltra {
namespace {

TEST(Ewc, NoAnchorBeforeTheFirstBoundary) {
  Ewc ewc(2, 1000);
  ewc.observe(std::vector<double>{1, 3});
  EXPECT_EQ(ewc.curvature(), (std::vector<double>{0, 0}));
  // One batch is measured whole, whatever share of the running average it fills.
  EXPECT_NEAR(ewc.kappa(), 2, 1e-12);
}

TEST(Ewc, CurvatureIsRhoKappaTimesTheNormalisedFisher) {
  Ewc ewc(2, 2000);
  ewc.observe(std::vector<double>{1, 3});
  ewc.boundary(std::vector<float>{5, 6});
  ewc.observe(std::vector<double>{10, 20});
  const std::vector<double> a1 = ewc.curvature();  // rho 3, kappa 15, F* / mean 0.5 and 1.5
  EXPECT_NEAR(a1[0], 3 * 15 * 0.5, 1e-9);
  EXPECT_NEAR(a1[1], 3 * 15 * 1.5, 1e-9);
  EXPECT_NEAR(ewc.penalty(std::vector<float>{6, 6}, a1), 0.5 * a1[0], 1e-9);
  // Scaling the new data's loss scales the pull with it; the old Fisher's own scale does not matter.
  Ewc other(2, 2000);
  other.observe(std::vector<double>{100, 300});
  other.boundary(std::vector<float>{5, 6});
  other.observe(std::vector<double>{10, 20});
  EXPECT_NEAR(other.curvature()[0], a1[0], 1e-9);
}

TEST(Ewc, BoundaryKeepsMostOfWhatWasImportant) {
  Ewc ewc(1, 1000);
  ewc.observe(std::vector<double>{2});
  ewc.boundary(std::vector<float>{0});
  EXPECT_NEAR(ewc.importance()[0], 2, 1e-12);
  for (int i = 0; i < 3; ++i) ewc.observe(std::vector<double>{4});
  ewc.boundary(std::vector<float>{1});
  EXPECT_NEAR(ewc.importance()[0], 0.95 * 2 + 4, 1e-9);
  EXPECT_EQ(ewc.anchor()[0], 1);
}

// A fit that ended at a bound has a slope there. It is carried to the next anchor along the curvature.
TEST(Ewc, TheSlopeAtTheAnchorIsKeptAndCarriedOn) {
  Ewc ewc(2, 2000);
  ewc.observe(std::vector<double>{1, 3});
  ewc.boundary(std::vector<float>{5, 6}, std::vector<double>{0.5, -2});
  ewc.observe(std::vector<double>{10, 20});
  const auto first = ewc.slope();  // half of rho 3, kappa 15, 1 / mean(F*) = 1 / 2
  EXPECT_NEAR(first[0], 0.5 * 3 * 15 / 2.0 * 0.5, 1e-9);
  EXPECT_NEAR(first[1], 0.5 * 3 * 15 / 2.0 * -2, 1e-9);
  ewc.boundary(std::vector<float>{6, 6}, std::vector<double>{1, 1});
  const auto state = ewc.state();  // 0.95 (G* + F* (live - B*)) + gradient
  EXPECT_NEAR(state.slope[0], 0.95 * (0.5 + 1 * 1) + 1, 1e-9);
  EXPECT_NEAR(state.slope[1], 0.95 * -2 + 1, 1e-9);
  ewc.observe(std::vector<double>{1, 1});
  ewc.set_lambda(0);
  EXPECT_EQ(ewc.slope(), (std::vector<double>{0, 0}));
}

// Where the steps end: the minimum of g-quadratic + a0/2 B^2 + a1/2 (B - B*)^2, for any step size.
TEST(Ewc, ProximalStepsEndInTheClosedFormMinimum) {
  for (const double e : {0.01, 0.5, 0.9}) {
    Ewc ewc(1, 4000);
    ewc.observe(std::vector<double>{1});
    ewc.boundary(std::vector<float>{3});
    ewc.observe(std::vector<double>{1});
    const std::vector<double> a1 = ewc.curvature();
    std::vector<float> b = {0};
    for (int i = 0; i < 5000; ++i) ewc.proximal_step(b, std::vector<double>{b[0] - 1.0}, e, 0.5, a1);
    EXPECT_NEAR(b[0], (1 + a1[0] * 3) / (1 + 0.5 + a1[0]), 1e-4) << e;
  }
}

double noise(uint32_t i) {
  double sum = 0;
  for (uint32_t k = 0; k < 12; ++k) sum += philox_uniform(11, i, k, 1);
  return sum - 6;  // mean 0, deviation 1
}

TEST(PageHinkley, SeesAShiftSoonAndHardlyEverAlarmsWithoutOne) {
  PageHinkley quiet;
  size_t n_false = 0;
  for (uint32_t i = 0; i < 3000; ++i) n_false += quiet.add(2 + 0.3 * noise(i));
  EXPECT_LE(n_false, 2u);
  PageHinkley shifted;
  for (uint32_t i = 0; i < 100; ++i) ASSERT_FALSE(shifted.add(2 + 0.3 * noise(i)));
  size_t seen = 0;
  for (uint32_t i = 0; i < 60 && seen == 0; ++i) {
    if (shifted.add(2.9 + 0.3 * noise(1000 + i))) seen = i + 1;
  }
  EXPECT_GT(seen, 0u);
  EXPECT_LE(seen, 10u);
  // The suspects reach back to where it began.
  EXPECT_GE(shifted.n_suspect() + 1, seen);
  EXPECT_LE(shifted.n_suspect(), seen + 8);
}

// With a cool-down a rise that follows a false alarm is still seen; without, it becomes the measure.
TEST(PageHinkley, AfterACoolDownItStillKnowsWhatWasNormal) {
  PageHinkley::Options options;
  const auto first_after = [&options](size_t cool_down) {
    options.cool_down = cool_down;
    PageHinkley detector(options);
    for (uint32_t i = 0; i < 60; ++i) detector.add(1 + 0.1 * noise(i));
    bool alarmed = false;
    for (int i = 0; i < 5 && !alarmed; ++i) alarmed = detector.add(3);  // a burst
    EXPECT_TRUE(alarmed);
    for (size_t i = 1; i <= 60; ++i) {
      if (detector.add(3 + 0.1 * noise(static_cast<uint32_t>(100 + i)))) return i;  // and it stays
    }
    return size_t{0};
  };
  EXPECT_EQ(first_after(0), 0u);
  EXPECT_GT(first_after(5), 5u);
  EXPECT_LE(first_after(5), 10u);
}

// What follows a high value is high, too: to one that takes neighbours for independent, a rise now and then.
TEST(PageHinkley, NeighboursThatAreAlikeAreNoRise) {
  const auto n_alarms = [](double most_correlation, double rise, uint32_t n_values) {
    PageHinkley::Options options;
    options.most_correlation = most_correlation;
    PageHinkley detector(options);
    size_t n = 0;
    double value = 0;
    for (uint32_t i = 0; i < n_values; ++i) {
      value = 0.5 * value + 0.3 * noise(i);
      n += detector.add(2 + value + (i < 300 ? 0 : rise));
    }
    return n;
  };
  EXPECT_GE(n_alarms(0, 0, 3000), 5u);
  EXPECT_LE(n_alarms(0.8, 0, 3000), 1u);
  EXPECT_EQ(n_alarms(0.8, 0, 300), 0u);
  EXPECT_EQ(n_alarms(0.8, 1.2, 320), 1u);
}

TEST(PageHinkley, AFallIsNoAlarm) {
  PageHinkley detector;
  for (uint32_t i = 0; i < 400; ++i) EXPECT_FALSE(detector.add(i < 100 ? 2.0 : 0.5));
}

}  // namespace
}  // namespace ruvltra

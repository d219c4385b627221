#include "model/adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace ruvltra {
namespace {

struct World {
  size_t d, rank = 4, n_taps = 3, m = 13;
  std::vector<int> layers = {1, 2, 3};
  std::vector<float> a, mu, inverse_sigma, b, h;
  std::vector<std::vector<float>> x;
  std::vector<const float*> taps;
  AdapterView view;

  explicit World(size_t width, float size) : d(width) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& values, size_t n, float scale) {
      values.resize(n);
      for (float& value : values) value = scale * normal(random);
    };
    fill(a, n_taps * rank * d, 0.3f);
    fill(mu, n_taps * rank, 1);
    fill(inverse_sigma, n_taps * rank, 1);
    for (float& value : inverse_sigma) value = std::abs(value) + 0.1f;
    fill(b, m * d, size);
    fill(h, d, 1);
    x.resize(n_taps);
    for (auto& tap : x) {
      fill(tap, d, 5);
      taps.push_back(tap.data());
    }
    view.features = {d, rank, n_taps, layers.data(), a.data(), mu.data(), inverse_sigma.data(), 1e-6f};
    view.b = b.data();
    view.scale = 1 / std::sqrt(13.0f);
  }
};

// In double, straight from the formula.
std::vector<double> reference_features(const World& w) {
  std::vector<double> phi;
  for (size_t t = 0; t < w.n_taps; ++t) {
    double square = 0;
    for (const float value : w.x[t]) square += static_cast<double>(value) * static_cast<double>(value);
    const double rms = std::sqrt(square / static_cast<double>(w.d) + 1e-6);
    for (size_t k = 0; k < w.rank; ++k) {
      const size_t row = t * w.rank + k;
      double product = 0;
      for (size_t i = 0; i < w.d; ++i)
        product += static_cast<double>(w.a[row * w.d + i]) * static_cast<double>(w.x[t][i]) / rms;
      const double feature =
          (product - static_cast<double>(w.mu[row])) * static_cast<double>(w.inverse_sigma[row]);
      phi.push_back(std::min(4.0, std::max(-4.0, feature)));
    }
  }
  phi.push_back(1);
  return phi;
}

TEST(AdapterTest, FeaturesFollowTheFormula) {
  size_t n_clipped = 0;
  for (const size_t d : {32u, 100u, 257u}) {
    const World w(d, 0.01f);
    std::vector<float> phi(w.m);
    adapter_features(w.view.features, w.taps.data(), phi.data());
    const auto expected = reference_features(w);
    for (size_t i = 0; i < w.m; ++i) {
      EXPECT_NEAR(static_cast<double>(phi[i]), expected[i], 2e-5) << d << " " << i;
      n_clipped += i + 1 < w.m && std::abs(phi[i]) == 4;
    }
  }
  EXPECT_GT(n_clipped, 0u);
}

TEST(AdapterTest, DeltaFollowsTheFormula) {
  const World w(100, 1e-3f);
  std::vector<float> phi(w.m), delta(w.d);
  adapter_features(w.view.features, w.taps.data(), phi.data());
  const DeltaNorms norms = adapter_delta(w.view, phi.data(), w.h.data(), delta.data());
  EXPECT_FALSE(norms.clamped);
  double square = 0, hidden = 0;
  for (size_t i = 0; i < w.d; ++i) {
    double expected = 0;
    for (size_t j = 0; j < w.m; ++j)
      expected += static_cast<double>(w.b[j * w.d + i]) * static_cast<double>(phi[j]) / std::sqrt(13.0);
    EXPECT_NEAR(static_cast<double>(delta[i]), expected, 1e-7);
    square += expected * expected;
    hidden += static_cast<double>(w.h[i]) * static_cast<double>(w.h[i]);
  }
  EXPECT_NEAR(norms.delta, std::sqrt(square), 1e-6);
  EXPECT_NEAR(norms.hidden, std::sqrt(hidden), 1e-6);
}

TEST(AdapterTest, DeltaIsAtMostFivePercentOfTheHiddenState) {
  const World w(100, 1.0f);
  std::vector<float> phi(w.m), delta(w.d), free(w.d);
  adapter_features(w.view.features, w.taps.data(), phi.data());
  const DeltaNorms norms = adapter_delta(w.view, phi.data(), w.h.data(), delta.data());
  EXPECT_TRUE(norms.clamped);
  EXPECT_GT(norms.delta, norms.hidden);
  EXPECT_NEAR(euclidean_norm(delta.data(), w.d), 0.05 * norms.hidden, 1e-5 * norms.hidden);
  // The direction stays.
  auto long_h = w.h;
  for (float& value : long_h) value *= 1000;
  EXPECT_FALSE(adapter_delta(w.view, phi.data(), long_h.data(), free.data()).clamped);
  for (size_t i = 0; i < w.d; ++i) {
    const double ratio = 0.05 * norms.hidden / norms.delta;
    EXPECT_NEAR(static_cast<double>(delta[i]), ratio * static_cast<double>(free[i]), 1e-5);
  }
}

TEST(AdapterTest, AnOverflowAddsNothing) {
  World w(64, 1.0f);
  for (float& value : w.b) value = 3e38f;
  std::vector<float> phi(w.m, 4), delta(w.d, 7);
  EXPECT_TRUE(adapter_delta(w.view, phi.data(), w.h.data(), delta.data()).clamped);
  EXPECT_EQ(delta, std::vector<float>(w.d, 0));
}

}  // namespace
}  // namespace ruvltra

#include "sona/hook_basis.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <random>

namespace ruvltra {
namespace {

constexpr Sha256Digest kModel = {1, 2, 3};

// (n_texts, layers, d): each layer a few strong directions, a mean and noise.
std::vector<float> planted_states(size_t n_texts, size_t n_layers, size_t d, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> axes(n_layers * 4 * d), states(n_texts * n_layers * d);
  for (float& value : axes) value = normal(random);
  for (size_t t = 0; t < n_texts; ++t) {
    for (size_t l = 0; l < n_layers; ++l) {
      const float c[] = {4 * normal(random), 2 * normal(random), normal(random), 0.5f * normal(random)};
      for (size_t i = 0; i < d; ++i) {
        float value = 3.0f + static_cast<float>(l) + 0.05f * normal(random);
        for (size_t k = 0; k < 4; ++k) value += c[k] * axes[(l * 4 + k) * d + i];
        states[(t * n_layers + l) * d + i] = value;
      }
    }
  }
  return states;
}

class HookBasisTest : public testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() / ("ruvltra-basis-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::filesystem::path folder;
};

// What whitening promises, checked on the data itself: with as many directions as dimensions the images'
// squared length is the Mahalanobis distance of the ridged covariance, here solved by Gaussian elimination.
TEST_F(HookBasisTest, DirectionsWhitenTheRidgedCovariance) {
  const size_t n = 400, d = 12;
  const auto states = planted_states(n, 1, d, 5);
  const HookBasis basis = *HookBasis::fit(kModel, {3}, d, states);
  ASSERT_EQ(basis.n_directions(), d);
  std::vector<double> mean(d), covariance(d * d);
  for (size_t t = 0; t < n; ++t)
    for (size_t i = 0; i < d; ++i) mean[i] += static_cast<double>(states[t * d + i]) / static_cast<double>(n);
  const auto centred = [&](size_t t, size_t i) { return static_cast<double>(states[t * d + i]) - mean[i]; };
  double trace = 0;
  for (size_t i = 0; i < d; ++i) {
    for (size_t j = 0; j < d; ++j)
      for (size_t t = 0; t < n; ++t)
        covariance[i * d + j] += centred(t, i) * centred(t, j) / static_cast<double>(n);
    trace += covariance[i * d + i];
  }
  for (size_t i = 0; i < d; ++i) covariance[i * d + i] += 0.1 * trace / static_cast<double>(d);
  // cos(e_s, e_t) = s' C^-1 t / sqrt(s' C^-1 s  t' C^-1 t)
  const auto solve = [&](size_t t) {
    std::vector<double> a = covariance, x(d);
    for (size_t i = 0; i < d; ++i) x[i] = centred(t, i);
    for (size_t i = 0; i < d; ++i) {
      for (size_t j = i + 1; j < d; ++j) {
        const double factor = a[j * d + i] / a[i * d + i];
        for (size_t k = i; k < d; ++k) a[j * d + k] -= factor * a[i * d + k];
        x[j] -= factor * x[i];
      }
    }
    for (size_t i = d; i-- > 0;) {
      for (size_t k = i + 1; k < d; ++k) x[i] -= a[i * d + k] * x[k];
      x[i] /= a[i * d + i];
    }
    return x;
  };
  const auto product = [&](size_t s, size_t t) {
    const auto x = solve(t);
    double sum = 0;
    for (size_t i = 0; i < d; ++i) sum += centred(s, i) * x[i];
    return sum;
  };
  std::vector<float> a(kEmbeddingDim), b(kEmbeddingDim);
  for (size_t t = 0; t < 20; ++t) {
    ASSERT_TRUE(basis.embed(0, std::span(states).subspan(t * d, d), a));
    ASSERT_TRUE(basis.embed(0, std::span(states).subspan((t + 1) * d, d), b));
    double cosine = 0;
    for (size_t i = 0; i < kEmbeddingDim; ++i)
      cosine += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    EXPECT_NEAR(cosine, product(t, t + 1) / std::sqrt(product(t, t) * product(t + 1, t + 1)), 1e-4);
  }
}

// With fewer texts than dimensions the same directions come from the Gram matrix: padding every state with
// zeros changes no embedding.
TEST_F(HookBasisTest, ZerosAppendedToStatesChangeNothing) {
  const size_t n = 60, d = 20, wide = 100;
  const auto states = planted_states(n, 1, d, 11);
  std::vector<float> padded(n * wide);
  for (size_t t = 0; t < n; ++t) std::copy_n(states.data() + t * d, d, padded.data() + t * wide);
  const HookBasis narrow = *HookBasis::fit(kModel, {0}, d, states);
  const HookBasis gram = *HookBasis::fit(kModel, {0}, wide, padded);
  EXPECT_EQ(narrow.n_directions(), 20u);
  EXPECT_EQ(gram.n_directions(), 30u);  // ten of them empty
  std::vector<float> a(kEmbeddingDim), b(kEmbeddingDim);
  for (size_t t = 0; t < n; ++t) {
    ASSERT_TRUE(narrow.embed(0, std::span(states).subspan(t * d, d), a));
    ASSERT_TRUE(gram.embed(0, std::span(padded).subspan(t * wide, wide), b));
    double cosine = 0;
    for (size_t i = 0; i < kEmbeddingDim; ++i)
      cosine += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    EXPECT_NEAR(cosine, 1, 1e-5);
  }
}

TEST_F(HookBasisTest, TheMeanHasNoDirection) {
  const size_t d = 16;
  std::vector<float> states;
  for (int t = 0; t < 8; ++t)
    for (size_t i = 0; i < d; ++i)
      states.push_back(7 + (i == 2 ? static_cast<float>(t % 2 == 0 ? 1 : -1) : 0));
  const HookBasis basis = *HookBasis::fit(kModel, {0}, d, states);
  std::vector<float> x(d, 7.0f), e(kEmbeddingDim);
  EXPECT_FALSE(basis.embed(0, x, e));
  x[2] = 7.5f;
  ASSERT_TRUE(basis.embed(0, x, e));
  EXPECT_FLOAT_EQ(e[0], 1);
  x[2] = 6.5f;
  ASSERT_TRUE(basis.embed(0, x, e));
  EXPECT_FLOAT_EQ(e[0], -1);
}

TEST_F(HookBasisTest, EachLayerHasItsOwn) {
  const auto states = planted_states(60, 2, 20, 9);
  std::vector<float> second;
  for (size_t t = 0; t < 60; ++t)
    second.insert(second.end(), states.begin() + static_cast<std::ptrdiff_t>((t * 2 + 1) * 20),
                  states.begin() + static_cast<std::ptrdiff_t>((t * 2 + 2) * 20));
  const HookBasis both = *HookBasis::fit(kModel, {1, 2}, 20, states);
  const HookBasis one = *HookBasis::fit(kModel, {2}, 20, second);
  std::vector<float> a(kEmbeddingDim), b(kEmbeddingDim), c(kEmbeddingDim);
  const auto x = std::span(second).first(20);
  ASSERT_TRUE(both.embed(1, x, a) && one.embed(0, x, b) && both.embed(0, x, c));
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

TEST_F(HookBasisTest, TheSpaceNamesModelLayersAndNumbers) {
  const auto states = planted_states(60, 1, 20, 9);
  const uint64_t space = HookBasis::fit(kModel, {1}, 20, states)->space();
  EXPECT_EQ(HookBasis::fit(kModel, {1}, 20, states)->space(), space);
  EXPECT_NE(HookBasis::fit(Sha256Digest{9}, {1}, 20, states)->space(), space);
  EXPECT_NE(HookBasis::fit(kModel, {2}, 20, states)->space(), space);
  auto moved = states;
  moved[5] += 1;
  EXPECT_NE(HookBasis::fit(kModel, {1}, 20, moved)->space(), space);
}

TEST_F(HookBasisTest, AFileGivesTheSameBasisOrAnError) {
  const auto file = folder / "basis.rvc";
  const auto states = planted_states(60, 2, 20, 9);
  const HookBasis basis = *HookBasis::fit(kModel, {1, 2}, 20, states);
  ASSERT_TRUE(basis.save(file));
  const std::vector<int> layers = {1, 2}, others = {1, 3};
  const auto loaded = HookBasis::load(file, kModel, layers, 20);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->space(), basis.space());
  std::vector<float> a(kEmbeddingDim), b(kEmbeddingDim);
  const auto x = std::span(states).first(20);
  ASSERT_TRUE(loaded->embed(0, x, a) && basis.embed(0, x, b));
  EXPECT_EQ(a, b);
  EXPECT_EQ(HookBasis::load(file, Sha256Digest{4}, layers, 20).error().id, "container.model_mismatch");
  EXPECT_EQ(HookBasis::load(file, kModel, others, 20).error().id, "basis.layers");
  EXPECT_FALSE(HookBasis::load(file, kModel, layers, 24));
  EXPECT_EQ(HookBasis::load(folder / "none", kModel, layers, 20).error().id, "file.not_found");
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(1000);
  stream.put('\x7f');
  stream.close();
  EXPECT_FALSE(HookBasis::load(file, kModel, layers, 20));
}

TEST_F(HookBasisTest, RefusesWhatCannotBeFitted) {
  EXPECT_EQ(HookBasis::fit(kModel, {1}, 20, std::vector<float>(60)).error().id, "learning.few_texts");
  std::vector<float> states(20 * 20, 1);
  states[7] = NAN;
  EXPECT_EQ(HookBasis::fit(kModel, {1}, 20, states).error().id, "learning.not_finite");
}

// States that are all the same have no direction; none is invented.
TEST_F(HookBasisTest, SameStatesHaveNoDirection) {
  const HookBasis basis = *HookBasis::fit(kModel, {1}, 20, std::vector<float>(20 * 20, 2));
  std::vector<float> e(kEmbeddingDim);
  EXPECT_FALSE(basis.embed(0, std::vector<float>(20, 5), e));
}

}  // namespace
}  // namespace ruvltra

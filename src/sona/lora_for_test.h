// A random output matrix with random hidden states and features, and the full softmax in double precision:
// what the tests of MicroLoRA compare with.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "base/threads.h"
#include "kernels/dispatch.h"
#include "sona/lora_gradient.h"

namespace ruvltra::testing {

// Draws of a randomised test: n / 20, or n itself with RUVLTRA_FULL_TESTS set.
inline int n_draws(int n) { return std::getenv("RUVLTRA_FULL_TESTS") != nullptr ? n : std::max(1, n / 20); }

struct LoraWorld {
  size_t n_rows, d, m;
  ThreadPool pool;
  Ctx ctx;
  std::mt19937 random;
  std::vector<float> w;  // (V, d)
  PackedMatrix matrix;
  std::unique_ptr<OutputHead> head;
  float scale;

  // sharpness: deviation of the logits of h ~ N(0, 1).
  LoraWorld(size_t rows, size_t width, size_t features, uint32_t seed, double sharpness = 2, int threads = 2)
      : n_rows(rows), d(width), m(features), pool(threads), random(seed) {
    auto table = kernel_table("");
    EXPECT_TRUE(table);
    ctx = {&pool, *table};
    w.resize(n_rows * d);
    const auto size = static_cast<float>(sharpness / std::sqrt(static_cast<double>(d)));
    std::vector<float> common(d);  // rows of real models have a mean
    for (float& value : common) value = 0.3f * size * normal();
    for (size_t i = 0; i < w.size(); ++i) w[i] = size * normal() + common[i % d];
    auto packed = PackedMatrix::pack(ctx, "w", TensorType::kF32, n_rows, d,
                                     [&](size_t begin, size_t n, std::span<uint8_t> out) -> Result<void> {
                                       std::memcpy(out.data(), w.data() + begin * d, n * d * sizeof(float));
                                       return {};
                                     });
    EXPECT_TRUE(packed);
    matrix = std::move(*packed);
    auto made = OutputHead::make(ctx, matrix, n_rows);
    EXPECT_TRUE(made);
    head = std::make_unique<OutputHead>(std::move(*made));
    scale = static_cast<float>(1 / std::sqrt(static_cast<double>(m)));
  }

  float normal() { return std::normal_distribution<float>()(random); }
  std::vector<float> normals(size_t n, float size = 1) {
    std::vector<float> values(n);
    for (float& value : values) value = size * normal();
    return values;
  }
  std::vector<float> features() {
    auto phi = normals(m);
    phi.back() = 1;
    return phi;
  }
  // |s B phi| is about `size` |h| for h ~ N(0, 1).
  std::vector<float> adapter(float size) { return normals(m * d, size); }

  // z = W (h + s B phi), in double; b may be empty.
  std::vector<double> logits(std::span<const float> h, std::span<const float> phi,
                             std::span<const double> b) const {
    std::vector<double> x(h.begin(), h.end()), z(n_rows, 0);
    for (size_t j = 0; j < m && !b.empty(); ++j)
      for (size_t i = 0; i < d; ++i)
        x[i] += static_cast<double>(scale) * static_cast<double>(phi[j]) * b[j * d + i];
    for (size_t v = 0; v < n_rows; ++v)
      for (size_t i = 0; i < d; ++i) z[v] += static_cast<double>(w[v * d + i]) * x[i];
    return z;
  }
  static std::vector<double> doubles(std::span<const float> values) { return {values.begin(), values.end()}; }
};

inline double log_sum_exp(std::span<const double> z) {
  double largest = z[0], sum = 0;
  for (const double value : z) largest = std::max(largest, value);
  for (const double value : z) sum += std::exp(value - largest);
  return largest + std::log(sum);
}
inline std::vector<double> softmax(std::span<const double> z) {
  const double lse = log_sum_exp(z);
  std::vector<double> p;
  for (const double value : z) p.push_back(std::exp(value - lse));
  return p;
}

// A token of the world: context, its logits at `b`, and y drawn from them.
struct LoraToken {
  std::vector<float> h, phi;
  uint32_t y = 0;
};
inline LoraToken draw_token(LoraWorld& world, std::span<const double> b = {}) {
  LoraToken token{world.normals(world.d), world.features(), 0};
  const auto p = softmax(world.logits(token.h, token.phi, b));
  token.y = static_cast<uint32_t>(std::discrete_distribution<size_t>(p.begin(), p.end())(world.random));
  return token;
}

// A basis of rank 2 with one hook, measured on noise: m = 5.
inline std::shared_ptr<const AdapterBasis> rank_two_basis(LoraWorld& world) {
  BasisSpec spec;
  spec.n_layers = 4;
  spec.d_model = static_cast<uint32_t>(world.d);
  spec.layers = {1};
  spec.rank = 2;
  auto builder = *BasisBuilder::make(spec);
  for (size_t i = 0; i < kMinBasisTokens; ++i) {
    const auto x = world.normals(world.d);
    const float* taps[] = {x.data(), x.data()};
    builder.add(taps);
  }
  return std::make_shared<const AdapterBasis>(*std::move(builder).finish());
}

inline bool record_token(const LoraWorld& world, TokenRecords& records, const LoraToken& token,
                         std::span<const double> b = {}, uint32_t reference = 0) {
  const auto z = world.logits(token.h, token.phi, b);
  const std::vector<float> logits(z.begin(), z.end());
  return records.add(logits, token.y, token.phi, static_cast<float>(euclidean_norm(token.h.data(), world.d)),
                     reference);
}

inline std::vector<Example> all_of(const TokenRecords& records) {
  std::vector<Example> examples;
  for (size_t i = 0; i < records.size(); ++i) examples.push_back({static_cast<uint32_t>(i), 1});
  return examples;
}

// |a - b| / |b|
template <class A, class B>
double relative_error(const A& a, const B& b) {
  double difference = 0, norm = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < b.size(); ++i) {
    const double away = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += away * away;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(difference / norm);
}

}  // namespace ruvltra::testing

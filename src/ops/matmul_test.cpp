#include "ops/matmul.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/num.h"
#include "kernels/dispatch.h"
#include "ops/autotune.h"

namespace ruvltra {
namespace {

std::vector<float> random_values(size_t n, uint64_t seed, float scale = 1) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) {
    values[i] = scale * static_cast<float>(philox_uniform(seed, static_cast<uint32_t>(i), 0, 0) * 2 - 1);
  }
  return values;
}

// A random matrix in `type` and its decoded weights.
struct Matrix {
  PackedMatrix packed;
  std::vector<float> weights;  // (n_rows, k)
};

Matrix make_matrix(const Ctx& ctx, TensorType type, size_t n_rows, size_t k, uint64_t seed) {
  const Format& format = format_of(type);
  const std::vector<float> values = random_values(n_rows * k, seed);
  std::vector<uint8_t> file(n_rows * format.row_bytes(k));
  format.encode(values.data(), file.data(), n_rows * k, nullptr);
  Matrix matrix;
  matrix.weights.resize(n_rows * k);
  format.decode(file.data(), matrix.weights.data(), n_rows * k);
  auto packed = PackedMatrix::pack(
      ctx, "w", type, n_rows, k, [&](size_t begin, size_t, std::span<uint8_t> out) -> Result<void> {
        std::memcpy(out.data(), file.data() + begin * format.row_bytes(k), out.size());
        return {};
      });
  EXPECT_TRUE(packed) << packed.error().message;
  matrix.packed = std::move(*packed);
  return matrix;
}

TEST(Matmul, MixedTasksShareOneInput) {
  constexpr size_t kTokens = 5, kK = 512;
  const std::vector<float> x = random_values(kTokens * kK, 7);
  for (const int n_threads : {1, 2, 3}) {
    for (const bool exact : {false, true}) {
      ThreadPool pool(n_threads);
      const Ctx ctx{&pool, *kernel_table()};
      const Matrix q = make_matrix(ctx, TensorType::kQ4_K, 40, kK, 1);
      const Matrix v = make_matrix(ctx, TensorType::kQ8_0, 9, kK, 2);
      const Matrix f = make_matrix(ctx, TensorType::kF16, 17, kK, 3);
      const std::vector<float> bias = random_values(40, 4);
      std::vector<float> y_q(kTokens * 44, -1), y_v(kTokens * 9, 100), y_f(kTokens * 17);
      auto activations = Activations::make(8, 1024);
      ASSERT_TRUE(activations);
      activations->set(x.data(), kTokens, kK);
      const MatmulTask tasks[] = {{&q.packed, bias.data(), false, y_q.data(), 44},
                                  {&v.packed, nullptr, true, y_v.data(), 9},
                                  {&f.packed, nullptr, false, y_f.data(), 17}};
      matmul(ctx, *activations, tasks, exact);
      // Half a step of the activation quantiser per term, as a random sum; f32 alone when exact.
      const double tolerance = exact ? 1e-4 : 0.15;
      const auto expect = [&](const Matrix& matrix, size_t t, size_t row, float found, double added) {
        double sum = added;
        for (size_t i = 0; i < kK; ++i) sum += double{matrix.weights[row * kK + i]} * double{x[t * kK + i]};
        EXPECT_NEAR(found, sum, tolerance) << "token " << t << " row " << row << " exact " << exact;
      };
      for (size_t t = 0; t < kTokens; ++t) {
        for (size_t row = 0; row < 40; ++row) expect(q, t, row, y_q[t * 44 + row], bias[row]);
        for (size_t i = 40; i < 44; ++i) EXPECT_EQ(y_q[t * 44 + i], -1) << "wrote past the rows";
        for (size_t row = 0; row < 9; ++row) expect(v, t, row, y_v[t * 9 + row], 100);
        for (size_t row = 0; row < 17; ++row) expect(f, t, row, y_f[t * 17 + row], 0);
      }
    }
  }
}

TEST(Matmul, BitsDependOnNeitherThreadsNorColumns) {
  constexpr size_t kTokens = 33, kK = 256, kRows = 200;
  const std::vector<float> x = random_values(kTokens * kK, 8);
  std::vector<float> expected;
  for (const int n_threads : {1, 2, 3, 7}) {
    ThreadPool pool(n_threads);
    const Ctx ctx{&pool, *kernel_table()};
    const Matrix w = make_matrix(ctx, TensorType::kQ6_K, kRows, kK, 5);
    auto activations = Activations::make(kTokens, kK);
    ASSERT_TRUE(activations);
    std::vector<float> together(kTokens * kRows), alone(kTokens * kRows);
    const MatmulTask task{&w.packed, nullptr, false, together.data(), kRows};
    activations->set(x.data(), kTokens, kK);
    matmul(ctx, *activations, {&task, 1}, false);
    for (size_t t = 0; t < kTokens; ++t) {
      const MatmulTask single{&w.packed, nullptr, false, alone.data() + t * kRows, kRows};
      activations->set(x.data() + t * kK, 1, kK);
      matmul(ctx, *activations, {&single, 1}, false);
    }
    EXPECT_EQ(std::memcmp(together.data(), alone.data(), together.size() * sizeof(float)), 0);
    if (expected.empty()) expected = together;
    EXPECT_EQ(std::memcmp(together.data(), expected.data(), together.size() * sizeof(float)), 0);
  }
}

TEST(Matmul, NonFiniteActivationsReachTheResult) {
  ThreadPool pool(1);
  const Ctx ctx{&pool, *kernel_table()};
  for (const TensorType type : {TensorType::kQ4_K, TensorType::kQ8_0}) {
    const Matrix w = make_matrix(ctx, type, 8, 256, 6);
    for (const float bad : {NAN, INFINITY}) {
      std::vector<float> x = random_values(256, 9);
      x[77] = bad;
      auto activations = Activations::make(1, 256);
      ASSERT_TRUE(activations);
      activations->set(x.data(), 1, 256);
      float y[8] = {};
      const MatmulTask task{&w.packed, nullptr, false, y, 8};
      matmul(ctx, *activations, {&task, 1}, false);
      for (const float value : y) EXPECT_FALSE(std::isfinite(value));
    }
  }
}

// Tuning changes how kernels walk, in all matrices of a shape alike, and no bit of what they give.
TEST(Autotune, ChangesNoResult) {
  constexpr size_t kTokens = 70, kK = 512, kRows = 300;
  const std::vector<float> x = random_values(kTokens * kK, 7);
  ThreadPool pool(2);
  const Ctx ctx{&pool, *kernel_table()};
  Matrix a = make_matrix(ctx, TensorType::kQ4_K, kRows, kK, 1);
  Matrix b = make_matrix(ctx, TensorType::kQ4_K, kRows, kK, 2);
  Matrix c = make_matrix(ctx, TensorType::kQ8_0, kRows, kK, 3);
  const auto results = [&] {
    auto activations = Activations::make(kTokens, kK);
    std::vector<float> all;
    for (const Matrix* matrix : {&a, &b, &c}) {
      for (const size_t n : {size_t{1}, size_t{5}, kTokens}) {
        std::vector<float> y(n * kRows);
        activations->set(x.data(), n, kK);
        const MatmulTask task[] = {{.w = &matrix->packed, .y = y.data(), .y_stride = kRows}};
        matmul(ctx, *activations, task, false);
        all.insert(all.end(), y.begin(), y.end());
      }
    }
    return all;
  };
  const std::vector<float> before = results();
  PackedMatrix* const matrices[] = {&a.packed, &b.packed, &c.packed};
  ASSERT_TRUE(autotune(ctx, matrices));
  EXPECT_EQ(std::memcmp(&a.packed.tuning(), &b.packed.tuning(), sizeof(MatmulTuning)), 0);
  EXPECT_NE(a.packed.tuning().unpacked_from, 0u);
  EXPECT_NE(c.packed.tuning().unpacked_from, 0u);
  const std::vector<float> after = results();
  EXPECT_EQ(std::memcmp(before.data(), after.data(), before.size() * sizeof(float)), 0);
}

}  // namespace
}  // namespace ruvltra

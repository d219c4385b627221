#include "ops/greedy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "base/num.h"
#include "kernels/dispatch.h"
#include "ops/logits.h"

namespace ruvltra {
namespace {

constexpr size_t kRows = 1003;  // no whole number of units or panels
constexpr size_t kK = 64;
constexpr size_t kTokens = 3;

class GreedyHeadTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    for (size_t i = 0; i < weights_.size(); ++i)
      weights_[i] = static_cast<float>(philox_uniform(1, static_cast<uint32_t>(i), 0, 0) * 2 - 1);
    for (size_t i = 0; i < x_.size(); ++i)
      x_[i] = static_cast<float>(philox_uniform(2, static_cast<uint32_t>(i), 0, 0) * 2 - 1);
  }

  PackedMatrix pack() const {
    auto packed = PackedMatrix::pack(ctx_, "head", TensorType::kF32, kRows, kK,
                                     [&](size_t begin, size_t, std::span<uint8_t> out) {
                                       std::memcpy(out.data(), weights_.data() + begin * kK, out.size());
                                       return Result<void>{};
                                     });
    EXPECT_TRUE(packed);
    return std::move(*packed);
  }

  std::vector<BestLogit> best(std::span<const int32_t> never) {
    const PackedMatrix w = pack();
    Activations a = std::move(*Activations::make(kTokens, kK));
    a.set(x_.data(), kTokens, kK);
    GreedyHead head = std::move(*GreedyHead::make(kTokens, pool_.n_threads()));
    std::vector<BestLogit> found(kTokens);
    head.compute(ctx_, a, w, never, found, false);
    return found;
  }

  std::vector<float> logits() {
    const PackedMatrix w = pack();
    Activations a = std::move(*Activations::make(kTokens, kK));
    a.set(x_.data(), kTokens, kK);
    std::vector<float> y(kTokens * kRows);
    const MatmulTask task[] = {{.w = &w, .y = y.data(), .y_stride = kRows}};
    matmul(ctx_, a, task, false);
    return y;
  }

  ThreadPool pool_{GetParam()};
  Ctx ctx_{&pool_, *kernel_table()};
  std::vector<float> weights_ = std::vector<float>(kRows * kK);
  std::vector<float> x_ = std::vector<float>(kTokens * kK);
};

TEST_P(GreedyHeadTest, FindsTheLargestLogitOfTheWholeRow) {
  const auto all = logits();
  const auto found = best({});
  for (size_t t = 0; t < kTokens; ++t) {
    const auto row = std::span(all).subspan(t * kRows, kRows);
    EXPECT_EQ(found[t].row, static_cast<int32_t>(argmax(row)));
    EXPECT_EQ(found[t].logit, row[argmax(row)]);
    EXPECT_TRUE(found[t].finite);
  }
}

TEST_P(GreedyHeadTest, TiesGoToTheLowestRow) {
  const auto winner = static_cast<size_t>(best({})[1].row);
  for (const size_t twin : {size_t{3}, size_t{500}, kRows - 1}) {
    std::memcpy(&weights_[twin * kK], &weights_[winner * kK], kK * sizeof(float));
  }
  EXPECT_EQ(best({})[1].row, static_cast<int32_t>(std::min(winner, size_t{3})));
}

TEST_P(GreedyHeadTest, LeavesOutWhatMustNotBeChosen) {
  const int32_t first = best({})[0].row;
  std::vector<int32_t> never = {first};
  const int32_t second = best(never)[0].row;
  EXPECT_NE(second, first);
  never.push_back(second);
  std::sort(never.begin(), never.end());
  auto all = logits();
  for (const int32_t row : never) all[static_cast<size_t>(row)] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(best(never)[0].row, static_cast<int32_t>(argmax(std::span(all).first(kRows))));
}

TEST_P(GreedyHeadTest, ReportsWhatIsNotFinite) {
  x_[kK + 5] = std::numeric_limits<float>::quiet_NaN();
  const auto found = best({});
  EXPECT_TRUE(found[0].finite);
  EXPECT_FALSE(found[1].finite);
  EXPECT_TRUE(found[2].finite);
}

INSTANTIATE_TEST_SUITE_P(Threads, GreedyHeadTest, testing::Values(1, 2, 5));

}  // namespace
}  // namespace ruvltra

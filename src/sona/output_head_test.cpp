#include "sona/output_head.h"

#include <gtest/gtest.h>

#include "sona/lora_for_test.h"

namespace ruvltra {
namespace {

using testing::LoraWorld;

TEST(OutputHeadTest, StatisticsAreThoseOfTheRowsInUse) {
  LoraWorld world(3000, 40, 5, 1);
  const size_t n_used = 2500;  // more than two tasks; what follows is padding
  const OutputHead head = *OutputHead::make(world.ctx, world.matrix, n_used);
  EXPECT_EQ(head.stride(), 64u);
  std::vector<double> mean(40), square(40);
  for (size_t v = 0; v < n_used; ++v) {
    for (size_t i = 0; i < 40; ++i) {
      const auto value = static_cast<double>(world.w[v * 40 + i]);
      mean[i] += value / n_used;
      square[i] += value * value / n_used;
    }
  }
  double radius = 0;
  for (size_t v = 0; v < n_used; ++v) {
    double away = 0;
    for (size_t i = 0; i < 40; ++i) away += std::pow(static_cast<double>(world.w[v * 40 + i]) - mean[i], 2);
    radius = std::max(radius, std::sqrt(away));
  }
  EXPECT_NEAR(head.radius(), radius, 1e-6 * radius);
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_NEAR(static_cast<double>(head.mean()[i]), mean[i], 1e-7);
    EXPECT_NEAR(head.mean_square()[i], square[i], 1e-12);
  }
  for (size_t i = 40; i < head.stride(); ++i) EXPECT_EQ(head.mean()[i], 0);
}

TEST(OutputHeadTest, AnyNumberOfThreadsGivesTheSameBits) {
  LoraWorld one(3000, 40, 5, 1, 2, 1), three(3000, 40, 5, 1, 2, 3);
  ASSERT_EQ(one.w, three.w);
  EXPECT_TRUE(std::ranges::equal(one.head->mean(), three.head->mean()));
  EXPECT_TRUE(std::ranges::equal(one.head->mean_square(), three.head->mean_square()));
  EXPECT_EQ(one.head->radius(), three.head->radius());
}

// A cache far too small for what is asked of it gives the same rows as no cache.
TEST(OutputHeadTest, TheCacheForgetsRowsButNeverMixesThem) {
  LoraWorld world(500, 40, 5, 2);
  for (const size_t n_slots : {8u, 20u, 600u}) {
    RowCache cache = *RowCache::make(*world.head, n_slots * world.head->stride() * sizeof(float), 8);
    for (int call = 0; call < 400; ++call) {
      std::vector<uint32_t> ids(1 + world.random() % 8);
      for (uint32_t& id : ids) id = static_cast<uint32_t>(world.random() % (call % 3 == 0 ? 10 : 500));
      const auto rows = cache.rows(ids);
      ASSERT_EQ(rows.size(), ids.size());
      for (size_t r = 0; r < ids.size(); ++r) {
        ASSERT_EQ(std::memcmp(rows[r], world.w.data() + ids[r] * 40, 40 * sizeof(float)), 0)
            << n_slots << " slots, call " << call;
        ASSERT_EQ(rows[r][40], 0);
      }
    }
  }
}

}  // namespace
}  // namespace ruvltra

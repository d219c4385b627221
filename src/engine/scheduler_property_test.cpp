// Random histories of requests: every invariant of the scheduler and its pages holds after every step.
#include <gtest/gtest.h>

#include "engine/scheduler_simulation_for_test.h"

namespace ruvltra::testing {
namespace {

std::string fault_of(uint64_t seed, size_t n_operations, Totals& totals) {
  RandomDecisions decisions(seed);
  return Simulation(decisions, totals).run([&] { return n_operations-- > 0; });
}

TEST(SchedulerProperty, RandomHistories) {
  Totals totals;
  for (uint64_t seed = 0; seed < 100'000; ++seed) {
    ASSERT_EQ(fault_of(seed, 20, totals), "") << "seed " << seed;
  }
  ::testing::Test::RecordProperty("plans", std::to_string(totals.n_plans));
  // Everything that can happen has happened often.
  EXPECT_GT(totals.n_finished, 300'000u);
  EXPECT_GT(totals.n_preempted, 10'000u);
  EXPECT_GT(totals.n_forked, 10'000u);
  EXPECT_GT(totals.n_cancelled, 10'000u);
  EXPECT_GT(totals.n_overdue, 10'000u);
  EXPECT_GT(totals.n_copies, 10'000u);
  EXPECT_GT(totals.n_zeroed, 10'000u);
  EXPECT_GT(totals.n_evicted, 10'000u);
  EXPECT_GT(totals.n_hit_tokens, 500'000u);
  EXPECT_GT(totals.n_accepted_drafts, 10'000u);
  EXPECT_GT(totals.n_refused, 10'000u);
}

TEST(SchedulerProperty, LongHistories) {
  Totals totals;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    ASSERT_EQ(fault_of(1'000'000 + seed, 3000, totals), "") << "seed " << seed;
  }
}

}  // namespace
}  // namespace ruvltra::testing

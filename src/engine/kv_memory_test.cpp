// Pages in use on a chat workload, against giving every running sequence the whole context.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "engine/scheduler.h"

namespace ruvltra {
namespace {

// 8 places, 400 requests whose prompt and answer together are uniform in 1..32768 tokens, the answer being
// the last 1..512 of them; nothing is shared.
TEST(KvMemory, PagesAgainstTheWholeContextPerPlace) {
  constexpr size_t kContext = 32768, kPlaces = 8, kRequests = 400;
  SchedulerOptions options;
  options.n_pages = kPlaces * pages_for(kContext);
  options.max_running = kPlaces;
  options.max_waiting = kRequests;
  options.max_step_ms = 1e9;
  Scheduler scheduler(options);
  std::mt19937_64 random(1);
  for (size_t n = 0; n < kRequests; ++n) {
    const size_t n_total = 1 + random() % kContext;
    const size_t n_answer = std::min(n_total - 1, 1 + random() % 512);
    SequenceSpec spec;
    spec.prompt.assign(n_total - n_answer, static_cast<TokenId>(n));
    spec.max_new_tokens = n_answer;
    spec.use_cache = false;
    ASSERT_TRUE(scheduler.submit(std::move(spec), static_cast<double>(n)));
  }
  size_t n_steps = 0, n_full = 0, sum_pages = 0, peak_pages = 0, worst_waste = 0;
  while (!scheduler.idle()) {
    const StepPlan& plan = scheduler.plan(0);
    scheduler.complete_step();
    for (const StepEntry& entry : plan.entries) {
      Sequence& sequence = *entry.sequence;
      const size_t n_held = sequence.table.pages.size() * kPageTokens;
      worst_waste = std::max(worst_waste, n_held - sequence.table.n_tokens);
      if (!entry.wants_row) continue;
      if (sequence.n_output() < sequence.spec.max_new_tokens) scheduler.append(sequence, 1);
      if (sequence.n_output() == sequence.spec.max_new_tokens) scheduler.finish(sequence);
    }
    const size_t n_pages = scheduler.pages().counts().in_use;
    ++n_steps;
    n_full += scheduler.running().size() >= kPlaces - 1;
    sum_pages += n_pages;
    peak_pages = std::max(peak_pages, n_pages);
  }
  const double mean = static_cast<double>(sum_pages) / static_cast<double>(n_steps);
  const double saved = 1 - mean / static_cast<double>(options.n_pages);
  RecordProperty("steps", std::to_string(n_steps));
  RecordProperty("mean_pages", std::to_string(mean));
  RecordProperty("peak_pages", std::to_string(peak_pages));
  RecordProperty("saved_share", std::to_string(saved));
  RecordProperty("steps_with_full_places", std::to_string(n_full));
  EXPECT_GE(saved, 0.4);
  EXPECT_LT(worst_waste, kPageTokens);
  EXPECT_EQ(scheduler.pages().counts().free, options.n_pages);
}

}  // namespace
}  // namespace ruvltra

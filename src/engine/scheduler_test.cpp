#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/allocations_for_test.h"

namespace ruvltra {
namespace {

class SchedulerTest : public ::testing::Test {
 protected:
  static SchedulerOptions options(size_t n_pages) {
    SchedulerOptions options;
    options.n_pages = n_pages;
    options.max_running = 4;
    options.max_waiting = 4;
    options.max_step_rows = 256;
    return options;
  }
  // A prompt that no other begins like.
  static SequenceSpec spec(size_t n_prompt, size_t max_new_tokens, TokenId first = -1) {
    static TokenId next = 1000;
    SequenceSpec spec;
    spec.prompt.resize(n_prompt);
    std::iota(spec.prompt.begin(), spec.prompt.end(), first >= 0 ? first : next += 1000);
    spec.max_new_tokens = max_new_tokens;
    return spec;
  }
  Sequence& submit(SequenceSpec spec, double now_ms = 0) {
    auto sequence = scheduler_->submit(std::move(spec), now_ms);
    EXPECT_TRUE(sequence) << sequence.error().message;
    return **sequence;
  }
  std::string_view refusal(SequenceSpec spec) {
    const auto sequence = scheduler_->submit(std::move(spec), 0);
    return sequence ? "" : sequence.error().id;
  }
  void use(const SchedulerOptions& options) { scheduler_.emplace(options); }
  // Plans, computes and appends a token to every sequence that wants one; those that have all tokens finish.
  const StepPlan& step(double now_ms = 0) {
    const StepPlan& plan = scheduler_->plan(now_ms);
    if (!plan.entries.empty()) scheduler_->complete_step();
    for (const StepEntry& entry : plan.entries) {
      Sequence& sequence = *entry.sequence;
      if (!entry.wants_row) continue;
      if (sequence.n_output() < sequence.spec.max_new_tokens) scheduler_->append(sequence, 1);
      if (sequence.n_output() == sequence.spec.max_new_tokens) scheduler_->finish(sequence);
    }
    return plan;
  }
  // Rows of a sequence in the last plan.
  static size_t rows(const StepPlan& plan, const Sequence& sequence) {
    for (const StepEntry& entry : plan.entries) {
      if (entry.sequence == &sequence) return entry.n_tokens;
    }
    return 0;
  }
  PageCounts counts() const { return scheduler_->pages().counts(); }

  std::optional<Scheduler> scheduler_;
};

TEST_F(SchedulerTest, Refusals) {
  use(options(4));
  EXPECT_EQ(refusal(spec(0, 1)), "scheduler.empty_prompt");
  EXPECT_EQ(refusal(spec(200, 57)), "scheduler.too_long");
  EXPECT_EQ(refusal(spec(257, 0)), "scheduler.too_long");
  EXPECT_EQ(refusal(spec(1, SIZE_MAX)), "scheduler.too_long");
  for (const size_t n : {0, 5}) {
    SequenceSpec samples = spec(10, 10);
    samples.n_samples = n;
    EXPECT_EQ(refusal(samples), "scheduler.samples");
  }
  EXPECT_EQ(refusal(spec(200, 56)), "");
  for (int n = 0; n < 3; ++n) EXPECT_EQ(refusal(spec(1, 1)), "");
  EXPECT_EQ(refusal(spec(1, 1)), "scheduler.queue_full");
}

TEST_F(SchedulerTest, APromptAloneFillsTheStep) {
  use(options(20));
  Sequence& sequence = submit(spec(600, 3));
  EXPECT_EQ(rows(step(), sequence), 256u);
  EXPECT_EQ(rows(step(), sequence), 256u);
  const StepPlan& last = step();
  ASSERT_EQ(last.entries.size(), 1u);
  EXPECT_EQ(last.entries[0].first_position, 512u);
  EXPECT_EQ(last.entries[0].n_tokens, 88u);
  EXPECT_TRUE(last.entries[0].is_prefill && last.entries[0].wants_row);
  EXPECT_EQ(rows(step(), sequence), 1u);
  EXPECT_EQ(sequence.phase, Phase::kDecode);
  step();
  EXPECT_EQ(sequence.end, EndReason::kFinished);
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(scheduler_->pages().n_available(), 20u);
}

TEST_F(SchedulerTest, BesideDecodingRowsAPromptGetsTheTimeThatIsLeft) {
  struct Row {
    double max_step_ms, ms_per_prefill_row;
    size_t n_rows;
  };
  const Row table[] = {
      {200, 2, 50},   // (200 - 100) / 2
      {200, 200, 8},  // slow, but never less than min_chunk
      {50, 2, 8},     // the decode row alone takes longer
      {1e9, 2, 255},  // all rows of the step but the decoding one
      {0, 2, 75},     // 2.5 x the step without prompt rows: (250 - 100) / 2
      {200, 0, 255},  // prompt rows cost nothing
  };
  for (const Row& row : table) {
    SchedulerOptions with = options(40);
    with.max_step_ms = row.max_step_ms;
    use(with);
    scheduler_->set_cost(
        {.ms_fixed = 99, .ms_per_decode_row = 1, .ms_per_prefill_row = row.ms_per_prefill_row});
    Sequence& talking = submit(spec(10, 50));
    step();
    Sequence& arriving = submit(spec(1000, 5), 1);
    const StepPlan& plan = step();
    EXPECT_EQ(rows(plan, talking), 1u);
    EXPECT_EQ(rows(plan, arriving), row.n_rows) << row.max_step_ms << " " << row.ms_per_prefill_row;
  }
}

TEST_F(SchedulerTest, OneTenantsPromptsComeInOrder) {
  use(options(20));
  Sequence& first = submit(spec(300, 2), 0);
  Sequence& second = submit(spec(300, 2), 1);
  const StepPlan& plan = step();
  EXPECT_EQ(rows(plan, first), 256u);
  EXPECT_EQ(rows(plan, second), 0u);
  EXPECT_EQ(rows(step(), second), 212u);
}

// A tenant with a long prompt does not hold up the short one of another tenant.
TEST_F(SchedulerTest, TenantsShare) {
  use(options(40));
  SequenceSpec long_one = spec(2000, 2), short_one = spec(100, 2);
  long_one.tenant = 1;
  short_one.tenant = 2;
  Sequence& first = submit(long_one, 0);
  step();
  Sequence& second = submit(short_one, 1);
  const StepPlan& plan = step();
  EXPECT_EQ(rows(plan, second), 100u);
  EXPECT_EQ(rows(plan, first), 156u);
}

TEST_F(SchedulerTest, TheTenantServedLeastIsAdmittedNext) {
  SchedulerOptions with = options(40);
  with.max_running = 1;
  use(with);
  const auto of = [&](TenantId tenant, size_t n_prompt) {
    SequenceSpec it = spec(n_prompt, 1);
    it.tenant = tenant;
    return it;
  };
  std::vector<Sequence*> order = {&submit(of(1, 200), 0)};
  Sequence& again = submit(of(1, 10), 1);
  Sequence& other = submit(of(2, 10), 2);
  step();
  step();
  EXPECT_EQ(other.end, EndReason::kFinished);
  EXPECT_EQ(again.phase, Phase::kWaiting);
  step();
  EXPECT_EQ(again.end, EndReason::kFinished);
}

// A tenant that was away starts level with the one that kept working, not ahead of it.
TEST_F(SchedulerTest, IdlingSavesUpNoCredit) {
  SchedulerOptions with = options(60);
  with.max_step_ms = 1e9;
  use(with);
  const auto of = [&](TenantId tenant, size_t n_prompt, size_t max_new_tokens) {
    SequenceSpec it = spec(n_prompt, max_new_tokens);
    it.tenant = tenant;
    return it;
  };
  submit(of(2, 10, 1), 0);
  submit(of(1, 700, 100), 1);
  for (int n = 0; n < 5; ++n) step();
  Sequence& of_the_busy = submit(of(1, 300, 9), 2);
  Sequence& of_the_idle = submit(of(2, 300, 9), 3);
  EXPECT_EQ(rows(step(), of_the_idle), 255u);
  EXPECT_EQ(rows(step(), of_the_busy), 255u);
}

TEST_F(SchedulerTest, PriorityIsAHeadStart) {
  SchedulerOptions with = options(40);
  with.max_running = 1;
  with.priority_ms = 100;
  use(with);
  submit(spec(10, 1), 0);
  Sequence& low = submit(spec(10, 1), 10);
  SequenceSpec urgent = spec(10, 1);
  urgent.priority = 1;
  Sequence& late = submit(urgent, 120);  // the head start is used up
  Sequence& early = submit(urgent, 100);
  step();
  EXPECT_EQ(scheduler_->plan(200).admitted, std::vector{&early});
  scheduler_->abandon_step();
  scheduler_->finish(early);
  EXPECT_EQ(scheduler_->plan(200).admitted, std::vector{&low});
  scheduler_->abandon_step();
  EXPECT_EQ(late.phase, Phase::kWaiting);
}

TEST_F(SchedulerTest, AdmissionWaitsForPages) {
  use(options(5));
  Sequence& first = submit(spec(130, 100));
  Sequence& second = submit(spec(70, 100), 1);
  Sequence& small = submit(spec(10, 10), 2);
  step();
  EXPECT_EQ(first.phase, Phase::kDecode);
  // 3 pages and one to grow into, of 5: the second would need 3. Nobody overtakes it.
  EXPECT_EQ(second.phase, Phase::kWaiting);
  EXPECT_EQ(small.phase, Phase::kWaiting);
  scheduler_->finish(first);
  step();
  EXPECT_EQ(second.phase, Phase::kDecode);
  EXPECT_EQ(small.phase, Phase::kDecode);
}

TEST_F(SchedulerTest, TheYoungestIsPreemptedAndResumesWithItsOutput) {
  use(options(4));
  Sequence& oldest = submit(spec(60, 140), 0);
  Sequence& youngest = submit(spec(60, 140), 1);
  while (youngest.n_preempted == 0) step();
  // Both had 2 pages when the oldest came to need its third.
  EXPECT_EQ(oldest.tokens.size(), 130u);
  EXPECT_EQ(youngest.phase, Phase::kWaiting);
  EXPECT_TRUE(youngest.table.pages.empty());
  EXPECT_EQ(youngest.n_output(), 69u);
  Sequence& newcomer = submit(spec(1, 1), 2);
  while (oldest.phase != Phase::kEnded) step();
  EXPECT_EQ(newcomer.phase, Phase::kWaiting);  // preempted ones come first
  const StepPlan& plan = step();
  EXPECT_EQ(plan.admitted.front(), &youngest);
  EXPECT_EQ(youngest.n_output(), 70u);
  EXPECT_EQ(youngest.n_cached, 0u);
}

TEST_F(SchedulerTest, AReservationForTheWorstCaseIsNeverPreempted) {
  SchedulerOptions with = options(4);
  with.reserve_worst_case = true;
  use(with);
  SequenceSpec samples = spec(60, 60);
  samples.n_samples = 3;
  EXPECT_EQ(refusal(samples), "scheduler.too_long");
  Sequence& first = submit(spec(60, 140), 0);
  Sequence& second = submit(spec(60, 4), 1);
  while (first.phase != Phase::kEnded) {
    EXPECT_EQ(second.phase, Phase::kWaiting);
    step();
  }
  EXPECT_EQ(scheduler_->stats().n_preempted, 0u);
}

TEST_F(SchedulerTest, ASharedPrefixIsComputedOnce) {
  use(options(60));
  submit(spec(2048 + 16, 1, 0), 0);
  while (!scheduler_->idle()) step();
  EXPECT_EQ(scheduler_->stats().prefill_rows, 2064u);
  SequenceSpec same = spec(2048 + 16, 1, 0);
  for (size_t t = 2048; t < 2064; ++t) same.prompt[t] = 9;
  Sequence& second = submit(same, 1);
  EXPECT_EQ(rows(step(), second), 16u);
  EXPECT_EQ(second.n_cached, 2048u);
  EXPECT_EQ(scheduler_->stats().prefill_rows, 2080u);
  EXPECT_EQ(scheduler_->stats().prefix_hit_tokens, 2048u);
  EXPECT_EQ(scheduler_->stats().prefix_query_tokens, 2u * 2064u);
}

// Two requests that arrive together: the second takes over what the first has computed by then.
TEST_F(SchedulerTest, ASharedPrefixIsComputedOnceEvenAtTheSameTime) {
  use(options(60));
  submit(spec(512, 20, 0), 0);
  Sequence& second = submit(spec(512 + 64, 1, 0), 0);
  while (second.n_output() == 0) step();
  EXPECT_EQ(scheduler_->stats().prefill_rows, 512u + 64u);
  EXPECT_EQ(second.n_cached, 512u);
}

TEST_F(SchedulerTest, OfAFullHitTheLastTokenIsComputedButNotWritten) {
  use(options(10));
  submit(spec(128, 1, 0), 0);
  step();
  const size_t free_before = counts().free;
  Sequence& second = submit(spec(128, 2, 0), 1);
  const StepPlan& plan = scheduler_->plan(1);
  ASSERT_EQ(plan.entries.size(), 1u);
  EXPECT_EQ(plan.entries[0].first_position, 127u);
  EXPECT_EQ(plan.entries[0].n_tokens, 1u);
  EXPECT_TRUE(plan.entries[0].wants_row);
  EXPECT_EQ(second.table.slot(127).page, kNoPage);
  EXPECT_EQ(counts().free, free_before);
  EXPECT_EQ(second.n_cached, 127u);
  scheduler_->complete_step();
}

TEST_F(SchedulerTest, WithoutCacheNothingIsTakenOrLeft) {
  use(options(10));
  SequenceSpec private_one = spec(128, 1, 0);
  private_one.use_cache = false;
  submit(private_one, 0);
  step();
  EXPECT_EQ(counts().free, 10u);
  submit(spec(128, 1, 0), 1);
  step();
  EXPECT_EQ(counts().published, 2u);
  const Sequence& again = submit(private_one, 2);
  EXPECT_EQ(rows(step(), again), 128u);
}

TEST_F(SchedulerTest, SamplesShareThePromptsPages) {
  SchedulerOptions with = options(60);
  with.max_running = 8;
  use(with);
  SequenceSpec samples = spec(1000, 5);
  samples.n_samples = 8;
  Sequence& parent = submit(samples, 5);
  Sequence& outsider = submit(spec(10, 5), 6);
  while (parent.table.n_tokens < 1000) {
    scheduler_->plan(0);
    scheduler_->complete_step();
  }
  EXPECT_EQ(outsider.phase, Phase::kWaiting);  // the places are taken
  std::vector<Sequence*> answers = {&parent};
  while (parent.n_samples_due > 0) answers.push_back(&scheduler_->fork(parent));
  EXPECT_EQ(counts().n_pages - counts().free, 16u);
  EXPECT_EQ(counts().shared, 16u);
  for (Sequence* answer : answers) scheduler_->append(*answer, 1);
  // 15 full pages stay shared; the partial one is copied for all but the last.
  EXPECT_EQ(scheduler_->plan(0).page_work.size(), 7u);
  scheduler_->complete_step();
  EXPECT_EQ(counts().n_pages - counts().free, 15u + 8u);
  for (size_t choice = 0; choice < 8; ++choice) {
    EXPECT_EQ(answers[choice]->choice, choice);
    EXPECT_TRUE(answers[choice]->senior_to(outsider));
    EXPECT_TRUE(choice == 0 || parent.senior_to(*answers[choice]));
  }
}

TEST_F(SchedulerTest, CancelledInQueuePrefillAndDecode) {
  SchedulerOptions with = options(40);
  with.max_running = 2;
  use(with);
  Sequence& decoding = submit(spec(10, 50), 0);
  step();
  Sequence& prefilling = submit(spec(1000, 50), 1);
  Sequence& queued = submit(spec(10, 50), 2);
  step();
  EXPECT_EQ(decoding.phase, Phase::kDecode);
  EXPECT_EQ(prefilling.phase, Phase::kPrefill);
  EXPECT_EQ(queued.phase, Phase::kWaiting);
  for (Sequence* sequence : {&decoding, &prefilling, &queued}) scheduler_->cancel(*sequence);
  const StepPlan& plan = scheduler_->plan(3);
  EXPECT_EQ(plan.ended, (std::vector{&decoding, &prefilling, &queued}));
  EXPECT_TRUE(plan.entries.empty());
  for (const Sequence* sequence : plan.ended) EXPECT_EQ(sequence->end, EndReason::kCancelled);
  EXPECT_EQ(scheduler_->pages().n_available(), 40u);
}

TEST_F(SchedulerTest, Deadlines) {
  SchedulerOptions with = options(40);
  with.max_running = 1;
  use(with);
  SequenceSpec limited = spec(10, 50);
  limited.deadline_ms = 500;
  limited.queue_deadline_ms = 50;
  Sequence& running = submit(limited, 0);
  Sequence& queued = submit(limited, 0);
  EXPECT_TRUE(step(49).ended.empty());
  EXPECT_EQ(step(50).ended, std::vector{&queued});
  EXPECT_EQ(queued.end, EndReason::kQueueTimeout);
  EXPECT_TRUE(step(499).ended.empty());
  EXPECT_EQ(step(500).ended, std::vector{&running});
  EXPECT_EQ(running.end, EndReason::kTimeout);
}

TEST_F(SchedulerTest, APausedSequenceGetsNoRowsAndGivesWay) {
  use(options(4));
  Sequence& paused = submit(spec(60, 100), 0);
  Sequence& other = submit(spec(60, 190), 1);
  step();
  scheduler_->set_paused(paused, true);
  EXPECT_EQ(rows(step(), paused), 0u);
  while (other.phase != Phase::kEnded) step();
  EXPECT_EQ(other.n_preempted, 0u);
  EXPECT_EQ(paused.n_preempted, 1u);
  EXPECT_TRUE(step().entries.empty());
  scheduler_->set_paused(paused, false);
  EXPECT_EQ(rows(step(), paused), 61u);
}

TEST_F(SchedulerTest, AnAbandonedStepCountsNothing) {
  use(options(10));
  Sequence& sequence = submit(spec(100, 5));
  scheduler_->plan(0);
  EXPECT_EQ(counts().in_use, 2u);
  scheduler_->abandon_step();
  EXPECT_EQ(counts().free, 10u);
  EXPECT_EQ(sequence.table.n_tokens, 0u);
  EXPECT_EQ(rows(step(), sequence), 100u);
}

TEST_F(SchedulerTest, ProposalsAreRowsThatCountOnlyIfAccepted) {
  use(options(10));
  Sequence& sequence = submit(spec(60, 50));
  step();
  EXPECT_EQ(sequence.tokens.size(), 61u);
  scheduler_->propose(sequence, 6);
  const StepPlan& plan = scheduler_->plan(0);
  EXPECT_EQ(plan.entries[0].n_tokens, 7u);
  EXPECT_EQ(plan.entries[0].n_draft, 6u);
  EXPECT_TRUE(plan.entries[0].wants_row);
  EXPECT_EQ(sequence.table.pages.size(), 2u);
  scheduler_->complete_step();
  const TokenId right[] = {5, 6};
  scheduler_->accept_drafts(sequence, right);
  scheduler_->append(sequence, 7);
  EXPECT_EQ(sequence.tokens.size(), 64u);
  EXPECT_EQ(sequence.table.n_tokens, 63u);
  EXPECT_EQ(sequence.table.pages.size(), 1u);
  EXPECT_EQ(rows(step(), sequence), 1u);
  EXPECT_EQ(counts().published, 1u);
}

TEST_F(SchedulerTest, AStepAllocatesNothing) {
  if (!RUVLTRA_COUNTS_ALLOCATIONS) GTEST_SKIP() << "operator new belongs to the sanitizer";
  const size_t at_first = testing::n_allocations();
  use(options(40));
  for (const size_t n_prompt : {700, 300, 20}) {
    SequenceSpec it = spec(n_prompt, 300);
    it.tenant = n_prompt;
    submit(it);
  }
  step();
  const size_t before = testing::n_allocations();
  EXPECT_GT(before, at_first);
  for (int n = 0; n < 290; ++n) step();
  EXPECT_EQ(testing::n_allocations(), before);
  EXPECT_GT(counts().published, 15u);
}

}  // namespace
}  // namespace ruvltra

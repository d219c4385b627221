#include "engine/lookahead.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace ruvltra {
namespace {

// A machine with known costs and a text with known acceptance, on which the rule is played.
struct World {
  double unit_ms = 40;
  double draft = 0.2;       // c
  double row = 0.01;        // V(n) = 1 + row (n - 1)
  double acceptance = 0.6;  // of the draft model, in every class
  bool informed = false;    // confidence tells: classes above the middle are always right, others never
};

struct Played {
  double rate = 0;         // tokens per unit of time
  double mean_length = 0;  // proposals per step
  size_t n_steps_off = 0;  // without any
};

// What the speculator does for one sequence with a draft model and nothing else.
Played play(Lookahead& rule, const World& world, size_t n_tokens, size_t n_rows_of_others = 0,
            uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  DraftHistory history = rule.new_history();
  double units = 0, tokens = 0;
  size_t n_steps = 0, n_proposed = 0, n_off = 0;
  const size_t n_rows = 1 + n_rows_of_others;
  while (tokens < static_cast<double>(n_tokens)) {
    DraftVerdict made;
    made.origin = DraftOrigin::kModel;
    double survival = 1;
    size_t n_drafted = 0;
    bool goes_on = rule.times().is_known() && rule.draft_on(history, 1, 0, n_rows, 1);
    const bool is_probe = !goes_on && rule.times().is_known() && rule.probe_due(history, DraftOrigin::kModel);
    if (is_probe) Lookahead::try_now(history, DraftOrigin::kModel);
    while (goes_on || (is_probe && n_drafted < 2)) {
      const size_t c = random() % Acceptance::kClasses;
      ++n_drafted;
      rule.times().learn_draft(world.draft * world.unit_ms);
      rule.saw(history, DraftOrigin::kModel, c);
      made.classes[made.n++] = static_cast<uint8_t>(c);
      survival *= Lookahead::rate_of(history, DraftOrigin::kModel, c);
      goes_on = !is_probe && made.n < kMaxDraft && rule.draft_on(history, survival, made.n, n_rows, 1);
    }
    if (!is_probe) made.n = rule.model_length(history, made, n_rows);
    bool is_right = true;
    while (made.n_accepted < made.n && is_right) {
      const bool sure = made.classes[made.n_accepted] >= Acceptance::kClasses / 2;
      is_right = world.informed ? sure : uniform(random) < world.acceptance;
      made.n_accepted += is_right;
    }
    made.n_judged = std::min(made.n, made.n_accepted + 1);
    if (made.n > 0) {
      rule.learn(history, made);
      rule.tried(history, made, is_probe, n_rows);
    }
    const double step = 1 + world.row * static_cast<double>(n_rows - 1 + made.n);
    const double drafting = world.draft * static_cast<double>(n_drafted);
    rule.learn(n_rows + made.n, n_rows + made.n_accepted, step * world.unit_ms, drafting * world.unit_ms);
    for (size_t i = 0; i <= made.n_accepted; ++i) Lookahead::count_token(history);
    units += step + drafting;
    tokens += 1.0 + static_cast<double>(made.n_accepted);
    n_proposed += made.n;
    n_off += made.n == 0;
    ++n_steps;
  }
  return {tokens / units, static_cast<double>(n_proposed) / static_cast<double>(n_steps), n_off};
}

// Expected tokens over expected time at a fixed length (docs/engine.md).
double formula(const World& world, size_t length) {
  const double a = world.acceptance, g = static_cast<double>(length);
  return (1 - std::pow(a, g + 1)) / (1 - a) / (1 + world.row * g + world.draft * g);
}

double best_by_formula(const World& world) {
  double best = 1;
  for (size_t g = 1; g <= kMaxDraft; ++g) best = std::max(best, formula(world, g));
  return best;
}

TEST(Lookahead, ComesCloseToTheBestFixedLength) {
  for (const double acceptance : {0.5, 0.6, 0.7, 0.8, 0.9, 0.97}) {
    World world;
    world.acceptance = acceptance;
    Lookahead rule({});
    play(rule, world, 500);
    EXPECT_GE(play(rule, world, 5000).rate, 0.94 * best_by_formula(world)) << acceptance;
  }
}

TEST(Lookahead, StaysOffWhereDraftsDoNotPay) {
  for (const double acceptance : {0.0, 0.05, 0.15}) {
    World world;
    world.acceptance = acceptance;
    Lookahead rule({});
    const Played played = play(rule, world, 2000);
    EXPECT_GE(played.rate, 0.985) << acceptance;
    EXPECT_LT(played.mean_length, 0.1) << acceptance;
  }
}

TEST(Lookahead, TriesAgainEverMoreRarely) {
  World world;
  world.acceptance = 0;
  Lookahead rule({});
  play(rule, world, 1000);
  const Played later = play(rule, world, 20000);
  EXPECT_GE(later.rate, 0.998);
}

// A text that becomes easy is noticed by a probe.
TEST(Lookahead, ComesBackWhenTheTextBecomesEasy) {
  Lookahead rule({});
  World world;
  world.acceptance = 0;
  play(rule, world, 300);
  world.acceptance = 0.9;
  EXPECT_GE(play(rule, world, 3000).rate, 0.85 * best_by_formula(world));
}

// If confidence tells right from wrong, doubtful proposals are not verified and drafting stops at them.
TEST(Lookahead, LearnsWhereToCut) {
  World world;
  world.informed = true;
  world.acceptance = 0.5;
  Lookahead rule({});
  play(rule, world, 500);
  const double informed = play(rule, world, 5000).rate;
  EXPECT_GT(informed, 1.02 * best_by_formula(world));
  // One right proposal and a wrong one on average, of which only the right one is verified.
  EXPECT_GE(informed, 0.88 * 2 / (1 + 2 * world.draft + world.row));
}

TEST(Lookahead, ManySequencesLeaveNoTimeForDrafts) {
  World world;
  Lookahead alone({}), crowded({});
  EXPECT_GT(play(alone, world, 2000).mean_length, 1);
  EXPECT_LT(play(crowded, world, 2000, 7).mean_length, 0.2);
}

TEST(Lookahead, FixedLengthAndCutOffAreKept) {
  Lookahead rule({.most = 3, .cut_off = 0.7, .adaptive = false});
  const DraftHistory history = rule.new_history();
  EXPECT_TRUE(rule.draft_on(history, 0, 2, 1, 1));
  EXPECT_FALSE(rule.draft_on(history, 1, 3, 1, 1));
  EXPECT_EQ(rule.lookup_length(history, 0, 8, 1), 3u);
}

TEST(Lookahead, LongMatchesAreFollowedFarther) {
  Lookahead rule({});
  DraftHistory history = rule.new_history();
  for (int i = 0; i < 200; ++i) {
    DraftVerdict sure;
    sure.n = sure.n_judged = sure.n_accepted = 4;
    sure.classes.fill(static_cast<uint8_t>(match_class(12)));
    rule.learn(history, sure);
    DraftVerdict wrong;
    wrong.n = 2;
    wrong.n_judged = 1;
    wrong.classes.fill(static_cast<uint8_t>(match_class(3)));
    rule.learn(history, wrong);
  }
  EXPECT_EQ(rule.lookup_length(history, match_class(12), kMaxDraft, 1), kMaxDraft);
  EXPECT_EQ(rule.lookup_length(history, match_class(3), kMaxDraft, 1), 0u);
}

// The unit follows the machine; the ratios stay.
TEST(StepTimes, ToldApartFromTheMachinesMood) {
  StepTimes times;
  for (int i = 0; i < 200; ++i) {
    times.learn_step(1, 40);
    times.learn_step(5, 44);
    times.learn_draft(10);
  }
  EXPECT_NEAR(times.step(5), 1.1, 0.01);
  EXPECT_NEAR(times.draft(), 0.25, 0.01);
  for (int i = 0; i < 100; ++i) times.learn_step(5, 66);  // the memory has become slower
  EXPECT_NEAR(times.unit_ms(), 60, 3);
  EXPECT_NEAR(times.step(5), 1.1, 0.07);
  EXPECT_GE(times.step(6), times.step(5));
}

// One step that was interrupted may not keep its length from ever being tried again.
TEST(StepTimes, AMishapIsForgotten) {
  StepTimes times;
  for (int i = 0; i < 10; ++i) times.learn_step(1, 40);
  times.learn_step(5, 4000);
  EXPECT_LT(times.step(5), 3);
  for (int i = 0; i < 500; ++i) times.learn_step(1, 40);
  EXPECT_LT(times.step(5), 1.3);
}

}  // namespace
}  // namespace ruvltra

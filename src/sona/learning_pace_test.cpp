#include "sona/learning_pace.h"

#include <gtest/gtest.h>

#include <optional>
#include <thread>

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_of(const std::function<void()>& f) {
  const auto begun = Clock::now();
  f();
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

TEST(LearningPaceTest, RestsWhileAnswersAreMade) {
  LearningPace pace([] { return true; });
  EXPECT_GE(seconds_of([&] { pace.engine_worked(0.002); }), 0.002 * (1 / LearningPace::kShare - 1));
}

TEST(LearningPaceTest, RestsForNobodyElse) {
  LearningPace idle([] { return false; }), without({});
  // An hour's work would be four days of rest.
  idle.engine_worked(3600);
  without.engine_worked(3600);
  // And if the answers end meanwhile, so does the rest.
  int n_asked = 0;
  LearningPace ending([&] { return ++n_asked < 3; });
  ending.engine_worked(3600);
  EXPECT_EQ(n_asked, 3);
}

TEST(LearningPaceTest, HurriesForWhoWaits) {
  // Somebody comes while it rests: the first two looks are at a rest of 990 ms.
  std::optional<LearningPace::Waiting> waiting;
  LearningPace* pace = nullptr;
  int n_asked = 0;
  LearningPace made([&] {
    if (++n_asked == 3) waiting.emplace(*pace);
    return true;
  });
  pace = &made;
  const double seconds = seconds_of([&] { made.engine_worked(0.01); });
  EXPECT_GE(n_asked, 3);
  EXPECT_LE(n_asked, 12);  // each look is 5 ms after the one before it, and 99 times 10 ms are 200 of them
  EXPECT_GE(seconds, 0.01 * (1 / LearningPace::kAwaitedShare - 1));
  // Gone again: the next rest is a long one.
  waiting.reset();
  EXPECT_GE(seconds_of([&] { made.engine_worked(0.0005); }), 0.0005 * 99);
}

TEST(LearningPaceTest, BreathesAfterAQuantum) {
  int n_asked = 0;
  LearningPace pace([&] { return ++n_asked > 0; });
  const auto end = Clock::now() + std::chrono::milliseconds(60);
  while (Clock::now() < end) pace.breathe();
  pace.breathe();  // whatever became of the time
  EXPECT_GE(n_asked, 1);
  EXPECT_LE(n_asked, 5);  // 5 ms of work, 15 of rest
}

}  // namespace
}  // namespace ruvltra

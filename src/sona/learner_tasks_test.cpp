// The learner's tasks, and what takes an adapter back.
#include <gtest/gtest.h>

#include "sona/learner.h"
#include "sona/learner_for_test.h"

namespace ruvltra {
namespace {

using namespace testing;

TEST_F(LearnerTest, ABoundaryHoldsOnToWhatIsLive) {
  // The second author has something of the first: else what was learned of the first would be taken back.
  std::vector<std::vector<TokenId>> first, second;
  auto other = language.world.normals(TestLanguage::kWidth, 0.4f);
  for (size_t i = 0; i < other.size(); ++i) other[i] += author[i];
  for (int i = 0; i < 100; ++i) first.push_back(language.text(65, random, author));
  for (int i = 0; i < 100; ++i) second.push_back(language.text(65, random, other));
  std::vector<double> forgotten;
  for (const double lambda : {0.0, 4000.0}) {
    TestLearner t(language, folder.path() / std::to_string(lambda), [&](LearnerOptions& options) {
      options.ewc_lambda = lambda;
      options.max_steps = 8;  // fewer stop before any anchor is felt
    });
    for (const auto& text : first) ASSERT_TRUE(t.learner->enqueue(t.signal("ann", text)));
    ASSERT_TRUE(t.learn("ann").accepted);
    ASSERT_TRUE(t.learner->begin_task(ann, "the second"));
    EXPECT_EQ(t.count("boundaries"), 1u);
    for (const auto& text : second) ASSERT_TRUE(t.learner->enqueue(t.signal("ann", text)));
    const LearnReport report = t.learn("ann");
    EXPECT_TRUE(report.accepted) << report.detail;
    ASSERT_EQ(report.forgetting.size(), 1u);
    forgotten.push_back(report.forgetting[0].nat);
  }
  std::printf("forgotten: %.4f, %.4f nat\n", forgotten[0], forgotten[1]);
  EXPECT_LT(forgotten[1], forgotten[0] - 0.01);
}

// What a task that is over loses is told with each publish, measured on text of it that was never trained on.
TEST_F(LearnerTest, ForgettingIsToldForEachTask) {
  auto other = language.world.normals(TestLanguage::kWidth, 0.4f);
  for (size_t i = 0; i < other.size(); ++i) other[i] += author[i];
  {
    TestLearner t(language, folder.path());
    // Nothing learned, nothing to forget.
    t.teach("ann", 5, random, author, "s");
    ASSERT_TRUE(t.learner->begin_task(ann, "first"));
    EXPECT_EQ(t.count("boundaries_before_learning"), 1u);
    EXPECT_EQ(t.count("boundaries"), 0u);
    t.teach("ann", 100, random, author, "s");
    const LearnReport first = t.learn("ann");
    ASSERT_TRUE(first.accepted) << first.detail;
    EXPECT_TRUE(first.forgetting.empty());
    ASSERT_TRUE(t.learner->begin_task(ann, "second"));
  }
  // It outlives a restart.
  TestLearner t(language, folder.path());
  const auto before = t.learner->live(ann).adapter;
  for (int i = 0; i < 150; ++i)
    ASSERT_TRUE(t.learner->enqueue(t.signal("ann", language.text(65, random, other))));
  const LearnReport second = t.learn("ann");
  ASSERT_TRUE(second.accepted) << second.detail;
  ASSERT_EQ(second.forgetting.size(), 1u);
  EXPECT_EQ(second.forgetting[0].task, "first");
  EXPECT_GE(second.forgetting[0].n_tokens, 512u);
  EXPECT_NE(second.json().find("\"forgetting\":[{"), std::string::npos);
  // As fresh texts of the first task have it, by the full softmax.
  std::vector<std::vector<TokenId>> texts;
  for (int i = 0; i < 100; ++i) texts.push_back(language.text(65, random, author));
  const double lost = language.nll(*t.learner->live(ann).adapter, texts) - language.nll(*before, texts);
  EXPECT_NEAR(second.forgetting[0].nat, lost, 0.05);
  // Whose conversation it was may have it deleted.
  const auto n_kept = [&] {
    ScopeState state(ann, StateShape::of(*t.space), 1000, 16'384, 8'192);
    const auto loaded = state.load(state_file(folder.path() / "state", ann));
    EXPECT_TRUE(loaded) << loaded.error().message;
    return state.kept.texts().size();
  };
  EXPECT_GT(n_kept(), 8u);
  ASSERT_TRUE(t.learner->delete_data("ann", "s"));
  EXPECT_EQ(n_kept(), 0u);
}

// Where nobody says that something else comes, what the learned weights gain on it does.
TEST_F(LearnerTest, AShiftIsFoundOnceSomethingWasLearned) {
  auto other = language.world.normals(TestLanguage::kWidth, 0.4f);
  for (size_t i = 0; i < other.size(); ++i) other[i] -= author[i];
  TestLearner t(language, folder.path());
  ASSERT_TRUE(t.learner->begin_task(ann, "named"));
  // There is nothing yet that a change of style could cost.
  t.teach("ann", 30, random, other);
  t.teach("ann", 110, random, author);
  ASSERT_TRUE(t.learn("ann").accepted);
  EXPECT_EQ(t.count("boundaries_found"), 0u);
  // More of the same is no change, however it varies; another style is one.
  t.teach("ann", 100, random, author);
  ASSERT_TRUE(t.learner->drain());
  EXPECT_EQ(t.count("boundaries_found"), 0u);
  t.teach("ann", 40, random, other);
  ASSERT_TRUE(t.learner->drain());
  EXPECT_EQ(t.count("boundaries_found"), 1u);
  EXPECT_EQ(t.count("boundaries"), 1u);
}

// A task in which nothing was published has added nothing to hold on to: the anchor stands already.
TEST_F(LearnerTest, AShiftInATaskThatTaughtNothingIsNoBoundary) {
  std::vector<float> opposite = author;
  for (float& x : opposite) x = -x;
  TestLearner t(language, folder.path());
  ASSERT_TRUE(t.learner->begin_task(ann, "first"));
  t.teach("ann", 110, random, author);
  ASSERT_TRUE(t.learn("ann").accepted);
  ASSERT_TRUE(t.learner->begin_task(ann, "second"));
  t.teach("ann", 40, random, author);
  t.teach("ann", 40, random, opposite);
  ASSERT_TRUE(t.learner->drain());
  EXPECT_GE(t.count("boundaries_found"), 1u);
  EXPECT_EQ(t.count("boundaries"), 1u);
}

TEST_F(LearnerTest, RollbackGivesTheSameBytes) {
  TestLearner t(language, folder.path());
  t.teach("ann", 110, random, author);
  ASSERT_TRUE(t.learn("ann").accepted);
  const auto first = t.learner->live(ann);
  t.teach("ann", 110, random, author);
  ASSERT_TRUE(t.learn("ann").accepted);
  ASSERT_NE(t.learner->live(ann).adapter->hash(), first.adapter->hash());
  const auto back = t.learner->rollback(ann);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->number, 3u);
  EXPECT_EQ(t.learner->live(ann).adapter->hash(), first.adapter->hash());
  EXPECT_EQ(t.learner->live(ann).adapter->bytes(), first.adapter->bytes());
  ASSERT_TRUE(t.learner->reset(ann));
  EXPECT_TRUE(t.learner->live(ann).adapter->is_zero());
  ASSERT_TRUE(t.learner->rollback(ann, 2));
  EXPECT_EQ(t.learner->history(ann).size(), 5u);
  const auto never = t.learner->rollback(ann, 77);
  ASSERT_FALSE(never);
  EXPECT_EQ(never.error().id, "learning.not_found");
}

TEST_F(LearnerTest, WhatAnOperatorTookBackIsNotPublishedByItself) {
  std::vector<std::vector<TokenId>> texts;
  for (int i = 0; i < 110; ++i) texts.push_back(language.text(65, random, author));
  const auto file = folder.path() / "learned";
  Sha256Digest hash = {};
  {
    TestLearner t(language, folder.path() / "a");
    for (const auto& text : texts) ASSERT_TRUE(t.learner->enqueue(t.signal("ann", text)));
    hash = t.learn("ann").hash;
    ASSERT_TRUE(t.learner->export_adapter(ann, {}, file));
  }
  // The same texts give the same adapter. The row of the rollback forbids it where the state is lost, and the
  // state where the row is.
  for (const bool row_is_lost : {false, true}) {
    const auto own = folder.path() / (row_is_lost ? "b" : "c");
    const auto few = [](LearnerOptions& options) { options.keep_generations = 2; };
    {
      TestLearner t(language, own, few);
      ASSERT_TRUE(t.learner->import_adapter(ann, file));
      ASSERT_EQ(t.learner->live(ann).adapter->hash(), hash);
      ASSERT_TRUE(t.learner->rollback(ann));
      for (int i = 0; row_is_lost && i < 2; ++i) ASSERT_TRUE(t.learner->reset(ann));
      ASSERT_TRUE(t.learner->drain());
      EXPECT_EQ(t.count("operator_rollbacks"), 1u);
    }
    if (!row_is_lost) std::filesystem::remove_all(own / "state");
    TestLearner t(language, own, few);
    for (const auto& text : texts) ASSERT_TRUE(t.learner->enqueue(t.signal("ann", text)));
    EXPECT_EQ(t.learn("ann").reason, "rolled back before");
    EXPECT_TRUE(t.learner->live(ann).adapter->is_zero());
  }
}

TEST_F(LearnerTest, AnAdapterThatBecomesWorseThanItsParentIsTakenBack) {
  TestLearner t(language, folder.path());
  t.teach("ann", 110, random, author);
  ASSERT_TRUE(t.learn("ann").accepted);
  const auto bad = t.learner->live(ann).adapter->hash();
  t.teach("ann", 40, random, author);  // more of the same is no reason
  ASSERT_TRUE(t.learner->drain());
  EXPECT_EQ(t.count("rollbacks"), 0u);
  std::vector<float> opposite = author;
  for (float& value : opposite) value = -value;
  t.teach("ann", 60, random, opposite);
  ASSERT_TRUE(t.learner->drain());
  EXPECT_EQ(t.count("rollbacks"), 1u);
  EXPECT_TRUE(t.learner->live(ann).adapter->is_zero());
  EXPECT_NE(t.learner->live(ann).adapter->hash(), bad);
  EXPECT_EQ(t.learn("ann").reason, "frozen");
  t.now += int64_t{3601} * 1'000'000;
  t.teach("ann", 60, random, opposite);
  EXPECT_NE(t.learn("ann").reason, "frozen");
}

TEST_F(LearnerTest, WorseOutcomesTakeAnAdapterBack) {
  TestLearner t(language, folder.path());
  const auto rate = [&](int n, double quality) {
    for (int i = 0; i < n; ++i) {
      LearningSignal one = t.signal("ann", language.text(20, random), LearningSignalKind::kQuality);
      one.quality = quality;
      ASSERT_TRUE(t.learner->enqueue(std::move(one)));
    }
    ASSERT_TRUE(t.learner->drain());
  };
  rate(30, 0.9);
  t.teach("ann", 110, random, author);
  ASSERT_TRUE(t.learn("ann").accepted);
  rate(19, 0.5);
  EXPECT_EQ(t.count("rollbacks"), 0u);
  rate(2, 0.5);
  EXPECT_EQ(t.count("rollbacks"), 1u);
  EXPECT_TRUE(t.learner->live(ann).adapter->is_zero());
}

// Yes and no in equal parts, before and after: averages of a few dozen differ by more than a tenth again and
// again, which says nothing about the adapter.
TEST_F(LearnerTest, OutcomesThatDifferByChanceDoNot) {
  TestLearner t(language, folder.path());
  const auto flip = [&](int n) {
    for (int i = 0; i < n; ++i) {
      LearningSignal one = t.signal("ann", language.text(4, random), LearningSignalKind::kQuality);
      one.quality = static_cast<double>(random() % 2);
      ASSERT_TRUE(t.learner->enqueue(std::move(one)));
    }
    ASSERT_TRUE(t.learner->drain());
  };
  flip(60);
  t.teach("ann", 110, random, author);
  ASSERT_TRUE(t.learn("ann").accepted);
  flip(200);
  EXPECT_EQ(t.count("rollbacks"), 0u);
  EXPECT_FALSE(t.learner->live(ann).adapter->is_zero());
}

}  // namespace
}  // namespace ruvltra

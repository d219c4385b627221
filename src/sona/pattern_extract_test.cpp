#include "sona/pattern_extract.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/fail.h"
#include "base/utf8.h"

namespace ruvltra {
namespace {

// One token for each word, as whitespace separates them.
Result<size_t> count_words(std::string_view text) {
  size_t n = 0;
  bool in_word = false;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n' || c == '\t';
    n += !space && !in_word;
    in_word = !space;
  }
  return n;
}

TrajectoryRecord record_of(std::optional<double> quality, Verdict verdict = {}) {
  TrajectoryRecord record;
  record.id.bytes[15] = 7;
  record.quality = quality;
  record.body.verdict = verdict;
  TrajectoryStep task;
  task.text = "Parse the date of an order.\nIt may be empty.";
  record.body.steps.push_back(task);
  return record;
}

void add_action(TrajectoryRecord& record, std::string name, std::string text,
                std::optional<double> quality = {}) {
  TrajectoryStep step;
  step.kind = TrajectoryStep::Kind::kAction;
  step.name = std::move(name);
  step.text = std::move(text);
  step.quality = quality;
  record.body.steps.push_back(step);
}

std::vector<PatternItem> extract(const TrajectoryRecord& record, double threshold = 0.6) {
  auto items = extract_patterns(record, threshold, count_words);
  EXPECT_TRUE(items.has_value());
  return items.value_or(std::vector<PatternItem>{});
}

TEST(PatternExtract, SuccessGivesItsLessonAsStrategy) {
  TrajectoryRecord record = record_of(0.9, Verdict::success());
  record.body.lesson = "Check for an empty field first.";
  add_action(record, "write", "code");
  const auto items = extract(record);
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].kind, PatternKind::kStrategy);
  EXPECT_EQ(items[0].text, "Check for an empty field first.");
  EXPECT_EQ(items[0].title, "Parse the date of an order.");
  EXPECT_EQ(items[0].when, "Parse the date of an order.\nIt may be empty.");
  EXPECT_EQ(items[0].quality, 0.9);
  EXPECT_EQ(items[0].origins, std::vector<RecordId>{record.id});
  EXPECT_EQ(items[0].provenance, "lesson");
}

TEST(PatternExtract, WithoutLessonTheActionsAreTheText) {
  TrajectoryRecord record = record_of(1.0);
  add_action(record, "answer", "use strptime");
  EXPECT_EQ(extract(record).at(0).text, "use strptime");
  add_action(record, "run tests", "");
  EXPECT_EQ(extract(record).at(0).text, "1. answer: use strptime\n2. run tests");
}

TEST(PatternExtract, ThresholdCountsForSuccessOnly) {
  for (const double quality : {0.0001, 0.3, 0.59}) {
    TrajectoryRecord record = record_of(quality, Verdict::partial(quality));
    add_action(record, "answer", "text");
    EXPECT_TRUE(extract(record).empty()) << quality;
  }
  TrajectoryRecord unknown = record_of({});
  add_action(unknown, "answer", "text");
  EXPECT_TRUE(extract(unknown).empty());
  TrajectoryRecord at = record_of(0.6);
  add_action(at, "answer", "text");
  EXPECT_EQ(extract(at).size(), 1u);
}

TEST(PatternExtract, FailureIsNeverDropped) {
  for (const double quality : {0.0, 0.4, 0.95}) {
    TrajectoryRecord record = record_of(quality, Verdict::failure());
    add_action(record, "answer", "divide by the count");
    const auto items = extract(record);
    ASSERT_EQ(items.size(), 1u) << quality;
    EXPECT_EQ(items[0].kind, PatternKind::kAvoid);
    EXPECT_EQ(items[0].quality, quality);
  }
  TrajectoryRecord zero = record_of(0.0);
  zero.body.lesson = "Do not divide.";
  EXPECT_EQ(extract(zero).at(0).kind, PatternKind::kAvoid);
}

TEST(PatternExtract, WhatSomebodySaidLaterOverridesTheVerdict) {
  for (const QualitySource source :
       {QualitySource::kPerson, QualitySource::kTest, QualitySource::kChecker, QualitySource::kCaller}) {
    const auto kinds = [&](Verdict verdict, double quality) {
      TrajectoryRecord record = record_of(quality, verdict);
      record.source = source;
      add_action(record, "answer", "text");
      std::string out;
      for (const auto& item : extract(record)) out += pattern_kind_name(item.kind);
      return out;
    };
    EXPECT_EQ(kinds(Verdict::success(), 0), "avoid");
    EXPECT_EQ(kinds(Verdict::success(), 0.3), "");
    EXPECT_EQ(kinds(Verdict::failure(), 1), "strategy");
    EXPECT_EQ(kinds(Verdict::failure(), 0.55), "");
    EXPECT_EQ(kinds(Verdict::failure(), 0.49), "avoid");
  }
}

TEST(PatternExtract, CorrectionSaysWhatChanged) {
  TrajectoryRecord record = record_of(0.0, Verdict::failure());
  add_action(record, "answer", "The capital of Australia is Sydney and it lies on the coast.");
  add_action(record, std::string(kCorrectionAction),
             "The capital of Australia is Canberra and it lies on the coast.");
  const auto items = extract(record);
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].kind, PatternKind::kAvoid);
  EXPECT_EQ(items[1].kind, PatternKind::kCorrection);
  EXPECT_EQ(items[1].text, "instead of \"Sydney\" write \"Canberra\"");
  EXPECT_EQ(items[1].quality, 1);
}

TEST(PatternExtract, CorrectedAnswerIsNoStrategy) {
  TrajectoryRecord record = record_of(0.8);
  add_action(record, "answer", "wrong words entirely here");
  add_action(record, std::string(kCorrectionAction), "something else was meant by this");
  const auto items = extract(record);
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].kind, PatternKind::kCorrection);
  EXPECT_EQ(items[0].text, "something else was meant by this");
}

TEST(PatternExtract, AtMostThree) {
  TrajectoryRecord record = record_of(0.0, Verdict::failure());
  add_action(record, "answer", "aaa");
  for (int i = 0; i < 6; ++i) add_action(record, std::string(kCorrectionAction), "text " + std::to_string(i));
  EXPECT_EQ(extract(record).size(), 3u);
}

TEST(PatternExtract, NothingReusableNoItem) {
  EXPECT_TRUE(extract(record_of(1.0, Verdict::success())).empty());
  EXPECT_TRUE(extract(record_of(0.0, Verdict::failure())).empty());
}

TEST(PatternExtract, TextIsCutAtTwoHundredTokens) {
  TrajectoryRecord record = record_of(1.0);
  std::string lesson;
  for (int i = 0; i < 1000; ++i) lesson += "wörd" + std::to_string(i) + " ";
  record.body.lesson = lesson;
  const auto items = extract(record);
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(count_words(items[0].text).value(), kMaxPatternTokens);
  EXPECT_TRUE(items[0].text.ends_with("wörd198 ..."));
  record.body.lesson = std::string(100'000, 'x');
  EXPECT_LE(extract(record).at(0).text.size(), kMaxPatternBytes);
  std::string long_letters;
  while (long_letters.size() < 20'000) long_letters += "ü";
  record.body.lesson = long_letters;
  EXPECT_TRUE(utf8_is_valid(extract(record).at(0).text));
}

TEST(PatternExtract, CounterErrorsArePassedOn) {
  TrajectoryRecord record = record_of(1.0);
  record.body.lesson = "x";
  const auto failing = [](std::string_view) -> Result<size_t> { return fail("test.count", "no"); };
  EXPECT_EQ(extract_patterns(record, 0.6, failing).error().id, "test.count");
}

TEST(PatternExtract, DescribeChange) {
  EXPECT_EQ(describe_change("", "new"), "new");
  EXPECT_EQ(describe_change("same", "same"), "same");
  EXPECT_EQ(describe_change("a b c d e f", "a b c X d e f"), "add \"X\"");
  EXPECT_EQ(describe_change("a b c X d e f", "a b c d e f"), "leave out \"X\"");
  EXPECT_EQ(describe_change("one two three", "four five six"), "four five six");
  EXPECT_EQ(describe_change("a b", "a b c"), "add \"c\"") << "at the end";
  EXPECT_EQ(describe_change("b c d e", "a b c d e"), "add \"a\"") << "at the beginning";
  EXPECT_EQ(describe_change("a a a a", "a a a"), "leave out \"a\"") << "repeats";
  // A word that only begins alike is replaced as a whole.
  EXPECT_EQ(describe_change("we go to the cathedral of the town", "we go to the cat of the town"),
            "instead of \"cathedral\" write \"cat\"");
}

}  // namespace
}  // namespace ruvltra

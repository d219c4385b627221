#include "ruvltra/learning.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "base/record_id.h"

namespace ruvltra {
namespace {

TEST(RecordId, TextRoundTrip) {
  RecordId id;
  for (size_t i = 0; i < id.bytes.size(); ++i) id.bytes[i] = static_cast<uint8_t>(17 * i + 3);
  EXPECT_EQ(id.text(), "031425364758697a8b9cadbecfe0f102");
  EXPECT_EQ(*RecordId::parse(id.text()), id);
  EXPECT_EQ(*RecordId::parse("031425364758697A8B9CADBECFE0F102"), id);
  EXPECT_FALSE(id.empty());
  EXPECT_TRUE(RecordId{}.empty());
  for (const char* bad : {"", "0", "031425364758697a8b9cadbecfe0f10", "031425364758697a8b9cadbecfe0f1022",
                          "g31425364758697a8b9cadbecfe0f102", "0x1425364758697a8b9cadbecfe0f102"}) {
    const auto result = RecordId::parse(bad);
    ASSERT_FALSE(result) << bad;
    EXPECT_EQ(result.error().id, "learning.bad_id");
    EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
  }
}

// Eight big-endian bytes of microseconds come first, so that bytes sort by age.
TEST(RecordId, BeginsWithItsTime) {
  const int64_t before = now_us();
  const RecordId id = new_record_id();
  uint64_t time = 0;
  for (size_t i = 0; i < 8; ++i) time = time << 8 | id.bytes[i];
  EXPECT_GE(time, static_cast<uint64_t>(before));
  EXPECT_LE(time, static_cast<uint64_t>(now_us()) + 1'000'000);
}

TEST(RecordId, StrictlyIncreasingOnEveryThread) {
  constexpr size_t kThreads = 4;
  constexpr size_t kIds = 5'000;
  std::vector<std::vector<RecordId>> made(kThreads);
  std::vector<std::thread> threads;
  for (auto& ids : made) {
    threads.emplace_back([&ids] {
      for (size_t i = 0; i < kIds; ++i) ids.push_back(new_record_id());
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<std::array<uint8_t, 8>> times;
  for (const auto& ids : made) {
    for (size_t i = 1; i < ids.size(); ++i) ASSERT_LT(ids[i - 1], ids[i]);
    for (const RecordId& id : ids) {
      std::array<uint8_t, 8> time;
      std::copy_n(id.bytes.begin(), time.size(), time.begin());
      times.insert(time);
    }
  }
  EXPECT_EQ(times.size(), kThreads * kIds);  // no two share a time
}

TEST(Verdict, QualitiesOfTheSpecification) {
  EXPECT_EQ(Verdict::success().quality(), 1.0);
  EXPECT_EQ(Verdict::failure().quality(), 0.0);
  EXPECT_EQ(Verdict::partial(0.25).quality(), 0.25);
  EXPECT_DOUBLE_EQ(*Verdict::recovered(1).quality(), 0.95);
  EXPECT_DOUBLE_EQ(*Verdict::recovered(3).quality(), 0.85);
  EXPECT_DOUBLE_EQ(*Verdict::recovered(6).quality(), 0.7);
  EXPECT_DOUBLE_EQ(*Verdict::recovered(100).quality(), 0.7);
  EXPECT_EQ(Verdict{}.quality(), std::nullopt);
  EXPECT_EQ(verdict_name(VerdictKind::kRecovered), "recovered");
  EXPECT_EQ(verdict_name(VerdictKind::kNone), "none");
}

TEST(Trajectory, FinalQualityIsTheMostExplicitOne) {
  Trajectory t("code-generation");
  EXPECT_GT(t.created_us, 0);
  EXPECT_EQ(t.final_quality(), std::nullopt);
  EXPECT_EQ(t.final_source(), QualitySource::kNone);
  t.add_state({"write a parser", {}, 77})
      .add_action("plan")
      .add_action("generate", 0.9)
      .add_action("fix", 0.5);
  EXPECT_DOUBLE_EQ(*t.final_quality(), 0.7);  // actions without a quality do not count
  EXPECT_EQ(t.final_source(), QualitySource::kActions);
  t.set_verdict(Verdict::partial(0.4));
  EXPECT_EQ(t.final_quality(), 0.4);
  EXPECT_EQ(t.final_source(), QualitySource::kVerdict);
  t.set_quality(0.2, QualitySource::kTest);
  EXPECT_EQ(t.final_quality(), 0.2);
  EXPECT_EQ(t.final_source(), QualitySource::kTest);
  ASSERT_EQ(t.steps.size(), 4u);
  EXPECT_EQ(t.steps[0].time_us, 77);
  EXPECT_GT(t.steps[1].time_us, 0);
  EXPECT_EQ(t.steps[2].name, "generate");
}

TEST(PatternKind, Names) {
  for (const PatternKind kind : {PatternKind::kStrategy, PatternKind::kCorrection, PatternKind::kAvoid}) {
    EXPECT_EQ(*parse_pattern_kind(pattern_kind_name(kind)), kind);
  }
  const auto bad = parse_pattern_kind("Avoid");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().id, "learning.pattern_kind");
}

}  // namespace
}  // namespace ruvltra

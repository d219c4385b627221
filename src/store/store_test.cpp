#include "store/store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>

#include "store/jsonl.h"
#include "store/store_parts.h"
#include "store/faults/samples.h"

namespace ruvltra {
namespace {

std::unique_ptr<Store> open_in(const std::filesystem::path& folder, Store::Options options = {}) {
  options.backup_hours = 0;
  auto store = Store::open(folder, options);
  EXPECT_TRUE(store) << (store ? "" : store.error().message);
  return store ? *std::move(store) : nullptr;
}

template <class T>
void expect_ok(const Result<T>& result) {
  ASSERT_TRUE(result) << result.error().id << ": " << result.error().message;
}
template <class T>
void expect_error(const Result<T>& result, std::string_view id) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().id, id) << result.error().message;
}

// Equal records have equal lines: the JSONL holds every field.
template <class Record>
void expect_same(const Record& found, const Record& expected) {
  EXPECT_EQ(to_jsonl(found), to_jsonl(expected));
}

std::vector<TrajectoryId> trajectory_ids(Store& store, const std::string& tenant) {
  std::vector<TrajectoryId> ids;
  expect_ok(store.each_trajectory(tenant, [&](const TrajectoryRecord& record) {
    ids.push_back(record.id);
    return true;
  }));
  return ids;
}

TEST(Store, EverythingSurvivesARestart) {
  const ScratchFolder folder("store");
  constexpr uint64_t kRecords = 700;  // more than one piece of a list
  const ClusterRecord cluster{4, 9, sample_vector(4), 1};
  {
    const auto store = open_in(folder.path());
    for (uint64_t n = 0; n < kRecords; ++n) {
      expect_ok(store->put_trajectory_async(sample_trajectory(n, n % 2 == 0 ? "a" : "b"),
                                            [](const Result<void>& r) { expect_ok(r); }));
    }
    std::vector<PatternRecord> patterns;
    for (uint64_t n = 0; n < 10; ++n) patterns.push_back(sample_pattern(n));
    expect_ok(store->put_patterns(patterns));
    expect_ok(store->put_feedback(sample_feedback(1)));
    expect_ok(store->put_decision(sample_decision(2)));
    expect_ok(store->put_value("router", std::vector<uint8_t>{1, 2, 3}));
    expect_ok(store->replace_clusters(std::vector{cluster},
                                      std::vector<std::pair<PatternId, int32_t>>{{sample_id(3, 1), 4}}));
    GenerationRecord generation;
    generation.tenant = "a";
    generation.reason = "instant";
    generation.created_us = 11;
    const auto published = store->publish(generation, 0);
    expect_ok(published);
    EXPECT_EQ(published->number, 1u);
  }
  const auto store = open_in(folder.path());
  EXPECT_TRUE(store->damaged().empty());
  for (uint64_t n = 0; n < kRecords; ++n) {
    const std::string tenant = n % 2 == 0 ? "a" : "b";
    const auto found = store->trajectory(tenant, sample_id(n));
    expect_ok(found);
    expect_same(*found, sample_trajectory(n, tenant));
    expect_error(store->trajectory(n % 2 == 0 ? "b" : "a", sample_id(n)), "store.not_found");
  }
  const auto of_a = trajectory_ids(*store, "a");
  EXPECT_EQ(of_a.size(), kRecords / 2);
  EXPECT_TRUE(std::is_sorted(of_a.begin(), of_a.end()));
  EXPECT_EQ(trajectory_ids(*store, "").size(), kRecords);
  for (uint64_t n = 0; n < 10; ++n) {
    PatternRecord expected = sample_pattern(n);
    const auto found = store->pattern(expected.id);
    expect_ok(found);
    expect_same(*found, expected);
    EXPECT_EQ(found->embedding, expected.embedding);
    EXPECT_EQ(found->cluster, n == 3 ? 4 : -1);
  }
  expect_same(*store->decision("local", sample_id(2, 3)), sample_decision(2));
  size_t n_feedback = 0;
  expect_ok(store->each_feedback("local", [&](const FeedbackRecord& record) {
    expect_same(record, sample_feedback(1));
    return ++n_feedback > 0;
  }));
  EXPECT_EQ(n_feedback, 1u);
  EXPECT_EQ(**store->value("router"), (std::vector<uint8_t>{1, 2, 3}));
  EXPECT_EQ(*store->value("nothing"), std::nullopt);
  const auto clusters = store->clusters();
  expect_ok(clusters);
  ASSERT_EQ(clusters->size(), 1u);
  EXPECT_EQ(clusters->front().centroid, cluster.centroid);
  const auto live = store->live("a", "");
  expect_ok(live);
  ASSERT_TRUE(*live);
  EXPECT_EQ((*live)->number, 1u);
  EXPECT_EQ((*live)->reason, "instant");
  EXPECT_FALSE(*store->live("b", ""));
}

}  // namespace
}  // namespace ruvltra

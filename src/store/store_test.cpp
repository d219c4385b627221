#include "store/store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <future>
#include <limits>
#include <thread>

#include "store/codec.h"
#include "store/faults/fault_vfs.h"
#include "store/store_test_tools.h"

namespace ruvltra {
namespace {

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

// A change that cannot be made fails alone; the others of its group are committed together.
TEST(Store, OneCommitForManyAndOneBadOneIsAlone) {
  const ScratchFolder folder("group");
  Store::Options options;
  options.group_ms = 500;
  const auto store = open_in(folder.path(), options);
  constexpr uint64_t kChanges = 40;
  std::vector<std::promise<Result<void>>> answers(kChanges);
  for (uint64_t n = 0; n < kChanges; ++n) {
    TrajectoryRecord record = sample_trajectory(n);
    if (n == 7) record.quality = std::numeric_limits<double>::quiet_NaN();
    if (n == 11) record.body.steps[2].hooks->values.pop_back();  // after two of its rows were written
    expect_ok(
        store->put_trajectory_async(record, [&answers, n](Result<void> r) { answers[n].set_value(r); }));
  }
  for (uint64_t n = 0; n < kChanges; ++n) {
    const Result<void> answer = answers[n].get_future().get();
    if (n == 7 || n == 11) {
      expect_error(answer, "store.bad_record");
    } else {
      expect_ok(answer);
    }
  }
  const StoreStats stats = store->stats();
  EXPECT_LT(stats.n_commits, 10u);
  EXPECT_EQ(stats.n_operations, kChanges - 2);
  EXPECT_EQ(stats.n_trajectories, kChanges - 2);
  expect_error(store->trajectory("local", sample_id(11)), "store.not_found");
  const auto damage = store->verify();
  expect_ok(damage);
  EXPECT_TRUE(damage->empty());
}

TEST(Store, ManyThreads) {
  const ScratchFolder folder("threads");
  const auto store = open_in(folder.path());
  constexpr uint64_t kThreads = 6, kEach = 60;
  std::atomic<int> n_errors = 0;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const std::string tenant = "tenant" + std::to_string(t);
      for (uint64_t i = 0; i < kEach; ++i) {
        const uint64_t n = i * kThreads + t;
        n_errors += !store->put_trajectory(sample_trajectory(n, tenant));
        n_errors += !store->trajectory(tenant, sample_id(n));
        if (i % 10 == 0) n_errors += !store->put_patterns(std::vector{sample_pattern(n, tenant)});
        if (i % 20 == 0) n_errors += !store->verify();
        if (i % 20 == 10) n_errors += !store->checkpoint();
        static_cast<void>(store->stats());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(n_errors, 0);
  EXPECT_EQ(trajectory_ids(*store, "").size(), kThreads * kEach);
  EXPECT_EQ(trajectory_ids(*store, "tenant3").size(), kEach);
  EXPECT_TRUE(store->damaged().empty());
}

TEST(Store, CallbacksMayNotCallItAndVisitorsMay) {
  const ScratchFolder folder("reenter");
  const auto store = open_in(folder.path());
  std::promise<Result<void>> inner;
  expect_ok(store->put_trajectory_async(sample_trajectory(0), [&](const Result<void>&) {
    inner.set_value(store->put_trajectory(sample_trajectory(1)));
  }));
  expect_error(inner.get_future().get(), "store.reentered");
  size_t n_seen = 0;
  expect_ok(store->each_trajectory("", [&](const TrajectoryRecord& record) {
    ++n_seen;
    expect_ok(store->trajectory("local", record.id));
    return true;
  }));
  EXPECT_EQ(n_seen, 1u);
}

TEST(Store, AFullQueueIsBusy) {
  const ScratchFolder folder("busy");
  Store::Options options;
  options.queue = 3;
  const auto store = open_in(folder.path(), options);
  std::promise<void> go, waiting;
  expect_ok(store->put_trajectory_async(sample_trajectory(0), [&](const Result<void>&) {
    waiting.set_value();
    go.get_future().wait();
  }));
  waiting.get_future().wait();
  std::atomic<int> n_done = 0;
  for (uint64_t n = 1; n <= 3; ++n) {
    expect_ok(store->put_trajectory_async(sample_trajectory(n),
                                          [&](const Result<void>& r) { n_done += r ? 1 : 0; }));
  }
  expect_error(store->put_trajectory(sample_trajectory(9)), "store.busy");
  go.set_value();
  while (n_done < 3) std::this_thread::yield();
  expect_ok(store->put_trajectory(sample_trajectory(9)));
}

TEST(Store, TwiceTheCapacityLeavesExactlyTheCapacity) {
  const ScratchFolder folder("capacity");
  constexpr uint64_t kCapacity = 50;
  Store::Options options;
  options.trajectory_capacity = kCapacity;
  options.pattern_capacity = 4;
  const auto store = open_in(folder.path(), options);
  for (uint64_t n = 0; n < 2 * kCapacity; ++n) {
    expect_ok(store->put_trajectory_async(sample_trajectory(n), [](const Result<void>& r) { expect_ok(r); }));
  }
  expect_ok(store->put_trajectory(sample_trajectory(2 * kCapacity - 1)));  // the same again
  const auto ids = trajectory_ids(*store, "");
  ASSERT_EQ(ids.size(), kCapacity);
  EXPECT_EQ(ids.front(), sample_id(kCapacity));
  EXPECT_EQ(ids.back(), sample_id(2 * kCapacity - 1));

  // Whom to evict is the bank's business: patterns beyond the capacity are refused, all of the call.
  std::vector<PatternRecord> patterns;
  for (uint64_t n = 0; n < 4; ++n) patterns.push_back(sample_pattern(n));
  expect_ok(store->put_patterns(patterns));
  const std::vector<PatternRecord> two = {sample_pattern(8), sample_pattern(9)};
  expect_error(store->change_patterns(std::vector{sample_id(0, 1)}, two), "store.full");
  EXPECT_EQ(store->stats().n_patterns, 4u);
  expect_ok(store->pattern(sample_id(0, 1)));
  expect_ok(store->change_patterns(std::vector{sample_id(0, 1), sample_id(1, 1)}, two));
  expect_error(store->pattern(sample_id(0, 1)), "store.not_found");
  expect_ok(store->pattern(sample_id(9, 1)));
  EXPECT_TRUE(store->verify()->empty());
}

TEST(Store, FeedbackOnceAndPublishByComparison) {
  const ScratchFolder folder("feedback");
  const auto store = open_in(folder.path());
  EXPECT_TRUE(*store->put_feedback(sample_feedback(1)));
  FeedbackRecord again = sample_feedback(1);
  again.id = sample_id(77, 2);
  again.time_us = 99;
  EXPECT_FALSE(*store->put_feedback(again));
  again.correction = "another";
  expect_error(store->put_feedback(again), "store.conflict");
  again.tenant = "other";
  EXPECT_TRUE(*store->put_feedback(again));

  expect_ok(store->put_decision(sample_decision(1)));
  DecisionRecord decided = sample_decision(1);
  decided.outcome_quality = 1.0;
  EXPECT_TRUE(*store->put_outcome(decided, sample_feedback(2)));
  decided.outcome_quality = 0.0;
  EXPECT_FALSE(*store->put_outcome(decided, sample_feedback(2)));
  EXPECT_EQ(store->decision("local", decided.id)->outcome_quality, 1.0);
  EXPECT_EQ(*store->expire_decisions(1), 0u);
  EXPECT_EQ(*store->expire_decisions(2), 1u);
  expect_error(store->decision("local", decided.id), "store.not_found");

  GenerationRecord generation;
  generation.tenant = "a";
  generation.session = "s";
  EXPECT_EQ(store->publish(generation, 0)->number, 1u);
  expect_error(store->publish(generation, 0), "store.conflict");
  EXPECT_EQ(store->publish(generation, 1)->number, 2u);
  EXPECT_EQ((*store->live("a", "s"))->number, 2u);
  EXPECT_FALSE(*store->live("a", ""));
  const auto history = store->history("a", "s", 10);
  expect_ok(history);
  ASSERT_EQ(history->size(), 2u);
  EXPECT_EQ(history->front().number, 2u);
}

// The oldest feedback and decisions go first, and with a feedback its name: also after a restart.
TEST(Store, FeedbackAndDecisionsAreBounded) {
  const ScratchFolder folder("bounded");
  Store::Options options;
  options.feedback_capacity = 3;
  options.decision_capacity = 2;
  for (uint64_t round = 0; round < 2; ++round) {
    const auto store = open_in(folder.path(), options);
    for (uint64_t n = 5 * round; n < 5 * round + 5; ++n) {
      EXPECT_TRUE(*store->put_feedback(sample_feedback(n)));
      expect_ok(store->put_decision(sample_decision(n)));
    }
    EXPECT_EQ(store->stats().n_feedback, 3u);
    EXPECT_EQ(store->stats().n_decisions, 2u);
  }
  const auto store = open_in(folder.path(), options);
  FeedbackRecord again = sample_feedback(3);  // gone, and so it is new
  again.id = sample_id(50, 2);
  again.correction = "another";
  EXPECT_TRUE(*store->put_feedback(again));
  EXPECT_TRUE(store->verify()->empty());
}

TEST(Store, ExactlyOnePublisherWins) {
  const ScratchFolder folder("race");
  const auto store = open_in(folder.path());
  std::atomic<int> n_won = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      GenerationRecord generation;
      generation.tenant = "a";
      n_won += store->publish(generation, 0) ? 1 : 0;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(n_won, 1);
}

TEST(Store, RefusesWhatItCouldNotGiveBack) {
  const ScratchFolder folder("bad");
  const auto store = open_in(folder.path());
  TrajectoryRecord no_id = sample_trajectory(1);
  no_id.id = {};
  expect_error(store->put_trajectory(no_id), "store.bad_record");
  TrajectoryRecord text = sample_trajectory(1);
  text.body.lesson = "\xff";
  expect_error(store->put_trajectory(text), "store.bad_record");
  PatternRecord vector = sample_pattern(1);
  vector.embedding[3] = 70'000;  // beyond f16
  expect_error(store->put_patterns(std::vector{vector}), "store.bad_record");
  vector.embedding.resize(255);
  expect_error(store->put_patterns(std::vector{vector}), "store.bad_record");
  FeedbackRecord feedback = sample_feedback(1);
  feedback.feedback_id.assign(129, 'f');
  expect_error(store->put_feedback(feedback), "store.bad_record");
  feedback.feedback_id.resize(128);
  EXPECT_TRUE(*store->put_feedback(feedback));
  TrajectoryRecord large = sample_trajectory(1);
  large.body.lesson.assign(17 << 20, 'x');
  expect_error(store->put_trajectory(large), "store.too_large");
  expect_error(store->put_value("v", std::vector<uint8_t>((16 << 20) + 1)), "store.too_large");
  expect_ok(store->put_trajectory(sample_trajectory(1, "a")));
  expect_error(store->put_trajectory(sample_trajectory(1, "b")), "store.conflict");
  EXPECT_EQ(store->stats().n_trajectories, 1u);
}

// Each by the writer and, with such bytes in a row whose checksum fits, by the reader.
TEST(Store, EmbeddingsAreUnitVectors) {
  const ScratchFolder folder("unit");
  const auto store = open_in(folder.path());
  const auto scaled = [](double factor) {
    std::vector<float> values = sample_vector(2);
    for (float& value : values) value = static_cast<float>(value * factor);
    return values;
  };
  const auto bytes_of = [](std::span<const float> values) {
    std::string bytes;
    for (const float value : values) {
      const f16_t half = f32_to_f16(value);
      bytes.append(reinterpret_cast<const char*>(&half), sizeof half);
    }
    return bytes;
  };
  const auto row_with = [](const Result<std::vector<Value>>& good, const std::string& embedding) {
    Row row;
    row.values = *good;
    size_t n_replaced = 0;
    for (Value& value : row.values) {
      if (value.bytes.size() != 2 * kEmbeddingDim) continue;
      value.bytes = embedding;
      ++n_replaced;
    }
    EXPECT_EQ(n_replaced, 1u);
    return row;
  };
  std::vector<std::vector<float>> bad = {scaled(0), scaled(0.94), scaled(1.06), scaled(9)};
  for (const float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    bad.push_back(scaled(1));
    bad.back()[5] = value;
  }
  PatternRecord pattern = sample_pattern(2);
  DecisionRecord decision = sample_decision(2);
  const auto good_pattern = encode(pattern), good_decision = encode(decision);
  for (const auto& values : bad) {
    pattern.embedding = decision.embedding = values;
    expect_error(store->put_patterns(std::vector{pattern}), "store.bad_record");
    expect_error(store->put_decision(decision), "store.bad_record");
    expect_error(decode_pattern(row_with(good_pattern, bytes_of(values))), "store.corrupt");
    expect_error(decode_decision(row_with(good_decision, bytes_of(values))), "store.corrupt");
  }
  for (const double factor : {0.96, 1.0, 1.04}) {
    pattern.embedding = decision.embedding = scaled(factor);
    expect_ok(store->put_patterns(std::vector{pattern}));
    expect_ok(store->put_decision(decision));
    expect_ok(decode_pattern(row_with(good_pattern, bytes_of(pattern.embedding))));
    expect_ok(decode_decision(row_with(good_decision, bytes_of(decision.embedding))));
  }
  EXPECT_TRUE(store->verify()->empty());
}

TEST(Store, ADeletedSessionTakesWhatWasStoredInIt) {
  const ScratchFolder folder("session");
  const auto store = open_in(folder.path());
  std::vector<PatternRecord> patterns;
  for (uint64_t n = 0; n < 6; ++n) {
    for (const char* tenant : {"a", "b"}) {
      const uint64_t number = 10 * n + static_cast<uint64_t>(*tenant);
      patterns.push_back(sample_pattern(number, tenant));
      patterns.back().origins.clear();
      patterns.back().session = n < 2 ? "gone" : n < 4 ? "stays" : "";
      DecisionRecord decision = sample_decision(number, tenant);
      decision.session = patterns.back().session;
      expect_ok(store->put_decision(decision));
      FeedbackRecord feedback = sample_feedback(number, tenant);
      feedback.target = decision.id.text();
      EXPECT_TRUE(*store->put_feedback(feedback));
    }
  }
  expect_ok(store->put_patterns(patterns));
  const auto report = store->delete_data("a", "gone");
  expect_ok(report);
  EXPECT_EQ(report->n_patterns, 2u);
  EXPECT_EQ(report->n_decisions, 2u);
  EXPECT_EQ(report->n_feedback, 2u);
  EXPECT_EQ(store->stats().n_patterns, 10u);
  EXPECT_EQ(store->stats().n_decisions, 10u);
  const auto unnamed = store->delete_data("a", "");  // an empty session is an unknown one
  expect_ok(unnamed);
  EXPECT_EQ(unnamed->n_patterns + unnamed->n_decisions, 0u);
  expect_ok(store->each_decision("a", [](const DecisionRecord& record) {
    EXPECT_NE(record.session, "gone");
    return true;
  }));
}

TEST(Store, ADiskThatIsFullForAWhile) {
  const ScratchFolder folder("full");
  FaultVfs vfs(false);
  StoreParts parts;
  parts.vfs = vfs.name();
  const auto store = open_in(folder.path(), {}, parts);
  expect_ok(store->put_trajectory(sample_trajectory(1)));
  vfs.fail_at(DiskFault::kDiskFull, 1, true);
  for (uint64_t n = 2; n < 6; ++n)
    expect_error(store->put_trajectory(sample_trajectory(n)), "store.disk_full");
  expect_ok(store->trajectory("local", sample_id(1)));  // serving goes on
  vfs.fail_at(DiskFault::kNone, 0, false);
  expect_ok(store->put_trajectory(sample_trajectory(6)));  // and writing, unaided
  EXPECT_EQ(trajectory_ids(*store, "").size(), 2u);
  EXPECT_TRUE(store->verify()->empty());
}

// What was not synced is never acknowledged; the store opens its files anew and goes on.
TEST(Store, AFailedSyncIsNotAcknowledged) {
  const ScratchFolder folder("sync");
  FaultVfs vfs(false);
  StoreParts parts;
  parts.vfs = vfs.name();
  parts.reopen_pause = std::chrono::milliseconds(0);
  const auto store = open_in(folder.path(), {}, parts);
  expect_ok(store->put_trajectory(sample_trajectory(1)));
  vfs.fail_at(DiskFault::kSyncError, 1, false);
  expect_error(store->put_trajectory(sample_trajectory(2)), "store.unavailable");
  EXPECT_EQ(vfs.n_fired(), 1u);
  EXPECT_EQ(vfs.n_opened(), 1u);
  expect_ok(store->put_trajectory(sample_trajectory(3)));
  EXPECT_EQ(vfs.n_opened(), 2u);
  expect_ok(store->trajectory("local", sample_id(1)));
  EXPECT_TRUE(store->damaged().empty());
}

TEST(Store, CheckpointsWhenIdleAndWhenTheWalIsLong) {
  const ScratchFolder folder("checkpoint");
  StoreParts parts;
  parts.idle_checkpoint = std::chrono::milliseconds(1);
  {
    const auto store = open_in(folder.path(), {}, parts);
    const uint64_t before = store->stats().n_checkpoints;
    expect_ok(store->put_trajectory(sample_trajectory(1)));
    for (int i = 0; i < 2'000 && store->stats().n_checkpoints == before; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_GT(store->stats().n_checkpoints, before);
  }
  parts = {};
  parts.checkpoint_pages = 10;
  const auto store = open_in(folder.path(), {}, parts);
  for (uint64_t n = 2; n < 30; ++n) expect_ok(store->put_trajectory(sample_trajectory(n)));
  EXPECT_GT(store->stats().n_checkpoints, 3u);
  EXPECT_LT(std::filesystem::file_size(folder.path() / "learn.db-wal"), 200'000u);
}

}  // namespace
}  // namespace ruvltra

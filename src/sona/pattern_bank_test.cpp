#include "sona/pattern_bank.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "kernels/dispatch.h"
#include "sona/bank_parts_for_test.h"

namespace ruvltra {
namespace {

Result<size_t> count_bytes(std::string_view text) { return text.size() / 4; }

class PatternBankTest : public testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() /
             ("ruvltra_bank_" + std::to_string(::getpid()) +
              testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  void open(BankOptions options = {}) {
    bank.reset();
    options.index_file = folder / "bank.index";
    auto made = Bank::open(store, embedder, **kernel_table(), count_bytes, options);
    ASSERT_TRUE(made.has_value()) << made.error().message;
    bank = std::move(*made);
  }
  PatternId add(const std::string& when, const std::string& text, const std::string& tenant = "local",
                PatternKind kind = PatternKind::kStrategy, double quality = 1) {
    PatternItem item;
    item.when = when;
    item.text = text;
    item.kind = kind;
    item.quality = quality;
    item.origins = {new_record_id()};
    const auto id = bank->store(item, {tenant, ""});
    EXPECT_TRUE(id.has_value()) << id.error().message;
    return id.value_or(PatternId{});
  }
  ConsolidateReport consolidate(PatternBankOptions options = {}) {
    PatternUpkeep patterns(*bank, options);
    auto report = patterns.consolidate();
    EXPECT_TRUE(report.has_value()) << report.error().message;
    return report.value_or(ConsolidateReport{});
  }
  // n items around n_topics topics, straight into the store: as another process left them.
  void fill_store(size_t n, size_t n_topics) {
    std::vector<PatternRecord> rows;
    for (size_t i = 0; i < n; ++i) {
      PatternRecord row;
      row.id = new_record_id();
      row.tenant = i % 3 == 0 ? "a" : "b";
      row.text = "text " + std::to_string(i);
      row.when = "topic" + std::to_string(i % n_topics) + "|0.8|" + std::to_string(i);
      const auto embedding = embedder.embed(row.when, row.tenant);
      row.space = embedding->space;
      row.embedding = embedding->values;
      row.a = 3;
      row.created_us = row.last_used_us = now_us();
      rows.push_back(std::move(row));
    }
    ASSERT_TRUE(store.put_patterns(rows).has_value());
  }

  std::filesystem::path folder;
  MemoryStore store{1'000'000};
  PlantedEmbedder embedder;
  std::unique_ptr<Bank> bank;
};

TEST_F(PatternBankTest, DuplicatesBecomeOneWithAllTheirCounts) {
  open();
  const auto weak = add("date|0.99|a", "weak", "local", PatternKind::kStrategy, 0.7);
  const auto sure = add("date|0.99|b", "sure", "local", PatternKind::kStrategy, 1);
  ASSERT_TRUE(bank->outcome(std::vector{weak}, 0.5, {}).has_value());
  const auto another_kind = add("date|0.99|c", "avoid", "local", PatternKind::kAvoid, 0);
  const auto another_tenant = add("date|0.99|d", "theirs", "other");
  const auto another_task = add("time", "else");
  const auto before = store.rows();
  const ConsolidateReport report = consolidate();
  EXPECT_EQ(report.n_merged, 1u);
  EXPECT_EQ(report.n_before, 5u);
  EXPECT_EQ(report.n_after, 4u);
  const auto rows = store.rows();
  EXPECT_FALSE(rows.contains(weak));
  for (const auto& id : {another_kind, another_tenant, another_task}) EXPECT_TRUE(rows.contains(id));
  const PatternRecord& kept = rows.at(sure);
  EXPECT_EQ(kept.text, "sure");
  EXPECT_DOUBLE_EQ(kept.a, before.at(sure).a + before.at(weak).a - 1);
  EXPECT_DOUBLE_EQ(kept.b, before.at(sure).b + before.at(weak).b - 1);
  EXPECT_EQ(kept.uses, 1u);
  std::set<RecordId> origins(kept.origins.begin(), kept.origins.end());
  EXPECT_TRUE(origins.contains(before.at(weak).origins[0]));
  EXPECT_TRUE(origins.contains(before.at(sure).origins[0]));
  EXPECT_EQ(bank->search("date", 10, {})->at(0).id, sure);
  EXPECT_EQ(consolidate().n_merged, 0u) << "once";
}

TEST_F(PatternBankTest, AFloodOfOneItemBecomesOne) {
  open();
  for (int i = 0; i < 150; ++i) add("same", "text");
  EXPECT_EQ(consolidate().n_merged, 149u);
  EXPECT_EQ(bank->size(), 1u);
  const auto rows = store.rows();
  EXPECT_DOUBLE_EQ(rows.begin()->second.a, 1 + 150 * 2);
  EXPECT_EQ(rows.begin()->second.origins.size(), 64u);
}

// a - b - c, each 0.95 or more to the next but a and c further apart: a star, no chain.
TEST_F(PatternBankTest, ChainsDoNotCollapse) {
  open();
  const auto middle = add("t", "middle", "local", PatternKind::kStrategy, 0.5);
  const auto left = add("t|0.96|left", "left", "local", PatternKind::kStrategy, 1);
  const auto right = add("t|0.96|right", "right", "local", PatternKind::kStrategy, 0.9);
  EXPECT_EQ(consolidate().n_merged, 1u);  // left takes the middle; right is at 0.92 from it
  EXPECT_FALSE(store.rows().contains(middle));
  EXPECT_TRUE(store.rows().contains(left));
  EXPECT_TRUE(store.rows().contains(right));
}

TEST_F(PatternBankTest, ClustersAreReplacedNotAppendedAndFollowTheTopics) {
  open();
  for (int i = 0; i < 200; ++i) add("topic" + std::to_string(i % 8) + "|0.85|" + std::to_string(i), "text");
  PatternUpkeep patterns(*bank);
  EXPECT_EQ(patterns.cluster_of(embedder.embed("topic1", "")->values).error().id, "bank.no_clusters");
  for (int round = 0; round < 3; ++round) {
    const auto report = patterns.consolidate();
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(report->n_clusters, 10u);
    EXPECT_EQ(store.clusters()->size(), 10u);
    EXPECT_EQ(bank->status().n_clusters, 10u);
    EXPECT_EQ(report->recall_before, 1);
    EXPECT_EQ(report->recall_after, 1);
    EXPECT_GT(report->inertia, 0.1);
    EXPECT_LT(report->inertia, 0.6);  // 1 - 0.85^2 = 0.28 where every topic is a cluster
  }
  // An item with the number of a clustering that is gone gets another.
  PatternRecord stray = store.rows().begin()->second;
  stray.cluster = 77;
  ASSERT_TRUE(store.put_patterns(std::vector{stray}).has_value());
  ASSERT_TRUE(patterns.consolidate().has_value());
  std::map<int32_t, uint64_t> members;
  const auto rows = store.rows();
  for (const auto& [id, row] : rows) {
    ++members[row.cluster];
    EXPECT_EQ(row.cluster, *patterns.cluster_of(row.embedding));
  }
  const auto clusters = store.clusters();
  for (const ClusterRecord& cluster : *clusters) EXPECT_EQ(cluster.n_members, members[cluster.cluster]);
  EXPECT_EQ(patterns.cluster_of(std::vector<float>(8)).error().id, "bank.embedding");
  const auto expected = *patterns.cluster_of(embedder.embed("topic1", "")->values);
  open();
  EXPECT_EQ(*PatternUpkeep(*bank).cluster_of(embedder.embed("topic1", "")->values), expected)
      << "survives a restart";
  const auto id = add("topic1", "new");
  EXPECT_EQ(store.rows().at(id).cluster, expected);
}

TEST_F(PatternBankTest, PruneKeepsTheBest) {
  open();
  std::vector<PatternId> good, bad;
  for (int i = 0; i < 40; ++i) {
    (i % 2 == 0 ? good : bad)
        .push_back(add("t" + std::to_string(i), "x", "local", PatternKind::kStrategy, i % 2 == 0));
  }
  const auto report = PatternUpkeep(*bank).prune_to(20);
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->n_before, 40u);
  EXPECT_EQ(report->n_after, 20u);
  for (const auto& id : good) EXPECT_TRUE(store.rows().contains(id));
  EXPECT_EQ(bank->status().index_rows, 20u);
  EXPECT_EQ(PatternUpkeep(*bank).prune_to(0)->n_after, 0u);
  const ConsolidateReport empty = consolidate();
  EXPECT_EQ(empty.n_clusters, 0u);
  EXPECT_EQ(empty.recall_after, 1);
}

// Far more rows than an index of the new capacity has room for.
TEST_F(PatternBankTest, MuchLowerCapacityAtTheNextStart) {
  fill_store(3000, 5);
  BankOptions options;
  options.capacity = 7;
  open(options);
  ASSERT_NE(bank, nullptr);
  EXPECT_EQ(bank->size(), 7u);
  EXPECT_EQ(store.rows().size(), 7u);
  EXPECT_EQ(bank->status().index_rows, 7u);
}

TEST_F(PatternBankTest, ConsolidationBesideUse) {
  open();
  for (int i = 0; i < 100; ++i) add("topic" + std::to_string(i % 5) + "|0.98|" + std::to_string(i), "text");
  std::thread user([&] {
    for (int i = 0; i < 100; ++i) {
      add("topic" + std::to_string(i % 5) + "|0.98|new" + std::to_string(i), "text");
      const auto hits = bank->search("topic1", 3, {});
      ASSERT_TRUE(hits.has_value());
      std::vector<PatternId> ids;
      for (const auto& hit : *hits) ids.push_back(hit.id);
      ASSERT_TRUE(bank->outcome(ids, 1, {}).has_value());
    }
  });
  for (int i = 0; i < 5; ++i) consolidate();
  user.join();
  consolidate();
  EXPECT_EQ(bank->size(), 5u);
  EXPECT_EQ(store.rows().size(), 5u);
  EXPECT_EQ(bank->status().index_rows, 5u);
}

// The graph itself, not the exact scan of small sets.
TEST_F(PatternBankTest, GraphIndexIsBuiltInTheBackgroundAndKeptInItsFile) {
  BankOptions options;
  options.scan_crossover = 0;
  options.hnsw_ef_construction = 64;
  fill_store(1500, 31);
  open(options);
  EXPECT_EQ(bank->status().index_state, "rebuilding");
  const auto scanned = bank->search("topic3", 20, {"b", ""});
  ASSERT_EQ(scanned->size(), 20u);
  EXPECT_GT(*bank->work(200), 0u);
  while (bank->work(500).value() > 0) {
  }
  EXPECT_EQ(bank->status().index_state, "ready");
  EXPECT_EQ(bank->status().n_rebuilds, 1u);
  ASSERT_TRUE(bank->checkpoint().has_value());

  open(options);
  EXPECT_EQ(bank->status().index_state, "ready") << bank->status().last_rejected;
  EXPECT_EQ(bank->status().n_rebuilds, 0u);
  const auto again = bank->search("topic3", 20, {"b", ""});
  size_t n_same = 0;
  for (const auto& x : *scanned) {
    n_same += std::any_of(again->begin(), again->end(), [&](const auto& y) { return x.id == y.id; });
  }
  EXPECT_GE(n_same, 19u);

  // Outcomes change no vector: the file stays good. A new item is added to what the file has.
  ASSERT_TRUE(bank->outcome(std::vector{scanned->at(0).id}, 1, {"b", ""}).has_value());
  const auto id = add("topic3", "new", "b");
  open(options);
  EXPECT_EQ(bank->status().n_rebuilds, 0u) << bank->status().last_rejected;
  EXPECT_EQ(bank->search("topic3", 1, {"b", ""}, {.gated = false})->at(0).id, id);
  EXPECT_EQ(bank->status().index_rows, 1501u);

  ASSERT_TRUE(bank->checkpoint().has_value());

  // Without a row that the file has, it is dropped.
  ASSERT_TRUE(store.change_patterns(std::vector{id}, {}).has_value());
  open(options);
  EXPECT_EQ(bank->status().n_rebuilds, 1u);
  EXPECT_NE(bank->status().last_rejected, "");
  EXPECT_FALSE(std::filesystem::exists(folder / "bank.index"));
  EXPECT_EQ(bank->status().index_rows, 1500u);
}

TEST_F(PatternBankTest, DamagedForeignAndStaleIndexFilesAreDropped) {
  fill_store(60, 5);
  open();
  ASSERT_TRUE(bank->checkpoint().has_value());
  const auto file = folder / "bank.index";
  std::ifstream in(file, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), {});
  ASSERT_GT(good.size(), 1000u);
  const auto put = [&](const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; };
  const auto expect_rebuilt = [&](const std::string& why) {
    open();
    EXPECT_NE(bank->status().last_rejected, "") << why;
    EXPECT_EQ(bank->status().index_rows, 60u) << why;
    EXPECT_EQ(bank->search("topic1", 5, {"b", ""})->size(), 5u) << why;
  };
  put(good);
  open();
  EXPECT_EQ(bank->status().last_rejected, "");
  std::mt19937 random(1);
  for (int i = 0; i < 40; ++i) {
    std::string bad = good;
    const size_t at = random() % bad.size();
    bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8));
    put(bad);
    expect_rebuilt("bit flip at " + std::to_string(at));
  }
  for (const size_t n : {size_t{0}, size_t{10}, good.size() / 2, good.size() - 1}) {
    put(good.substr(0, n));
    expect_rebuilt("cut at " + std::to_string(n));
  }
  // The same ids, one vector changed: only the checksum can tell.
  put(good);
  PatternRecord changed = store.rows().begin()->second;
  changed.embedding = embedder.embed("else", "")->values;
  ASSERT_TRUE(store.put_patterns(std::vector{changed}).has_value());
  expect_rebuilt("another vector of the same id");
  put(good);
  embedder.set_space(9);  // the rows are of space 1: none is indexed
  open();
  EXPECT_NE(bank->status().last_rejected, "");
  EXPECT_EQ(bank->status().index_rows, 0u);
  EXPECT_EQ(bank->status().n_other_space, 60u);
}

TEST_F(PatternBankTest, ErasedShareOfTheGraphIsMadeAnew) {
  BankOptions options;
  options.scan_crossover = 0;
  options.hnsw_ef_construction = 40;
  options.capacity = 400;
  fill_store(400, 20);
  open(options);
  while (bank->work(1000).value() > 0) {
  }
  const uint64_t before = bank->status().n_rebuilds;
  for (int i = 0; i < 300; ++i) {
    add("topic1|0.8|late" + std::to_string(i), "text", "b");
    if (i % 100 == 99) {
      EXPECT_TRUE(bank->work(1).has_value());
    }
  }
  EXPECT_EQ(bank->size(), 400u);
  EXPECT_EQ(bank->status().index_rows, 400u);
  EXPECT_GE(bank->status().n_rebuilds, before);
  const ConsolidateReport report = consolidate();
  EXPECT_GE(report.recall_after, report.recall_before - 0.005);
  EXPECT_GE(report.recall_after, 0.9);
}

}  // namespace
}  // namespace ruvltra

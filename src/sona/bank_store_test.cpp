// The bank on the real store: restarts, deletion, export and import.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "base/file.h"
#include "kernels/dispatch.h"
#include "sona/bank_parts_for_test.h"
#include "sona/pattern_bank.h"

namespace ruvltra {
namespace {

Result<size_t> count_bytes(std::string_view text) { return text.size() / 4; }

class BankStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() / ("ruvltra_bank_store_" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder);
  }
  void TearDown() override {
    bank.reset();
    store.reset();
    std::filesystem::remove_all(folder);
  }
  void open(size_t capacity) {
    bank.reset();
    store.reset();
    Store::Options options;
    options.pattern_capacity = capacity;
    options.group_ms = 0.1;
    auto opened = Store::open(folder, options);
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    store = std::move(*opened);
    BankOptions bank_options;
    bank_options.capacity = capacity;
    bank_options.index_file = folder / "bank.index";
    auto made = Bank::open(*store, embedder, **kernel_table(), count_bytes, bank_options);
    ASSERT_TRUE(made.has_value()) << made.error().message;
    bank = std::move(*made);
  }
  PatternId add(const std::string& when, const std::string& text, const std::string& tenant = "local",
                double quality = 1, std::vector<RecordId> origins = {}) {
    PatternItem item;
    item.when = when;
    item.text = text;
    item.quality = quality;
    item.origins = std::move(origins);
    const auto id = bank->store(item, {tenant, ""});
    EXPECT_TRUE(id.has_value()) << id.error().message;
    return id.value_or(PatternId{});
  }
  std::set<PatternId> rows() {
    std::set<PatternId> ids;
    EXPECT_TRUE(
        store->each_pattern([&](const PatternRecord& record) { return ids.insert(record.id).second; }));
    return ids;
  }

  std::filesystem::path folder;
  PlantedEmbedder embedder;
  std::unique_ptr<Store> store;
  std::unique_ptr<Bank> bank;
};

TEST_F(BankStoreTest, TwiceTheCapacityLeavesExactlyTheCapacityAcrossRestarts) {
  std::vector<PatternId> good;
  for (int round = 0; round < 4; ++round) {
    open(30);
    for (int i = 0; i < 15; ++i) {
      const auto id = add("t|0.9|" + std::to_string(round * 100 + i), "text", "local", i % 2 == 0 ? 1 : 0.6);
      if (round == 3 && i % 2 == 0) good.push_back(id);
    }
    ASSERT_TRUE(bank->checkpoint().has_value());
  }
  open(30);
  EXPECT_EQ(bank->size(), 30u);
  EXPECT_EQ(rows().size(), 30u);
  EXPECT_EQ(bank->status().index_rows, 30u);
  EXPECT_EQ(bank->status().n_rebuilds, 0u) << bank->status().last_rejected;
  for (const auto& id : good) EXPECT_TRUE(rows().contains(id));
}

TEST_F(BankStoreTest, EverythingOfAnItemSurvivesARestart) {
  open(100);
  const auto id = add("date", "use the calendar", "local", 0.9);
  ASSERT_EQ(*bank->outcome(std::vector{id}, 0.75, {}), 1u);
  add("date|0.99|x", "use the calendar!", "local", 0.8);
  ASSERT_EQ(PatternUpkeep(*bank).consolidate()->n_merged, 1u);
  const auto before = *bank->search("date", 1, {});
  const auto block = *bank->context_for("date", {});
  open(100);
  const auto after = *bank->search("date", 1, {});
  ASSERT_EQ(after.size(), 1u);
  EXPECT_EQ(after[0].id, id);
  EXPECT_EQ(after[0].text, before[0].text);
  EXPECT_EQ(after[0].lcb, before[0].lcb);
  EXPECT_EQ(after[0].similarity, before[0].similarity);
  EXPECT_EQ(after[0].uses, 1u);
  EXPECT_EQ(bank->context_for("date", {})->text, block.text);
  EXPECT_EQ(store->pattern(id)->when, "date");
}

TEST_F(BankStoreTest, DeletedTenantLeavesNoTrace) {
  open(100);
  const std::string marker = "MARKER-4711-marker";
  for (int i = 0; i < 20; ++i) {
    add("t|0.9|" + std::to_string(i), marker + std::to_string(i), "gone");
    add("t|0.9|" + std::to_string(i), "theirs " + std::to_string(i), "stays");
  }
  ASSERT_TRUE(PatternUpkeep(*bank).consolidate().has_value());
  ASSERT_TRUE(bank->checkpoint().has_value());
  const auto before = *bank->search("t", 20, {"stays", ""});
  const auto report = bank->delete_data("gone");
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(report->n_patterns, 20u);
  EXPECT_EQ(bank->status().n_clusters, 0u);
  EXPECT_EQ(bank->size(), 20u);
  const auto after = *bank->search("t", 20, {"stays", ""});
  ASSERT_EQ(after.size(), before.size());
  for (size_t i = 0; i < after.size(); ++i) EXPECT_EQ(after[i].id, before[i].id);
  ASSERT_TRUE(bank->checkpoint().has_value());
  bank.reset();
  store.reset();
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const auto bytes = read_text_file(entry.path(), 1 << 30);
    ASSERT_TRUE(bytes.has_value());
    EXPECT_EQ(bytes->find(marker), std::string::npos) << entry.path();
  }
}

TEST_F(BankStoreTest, DeletedSessionTakesItsPatterns) {
  open(100);
  TrajectoryRecord record;
  record.tenant = "a";
  record.quality = 1.0;
  for (const char* session : {"one", "two"}) {
    record.id = new_record_id();
    record.session = session;
    record.body = Trajectory("chat");
    record.body.add_state({"t|0.9|" + std::string(session)});
    record.body.add_action("answer", {}, session);
    ASSERT_TRUE(store->put_trajectory(record).has_value());
    ASSERT_EQ(bank->learn_from(record)->size(), 1u);
  }
  for (const char* session : {"one", "two"}) {  // of no trajectory
    PatternItem item;
    item.when = "t|0.9|stored in " + std::string(session);
    item.text = "stored in " + std::string(session);
    const auto id = bank->store(item, {"a", session});
    ASSERT_TRUE(id.has_value());
    EXPECT_EQ(store->pattern(*id)->session, session);
  }
  ASSERT_TRUE(bank->delete_data("a", "one").has_value());
  const auto hits = *bank->search("t", 5, {"a", ""});
  std::set<std::string> texts;
  for (const auto& hit : hits) texts.insert(hit.text);
  EXPECT_EQ(texts, (std::set<std::string>{"two", "stored in two"}));
}

TEST_F(BankStoreTest, ImportedPatternsAreFoundAfterReload) {
  open(100);
  add("t", "from here");
  std::string lines;
  ASSERT_TRUE(store->export_jsonl("local", [&](std::string_view line) -> Result<void> {
    lines += std::string(line) + "\n";
    return {};
  }));
  ASSERT_TRUE(bank->delete_data("local").has_value());
  EXPECT_TRUE(bank->search("t", 5, {})->empty());
  ASSERT_TRUE(store->import_jsonl(lines, "guest").has_value());
  ASSERT_TRUE(bank->reload().has_value());
  ASSERT_EQ(bank->search("t", 5, {"guest", ""})->size(), 1u);
  EXPECT_TRUE(bank->search("t", 5, {})->empty());
}

}  // namespace
}  // namespace ruvltra

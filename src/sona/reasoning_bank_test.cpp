#include "sona/reasoning_bank.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <thread>

#include "kernels/dispatch.h"
#include "sona/bank_parts_for_test.h"

namespace ruvltra {
namespace {

constexpr int64_t kHour = 3600ll * 1000000, kDay = 24 * kHour;

Result<size_t> count_words(std::string_view text) {
  size_t n = 0;
  bool in_word = false;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n';
    n += !space && !in_word;
    in_word = !space;
  }
  return n;
}

PatternItem item(std::string when, std::string text, PatternKind kind = PatternKind::kStrategy,
                 double quality = 1) {
  PatternItem i;
  i.kind = kind;
  i.when = std::move(when);
  i.text = std::move(text);
  i.quality = quality;
  return i;
}

class BankTest : public testing::Test {
 protected:
  void open(BankOptions options = {}) {
    bank.reset();
    options.clock = [this] { return time.load(); };
    auto made = Bank::open(store, embedder, **kernel_table(), count_words, options);
    ASSERT_TRUE(made.has_value()) << made.error().message;
    bank = std::move(*made);
  }
  PatternId add(const PatternItem& i, const std::string& tenant = "local") {
    const auto id = bank->store(i, {tenant, ""});
    EXPECT_TRUE(id.has_value()) << id.error().message;
    return id.value_or(PatternId{});
  }
  std::vector<PatternHit> search(std::string_view text, size_t k = 10, PatternFilter filter = {},
                                 const std::string& tenant = "local") {
    auto hits = bank->search(text, k, {tenant, ""}, filter);
    EXPECT_TRUE(hits.has_value()) << hits.error().message;
    return hits.value_or(std::vector<PatternHit>{});
  }

  MemoryStore store{100'000};
  PlantedEmbedder embedder;
  std::atomic<int64_t> time = 1000 * kDay;
  std::unique_ptr<Bank> bank;
};

TEST_F(BankTest, FindsWhatItKeptBySimilarityTimesLowerBound) {
  open();
  const auto near = add(item("date|0.95|x", "near", PatternKind::kStrategy, 0.85));
  const auto sure = add(item("date|0.90|y", "sure", PatternKind::kStrategy, 1));
  add(item("other|0.95|z", "far"));
  const auto hits = search("date");
  ASSERT_EQ(hits.size(), 2u);
  EXPECT_EQ(hits[0].id, sure);  // 0.90 x .3684 against 0.95 x LCB of Beta(2.7, 1.3)
  EXPECT_EQ(hits[1].id, near);
  EXPECT_NEAR(hits[0].similarity, 0.90, 2e-3);
  EXPECT_NEAR(hits[0].lcb, 0.3684, 1e-4);
  EXPECT_NEAR(hits[0].score, hits[0].similarity * hits[0].lcb, 1e-12);
  EXPECT_EQ(hits[0].text, "sure");
}

TEST_F(BankTest, GatesOfInjection) {
  open();
  add(item("t|0.61|a", "strategy inside"));
  add(item("t|0.59|b", "strategy outside"));
  add(item("t|0.95|c", "not sure enough", PatternKind::kStrategy, 0.6));
  add(item("t|0.90|d", "correction inside", PatternKind::kCorrection));
  add(item("t|0.71|e", "avoid inside", PatternKind::kAvoid, 0));
  add(item("t|0.72|f", "avoid inside, nearer", PatternKind::kAvoid, 0));
  add(item("t|0.69|g", "avoid outside", PatternKind::kAvoid, 0));
  std::multiset<std::string> gated, open_hits;
  for (const auto& hit : search("t")) gated.insert(hit.text);
  EXPECT_EQ(gated,
            (std::multiset<std::string>{"strategy inside", "correction inside", "avoid inside, nearer"}));
  for (const auto& hit : search("t", 10, {.gated = false})) open_hits.insert(hit.text);
  EXPECT_EQ(open_hits.size(), 7u);
  const auto avoid = search("t", 10, {.kind = PatternKind::kAvoid, .gated = false});
  ASSERT_EQ(avoid.size(), 3u);
  EXPECT_EQ(avoid[0].text, "avoid inside, nearer");
  EXPECT_EQ(search("t", 1).size(), 1u);
}

TEST_F(BankTest, OutcomesMoveTheBoundAndTheGate) {
  open();
  const auto id = add(item("t", "advice", PatternKind::kStrategy, 0.6));
  EXPECT_TRUE(search("t").empty());
  EXPECT_EQ(*bank->outcome(std::vector{id}, 1.0, {}), 1u);
  auto hits = search("t");
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_EQ(hits[0].uses, 1u);
  EXPECT_NEAR(hits[0].lcb, beta_lcb({3.2, 1.8}), 1e-9);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(bank->outcome(std::vector{id}, 0.0, {}).has_value());
  EXPECT_TRUE(search("t").empty());
  const PatternRecord row = store.rows().at(id);
  EXPECT_DOUBLE_EQ(row.a, 3.2);
  EXPECT_DOUBLE_EQ(row.b, 5.8);
  EXPECT_EQ(row.uses, 5u);
  EXPECT_EQ(*bank->outcome(std::vector{id, id}, 1.0, {}), 1u) << "an id counts once";
  EXPECT_EQ(*bank->outcome(std::vector{new_record_id()}, 1.0, {}), 0u);
}

TEST_F(BankTest, RefusesWhatItCannotKeep) {
  open();
  const auto error = [&](PatternItem i, Scope scope = {}) {
    const auto id = bank->store(i, scope);
    return id ? std::string_view("none") : id.error().id;
  };
  EXPECT_EQ(error(item("t", " \n")), "bank.empty_text");
  EXPECT_EQ(error(item("t", std::string(kMaxPatternBytes + 1, 'x'))), "bank.text_too_long");
  std::string words;
  for (int i = 0; i < 201; ++i) words += "w ";
  EXPECT_EQ(error(item("t", words)), "bank.text_too_long");
  EXPECT_EQ(error(item("t", "a\xFF")), "bank.utf8");
  EXPECT_EQ(error(item("t", "x", PatternKind::kStrategy, 1.01)), "bank.quality");
  EXPECT_EQ(error(item("t", "x", PatternKind::kStrategy, -0.01)), "bank.quality");
  EXPECT_EQ(error(item("t", "x", PatternKind::kStrategy, std::numeric_limits<double>::quiet_NaN())),
            "bank.quality");
  EXPECT_EQ(error(item("t", "x"), {"", ""}), "bank.tenant");
  EXPECT_EQ(error(item("t", "x"), {std::string(65, 't'), ""}), "bank.tenant");
  PatternItem titled = item("t", "x");
  titled.title = std::string(121, 'x');
  EXPECT_EQ(error(titled), "bank.title_too_long");
  EXPECT_EQ(bank->search("t", 0, {}).error().id, "bank.k");
  EXPECT_EQ(bank->outcome({}, 2, {}).error().id, "bank.quality");
  EXPECT_EQ(bank->size(), 0u);
  EXPECT_TRUE(store.rows().empty());
  BankOptions options;
  options.capacity = 0;
  EXPECT_EQ(Bank::open(store, embedder, **kernel_table(), count_words, options).error().id, "bank.options");
}

TEST_F(BankTest, TwiceTheCapacityLeavesExactlyTheCapacity) {
  MemoryStore tight(100);
  BankOptions options;
  options.capacity = 100;
  options.clock = [this] { return time.load(); };
  auto made = Bank::open(tight, embedder, **kernel_table(), count_words, options);
  std::vector<PatternId> ids;
  for (int i = 0; i < 200; ++i) {
    time += kHour;
    const auto id = (*made)->store(item("t|0.9|" + std::to_string(i), "text"), {});
    ASSERT_TRUE(id.has_value()) << id.error().message;
    ids.push_back(*id);
  }
  EXPECT_EQ((*made)->size(), 100u);
  EXPECT_EQ(tight.rows().size(), 100u);
  EXPECT_EQ((*made)->status().index_rows, 100u);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(tight.rows().contains(ids[static_cast<size_t>(i)]));
}

// Random histories of insertions, outcomes and restarts against a model that sorts everything at every step.
TEST_F(BankTest, EvictionFollowsTheRuleUnderRandomHistories) {
  struct Model {
    PatternId id;
    bool pinned;
    double a, b;
    int64_t used;
  };
  for (uint32_t seed = 1; seed <= 6; ++seed) {
    std::mt19937 random(seed);
    MemoryStore tight(12);
    BankOptions options;
    options.capacity = 12;
    options.clock = [this] { return time.load(); };
    auto made = Bank::open(tight, embedder, **kernel_table(), count_words, options);
    std::vector<Model> model;
    for (int step = 0; step < 300; ++step) {
      time += static_cast<int64_t>(random() % 40) * kHour;
      const int what = static_cast<int>(random() % 10);
      if (what < 6 || model.empty()) {
        PatternItem i = item("t|0.9|" + std::to_string(random() % 1000), "text");
        i.kind = static_cast<PatternKind>(random() % 3);
        i.quality = static_cast<double>(random() % 5) / 4;
        i.pinned = random() % 8 == 0;
        const auto id = (*made)->store(i, {random() % 2 == 0 ? "x" : "y", ""});
        ASSERT_TRUE(id.has_value()) << id.error().message;
        if (model.size() == 12) {
          model.erase(std::min_element(model.begin(), model.end(), [&](const Model& x, const Model& y) {
            if (x.pinned != y.pinned) return y.pinned;
            const double worth_x = beta_lcb({x.a, x.b}) * recency(time, x.used);
            const double worth_y = beta_lcb({y.a, y.b}) * recency(time, y.used);
            if (std::abs(worth_x - worth_y) > 1e-9 * std::max(worth_x, worth_y)) return worth_x < worth_y;
            return x.id < y.id;
          }));
        }
        const BetaCounts start = beta_start(i.kind, i.quality);
        model.push_back({*id, i.pinned, start.a, start.b, time});
      } else if (what < 9) {
        Model& used = model[random() % model.size()];
        const double quality = static_cast<double>(random() % 3) / 2;
        const std::string tenant = tight.rows().at(used.id).tenant;
        ASSERT_EQ(*(*made)->outcome(std::vector{used.id}, quality, {tenant, ""}), 1u);
        used.a += quality;
        used.b += 1 - quality;
        used.used = time;
      } else {
        made->reset();
        made = Bank::open(tight, embedder, **kernel_table(), count_words, options);
        ASSERT_TRUE(made.has_value());
      }
      std::set<PatternId> expected, found;
      for (const Model& m : model) expected.insert(m.id);
      for (const auto& [id, row] : tight.rows()) found.insert(id);
      ASSERT_EQ(found, expected) << "seed " << seed << " step " << step;
      ASSERT_EQ((*made)->size(), model.size());
    }
    EXPECT_LE(tight.most_rows(), 12u);
  }
}

TEST_F(BankTest, PinnedItemsGoLast) {
  BankOptions options;
  options.capacity = 3;
  open(options);
  PatternItem pinned = item("p", "pinned", PatternKind::kStrategy, 0);
  pinned.pinned = true;
  const auto id = add(pinned);
  for (int i = 0; i < 20; ++i) add(item("t" + std::to_string(i), "text"));
  EXPECT_TRUE(store.rows().contains(id));
  for (int i = 0; i < 5; ++i) {
    pinned.when = "q" + std::to_string(i);
    pinned.quality = 1;
    add(pinned);
  }
  EXPECT_FALSE(store.rows().contains(id)) << "among pinned ones the rule is the same";
  EXPECT_EQ(bank->size(), 3u);
}

TEST_F(BankTest, FailedWritesChangeNothing) {
  BankOptions options;
  options.capacity = 2;
  open(options);
  const auto first = add(item("t|0.9|1", "first")), second = add(item("t|0.9|2", "second"));
  store.fail_writes(true);
  EXPECT_EQ(bank->store(item("t|0.9|3", "third"), {}).error().id, "store.disk_full");
  EXPECT_EQ(bank->outcome(std::vector{first}, 1, {}).error().id, "store.disk_full");
  EXPECT_EQ(search("t").size(), 2u);
  EXPECT_EQ(search("t")[0].uses, 0u);
  store.fail_writes(false);
  add(item("t|0.9|4", "fourth"));
  EXPECT_EQ(bank->size(), 2u);
  EXPECT_EQ(bank->status().index_rows, 2u);
  EXPECT_FALSE(store.rows().contains(first));
  EXPECT_TRUE(store.rows().contains(second));
}

// A row that the store set aside as damaged stands in nobody's way.
TEST_F(BankTest, LostRowsAreForgotten) {
  BankOptions options;
  options.capacity = 3;
  open(options);
  std::vector<PatternId> ids;
  for (int i = 0; i < 3; ++i) {
    time += kHour;
    ids.push_back(add(item("t|0.9|" + std::to_string(i), "text")));
  }
  ASSERT_TRUE(store.change_patterns(std::vector{ids[0]}, {}).has_value());
  EXPECT_EQ(search("t").size(), 2u);
  EXPECT_EQ(*bank->outcome(ids, 1, {}), 2u);
  add(item("t|0.9|new", "text"));
  EXPECT_EQ(bank->size(), 3u);
  EXPECT_EQ(store.rows().size(), 3u);
  EXPECT_EQ(bank->status().index_rows, 3u);
}

// What an import may bring: nothing of it stops the bank, and it is embedded anew.
TEST_F(BankTest, StrangeRowsAreTakenWithCare) {
  std::vector<PatternRecord> rows;
  for (int i = 0; i < 4; ++i) {
    PatternRecord row;
    row.id = new_record_id();
    row.tenant = "local";
    row.when = "t";
    row.text = "text";
    row.space = 1;
    row.embedding.assign(kEmbeddingDim, 0);
    if (i == 1) row.embedding.clear();
    if (i == 2) row.embedding[0] = 1000;
    row.a = i == 3 ? 1e308 : std::numeric_limits<double>::infinity();
    row.b = i == 3 ? 1e308 : -1;
    rows.push_back(row);
  }
  ASSERT_TRUE(store.put_patterns(rows).has_value());
  open();
  EXPECT_EQ(bank->size(), 4u);
  EXPECT_EQ(bank->status().n_other_space, 4u);
  while (bank->work(10).value() > 0) {
  }
  EXPECT_EQ(search("t", 10, {.gated = false}).size(), 4u);
}

TEST_F(BankTest, NoTenantSeesAnothersItems) {
  open();
  std::vector<PatternId> foreign;
  for (int t = 0; t < 5; ++t) {
    for (int i = 0; i < 40; ++i) {
      const std::string tenant = "tenant" + std::to_string(t);
      const auto id = add(item("t|0.95|" + std::to_string(t * 100 + i), tenant + " text"), tenant);
      if (t != 0) foreign.push_back(id);
    }
  }
  for (int t = 0; t < 5; ++t) {
    const std::string tenant = "tenant" + std::to_string(t);
    const auto hits = search("t", 1000, {.gated = false}, tenant);
    EXPECT_EQ(hits.size(), 40u);
    for (const auto& hit : hits) EXPECT_EQ(hit.text, tenant + " text");
    const auto block = bank->context_for("t", {tenant, ""});
    ASSERT_TRUE(block.has_value());
    EXPECT_EQ(block->ids.size(), 3u);
    for (int other = 0; other < 5; ++other) {
      EXPECT_EQ(block->text.find("tenant" + std::to_string(other)) != std::string::npos, other == t);
    }
  }
  EXPECT_EQ(*bank->outcome(foreign, 1, {"tenant0", ""}), 0u) << "nor changes them";
  EXPECT_TRUE(search("t", 10, {.gated = false}, "stranger").empty());
  for (const auto& [id, row] : store.rows()) EXPECT_EQ(row.uses, 0u);
}

TEST_F(BankTest, ContextBlockIsByteStableAndBounded) {
  open();
  std::string hundred_words;
  for (int i = 0; i < 190; ++i) hundred_words += "w" + std::to_string(i) + " ";
  for (int i = 0; i < 6; ++i) {
    add(item("t|0.9" + std::to_string(i) + "|", hundred_words + std::to_string(i)));
  }
  const auto block = bank->context_for("t", {});
  ASSERT_TRUE(block.has_value());
  EXPECT_EQ(block->ids.size(), 2u);  // the third would be token 513 or later
  EXPECT_LE(block->n_tokens, 512u);
  EXPECT_EQ(block->n_tokens, count_words(block->text).value());
  EXPECT_TRUE(std::is_sorted(block->ids.begin(), block->ids.end()));
  EXPECT_EQ(bank->context_for("t", {})->text, block->text);
  const auto none = bank->context_for("unrelated", {});
  EXPECT_TRUE(none->text.empty());
  EXPECT_TRUE(none->ids.empty());
}

TEST_F(BankTest, LearnsFromTrajectoriesInOneTransaction) {
  BankOptions options;
  options.capacity = 4;
  open(options);
  TrajectoryRecord record;
  record.id = new_record_id();
  record.tenant = "local";
  record.quality = 0.0;
  record.body.verdict = Verdict::failure();
  record.body.add_state({"date"});
  record.body.add_action("answer", {}, "split the text at every dash");
  record.body.add_action("correction", {}, "use the calendar library for this");
  const auto ids = bank->learn_from(record);
  ASSERT_TRUE(ids.has_value()) << ids.error().message;
  ASSERT_EQ(ids->size(), 2u);
  const auto rows = store.rows();
  EXPECT_EQ(rows.at(ids->at(0)).kind, PatternKind::kAvoid);
  EXPECT_DOUBLE_EQ(rows.at(ids->at(0)).a, 3);
  EXPECT_DOUBLE_EQ(rows.at(ids->at(0)).b, 1);
  EXPECT_EQ(rows.at(ids->at(1)).kind, PatternKind::kCorrection);
  EXPECT_EQ(rows.at(ids->at(1)).origins, std::vector<RecordId>{record.id});
  record.id = new_record_id();
  record.body.verdict = Verdict::partial(0.3);
  record.quality = 0.3;
  record.body.steps.pop_back();
  EXPECT_TRUE(bank->learn_from(record)->empty());
  EXPECT_EQ(search("date").size(), 2u);
}

TrajectoryRecord answered(Verdict verdict, std::optional<double> quality) {
  TrajectoryRecord record;
  record.id = new_record_id();
  record.tenant = "local";
  record.quality = quality;
  record.source = QualitySource::kPerson;
  record.body.verdict = verdict;
  record.body.add_state({"date"});
  record.body.add_action("answer", {}, "split the text at every dash");
  return record;
}

TEST_F(BankTest, FiveEqualFeedbacksAreOneItem) {
  open();
  const TrajectoryRecord record = answered(Verdict::success(), 0.9);
  const auto first = bank->learn_from(record);
  ASSERT_TRUE(first.has_value());
  ASSERT_EQ(first->size(), 1u);
  ASSERT_EQ(*bank->outcome(*first, 1.0, {}), 1u);
  const PatternRecord before = store.rows().at(first->at(0));
  for (int i = 0; i < 4; ++i) {
    if (i == 2) open();  // what was made of what is known after a restart, too
    EXPECT_EQ(*bank->learn_from(record), *first);
  }
  ASSERT_EQ(store.rows().size(), 1u);
  EXPECT_EQ(store.rows().at(first->at(0)).a, before.a) << "its history stays";
  EXPECT_EQ(bank->size(), 1u);
  std::vector<std::thread> threads;
  const TrajectoryRecord another = answered(Verdict::success(), 1.0);
  for (int i = 0; i < 5; ++i) threads.emplace_back([&] { EXPECT_TRUE(bank->learn_from(another)); });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(bank->size(), 2u);
}

TEST_F(BankTest, ALaterRatingReplacesTheItemsOfItsTrajectory) {
  open();
  TrajectoryRecord record = answered(Verdict::success(), 1.0);
  ASSERT_EQ(bank->learn_from(record)->size(), 1u);
  PatternItem callers = item("date", "the caller's own");
  callers.origins = {record.id};
  add(callers);
  PatternItem merged = item("date", "of two");
  merged.provenance = "actions";
  merged.origins = {record.id, new_record_id()};
  add(merged);
  const auto kinds = [&] {
    std::multiset<std::string> out;
    for (const auto& [id, row] : store.rows()) {
      if (row.text.starts_with("split")) out.emplace(pattern_kind_name(row.kind));
    }
    EXPECT_EQ(bank->size(), out.size() + 2);
    EXPECT_EQ(bank->status().index_rows, out.size() + 2);
    return out;
  };
  EXPECT_EQ(kinds(), (std::multiset<std::string>{"strategy"}));
  record.quality = 0.0;  // a success that a person rates 0
  ASSERT_TRUE(bank->learn_from(record).has_value());
  EXPECT_EQ(kinds(), (std::multiset<std::string>{"avoid"}));
  store.fail_writes(true);
  record.quality = 1.0;
  EXPECT_EQ(bank->learn_from(record).error().id, "store.disk_full");
  EXPECT_EQ(kinds(), (std::multiset<std::string>{"avoid"}));
  store.fail_writes(false);
  record.body.verdict = Verdict::failure();  // a failure rated 1
  ASSERT_TRUE(bank->learn_from(record).has_value());
  EXPECT_EQ(kinds(), (std::multiset<std::string>{"strategy"}));
  record.quality = 0.55;  // neither
  EXPECT_TRUE(bank->learn_from(record)->empty());
  EXPECT_TRUE(kinds().empty());
}

// Replacing needs no place of another item, and where it needs one, two of them do not wait for each other.
TEST_F(BankTest, ReplacingInAFullBank) {
  MemoryStore tight(4);
  BankOptions options;
  options.capacity = 4;
  auto made = Bank::open(tight, embedder, **kernel_table(), count_words, options);
  ASSERT_TRUE(made.has_value());
  std::atomic<int> n_changes = 0;
  tight.before_change([&] {  // some are overtaken
    if (++n_changes % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      TrajectoryRecord record = answered(Verdict::success(), 1.0);
      for (int i = 0; i < 200; ++i) {
        record.quality = i % 2;
        if (i % 4 == 0) record.body.add_action("correction", {}, "correction " + std::to_string(i));
        if (i % 4 == 2) record.body.steps.pop_back();
        const auto ids = (*made)->learn_from(record);
        EXPECT_TRUE(ids.has_value()) << ids.error().message;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_LE(tight.most_rows(), 4u);
  EXPECT_EQ((*made)->size(), tight.rows().size());
}

// After a restart nothing is linked; without work() the erased slots alone would fill the index.
TEST_F(BankTest, SlotsNeverRunOutAfterARestart) {
  BankOptions options;
  options.capacity = 8;
  open(options);
  for (int i = 0; i < 8; ++i) add(item("old|0.9|" + std::to_string(i), "old"));
  open(options);
  constexpr int kSlots = 8 + 4 + 1024;
  for (int i = 0; i < 3 * kSlots; ++i) {
    time += kHour;
    const auto id = bank->store(item("t|0.9|" + std::to_string(i), "text " + std::to_string(i)), {});
    ASSERT_TRUE(id.has_value()) << i << ": " << id.error().message;
  }
  EXPECT_EQ(bank->size(), 8u);
  EXPECT_EQ(bank->status().index_rows, 8u);
  std::set<std::string> texts, expected;
  for (const auto& hit : search("t")) texts.insert(hit.text);
  for (int i = 3 * kSlots - 8; i < 3 * kSlots; ++i) expected.insert("text " + std::to_string(i));
  EXPECT_EQ(texts, expected);
}

TEST_F(BankTest, AnotherSpaceIsNotComparedUntilEmbeddedAgain) {
  open();
  for (int i = 0; i < 10; ++i) add(item("t|0.9|" + std::to_string(i), "text"));
  ASSERT_EQ(search("t").size(), 10u);
  embedder.set_space(2);
  EXPECT_TRUE(search("t").empty());
  const auto later = add(item("t|0.9|new", "text"));
  EXPECT_TRUE(search("t").empty());
  EXPECT_EQ(*bank->work(3), 7u);  // the space is followed, three items are embedded again
  EXPECT_EQ(bank->status().n_other_space, 7u);
  EXPECT_EQ(search("t").size(), 4u);
  while (bank->work(4).value() > 0) {
  }
  EXPECT_EQ(search("t", 20).size(), 11u);
  for (const auto& [id, row] : store.rows()) EXPECT_EQ(row.space, 2u);
  EXPECT_TRUE(store.rows().contains(later));
  open();
  EXPECT_EQ(search("t", 20).size(), 11u);
}

TEST_F(BankTest, DeletedDataIsGone) {
  open();
  for (int i = 0; i < 10; ++i) add(item("t|0.9|" + std::to_string(i), "mine"), "a");
  for (int i = 0; i < 10; ++i) add(item("t|0.9|" + std::to_string(i), "theirs"), "b");
  search("t", 10, {}, "a");
  const auto before = search("t", 20, {}, "b");
  const auto report = bank->delete_data("a");
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(report->n_patterns, 10u);
  EXPECT_TRUE(search("t", 10, {.gated = false}, "a").empty());
  EXPECT_EQ(bank->size(), 10u);
  EXPECT_EQ(bank->status().index_rows, 10u);
  const auto after = search("t", 20, {}, "b");
  ASSERT_EQ(after.size(), before.size());
  for (size_t i = 0; i < after.size(); ++i) EXPECT_EQ(after[i].id, before[i].id);
}

TEST_F(BankTest, LowerCapacityAtTheNextStartPrunes) {
  open();
  for (int i = 0; i < 30; ++i) {
    time += kHour;
    add(item("t|0.9|" + std::to_string(i), "text"));
  }
  BankOptions options;
  options.capacity = 7;
  open(options);
  EXPECT_EQ(bank->size(), 7u);
  EXPECT_EQ(store.rows().size(), 7u);
}

// Writers of all kinds at once, with a full bank: the bound holds at every commit, and memory, store and
// index agree in the end.
TEST_F(BankTest, ManyThreads) {
  MemoryStore tight(40);
  BankOptions options;
  options.capacity = 40;
  auto made = Bank::open(tight, embedder, **kernel_table(), count_words, options);
  Bank& shared = **made;
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::string errors;
  const auto check = [&](const auto& result) {
    if (result.has_value()) return true;
    const std::lock_guard lock(mutex);
    errors += result.error().message + "\n";
    return false;
  };
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const Scope scope{t % 2 == 0 ? "x" : "y", ""};
      for (int i = 0; i < 150; ++i) {
        check(shared.store(item("t|0.9|" + std::to_string(t * 1000 + i), scope.tenant), scope));
        const auto hits = shared.search("t", 5, scope, {.gated = false});
        if (!check(hits)) continue;
        std::vector<PatternId> ids;
        for (const auto& hit : *hits) {
          ids.push_back(hit.id);
          if (hit.text != scope.tenant) check(Result<void>(fail("test", "a foreign text")));
        }
        check(shared.outcome(ids, 0.5, scope));
        if (i % 50 == 49) check(shared.work(100));
        if (i == 75 && t == 3) check(shared.reload());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(errors, "");
  EXPECT_EQ(shared.size(), 40u);
  EXPECT_EQ(tight.rows().size(), 40u);
  EXPECT_EQ(shared.status().index_rows, 40u);
  EXPECT_LE(tight.most_rows(), 40u);
}

TEST_F(BankTest, TextsAreCachedWithinTheirBytes) {
  const auto reads_of_second_search = [&](size_t cache_bytes) {
    BankOptions options;
    options.text_cache_bytes = cache_bytes;
    open(options);
    search("t", 50);
    const size_t before = store.n_reads();
    std::set<std::string> texts;
    for (const auto& hit : search("t", 50)) texts.insert(hit.text);
    EXPECT_EQ(texts.size(), 50u);
    return store.n_reads() - before;
  };
  open();
  for (int i = 0; i < 50; ++i)
    add(item("t|0.9|" + std::to_string(i), std::string(300, 'x') + std::to_string(i)));
  EXPECT_EQ(reads_of_second_search(1 << 20), 0u);
  EXPECT_EQ(reads_of_second_search(1000), 50u);  // two texts fit; the search walks past them
}

}  // namespace
}  // namespace ruvltra

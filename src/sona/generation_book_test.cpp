#include "sona/generation_book.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <fstream>
#include <set>
#include <thread>

#include "sona/adapter_merge.h"
#include "sona/learner_for_test.h"

namespace ruvltra {
namespace {

using namespace testing;

class GenerationBookTest : public ::testing::Test {
 protected:
  TestLanguage language;
  TestFolder folder;
  std::shared_ptr<const AdapterBasis> basis = (*TestLearner::open_space(language, folder.path()))->basis();
  std::unique_ptr<Store> store = *Store::open(folder.path());
  const Scope ann{.tenant = "ann", .session = ""};

  std::unique_ptr<GenerationBook> open(size_t keep = 4) {
    auto book = GenerationBook::open(*store, folder.path() / "adapters", basis, keep);
    EXPECT_TRUE(book) << book.error().message;
    return std::move(*book);
  }
  std::shared_ptr<const Adapter> adapter(float value) {
    std::vector<float> b(basis->n_features() * basis->d(), value);
    return std::make_shared<const Adapter>(*Adapter::make(basis, std::move(b)));
  }
  static GenerationRecord because(const std::string& reason, uint64_t parent = 0) {
    GenerationRecord record;
    record.reason = reason;
    record.parent = parent;
    return record;
  }
  std::set<std::string> files() {
    std::set<std::string> names;
    for (const auto& item : std::filesystem::directory_iterator(folder.path() / "adapters"))
      names.insert(item.path().filename().string());
    return names;
  }
};

TEST_F(GenerationBookTest, SessionThenTenantThenGlobal) {
  const auto book = open();
  const Scope session{.tenant = "ann", .session = "s"};
  EXPECT_EQ(book->live(session).generation, 0u);
  EXPECT_TRUE(book->live(session).adapter->is_zero());
  const float values[] = {1, 2, 3};
  const Scope scopes[] = {global_scope(), ann, session};
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(book->publish(scopes[i], 0, adapter(values[i]), because("operator")));
    EXPECT_EQ(book->live(session).adapter->b()[0], values[i]);
    EXPECT_EQ(book->live(session).scope.session, scopes[i].session);
  }
  EXPECT_EQ(book->live({.tenant = "bob", .session = "s"}).adapter->b()[0], 1);
  // Back before its first generation a scope uses what it would have used without one.
  ASSERT_TRUE(book->rollback(session, {}));
  EXPECT_EQ(book->live(session).adapter->b()[0], 2);
}

TEST_F(GenerationBookTest, OneOfManyWinsARace) {
  const auto book = open();
  for (uint64_t round = 0; round < 20; ++round) {
    std::atomic<int> n_won = 0, n_lost = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        const auto made = adapter(static_cast<float>(10 * round) + static_cast<float>(i + 1));
        const auto result = book->publish(ann, round, made, because("operator"));
        if (result)
          ++n_won;
        else
          n_lost += result.error().id == "store.conflict";
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(n_won, 1);
    EXPECT_EQ(n_lost, 3);
  }
  // Losers leave nothing behind, and of the winners only those that can be gone back to.
  EXPECT_EQ(files().size(), 4u);
  EXPECT_EQ(book->history(ann).size(), 4u);
}

TEST_F(GenerationBookTest, ALostFileLetsTheOneBeforeServe) {
  Sha256Digest first, second;
  {
    const auto book = open();
    ASSERT_TRUE(book->publish(ann, 0, adapter(1), because("operator")));
    first = book->live(ann).adapter->hash();
    ASSERT_TRUE(book->publish(ann, 1, adapter(2), because("operator", 1)));
    second = book->live(ann).adapter->hash();
    std::ofstream(book->file_of(second), std::ios::trunc) << "damaged";
  }
  const auto book = open();
  EXPECT_EQ(book->live(ann).adapter->hash(), first);
  EXPECT_EQ(book->live(ann).generation, 1u);
  EXPECT_EQ(book->number(ann), 2u);
  ASSERT_EQ(book->damaged().size(), 1u);
  // The next publish builds on the rows, and replaces the damaged file.
  ASSERT_TRUE(book->publish(ann, 2, adapter(2), because("operator", 2)));
  EXPECT_EQ((*book->adapter(ann, 3))->hash(), second);
}

TEST_F(GenerationBookTest, OrphansGoAfterADay) {
  open();
  const auto old_one = folder.path() / "adapters" / "00ff.adapter",
             new_one = folder.path() / "adapters" / "00fe.adapter";
  std::ofstream(old_one) << "x";
  std::ofstream(new_one) << "x";
  std::filesystem::last_write_time(old_one,
                                   std::filesystem::file_time_type::clock::now() - std::chrono::hours(25));
  open();
  EXPECT_FALSE(std::filesystem::exists(old_one));
  EXPECT_TRUE(std::filesystem::exists(new_one));
}

// A process that publishes all the time is killed at any moment: what is live afterwards is whole.
TEST_F(GenerationBookTest, AKillLeavesTheOldOrTheNew) {
  store.reset();
  uint64_t n_published = 0;
  for (int kill_number = 0; kill_number < n_draws(100); ++kill_number) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto opened = Store::open(folder.path());
      if (!opened) _exit(1);
      auto book = GenerationBook::open(**opened, folder.path() / "adapters", basis, 4);
      if (!book) _exit(2);
      for (uint64_t i = (*book)->number(ann);; ++i)
        if (!(*book)->publish(ann, i, adapter(static_cast<float>(i + 1)), because("operator", i))) _exit(3);
    }
    usleep(static_cast<useconds_t>(60'000 + 7'919 * kill_number % 40'000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    store = *Store::open(folder.path());
    const auto book = open();
    EXPECT_TRUE(book->damaged().empty());
    const uint64_t number = book->number(ann);
    EXPECT_GE(number, n_published);
    n_published = number;
    // Generation n holds n in every place: no mixture has the hash of its row.
    if (number > 0) {
      EXPECT_EQ(book->live(ann).generation, number);
      EXPECT_EQ(book->live(ann).adapter->b()[0], static_cast<float>(number));
      EXPECT_EQ(book->live(ann).adapter->hash(), book->history(ann).front().content);
    }
    store.reset();
  }
  EXPECT_GT(n_published, 0u);
}

TEST_F(GenerationBookTest, AMergeResistsOnePart) {
  std::vector<std::shared_ptr<const Adapter>> parts;
  for (int i = 0; i < 5; ++i) parts.push_back(adapter(1 + 0.1f * static_cast<float>(i)));
  parts.push_back(adapter(-1e6f));
  const auto merged = merge_adapters(parts);
  ASSERT_TRUE(merged);
  // One value goes at each end; the hostile part is one of them.
  EXPECT_NEAR(merged->b()[0], (1 + 1.1 + 1.2 + 1.3) / 4, 1e-5);
  std::swap(parts[0], parts[5]);
  EXPECT_EQ(merge_adapters(parts)->hash(), merged->hash());
  // Two parts, nothing trimmed: the longer one is clipped to twice the shorter.
  const std::vector<std::shared_ptr<const Adapter>> two = {adapter(1), adapter(100)};
  EXPECT_NEAR(merge_adapters(two)->b()[0], 1.5, 1e-5);
  // With nothing trimmed, clipping bounds the norm: (1 + 1 + 2) / 3.
  const std::vector<std::shared_ptr<const Adapter>> three = {adapter(1), adapter(1), adapter(1e6f)};
  EXPECT_NEAR(merge_adapters(three, {.max_norm_ratio = 2, .trim = 0})->b()[0], 4.0 / 3, 1e-5);
  EXPECT_EQ(merge_adapters(three)->hash(), adapter(1)->hash());
  EXPECT_EQ(merge_adapters({two.data(), 1})->hash(), two[0]->hash());
  EXPECT_EQ(merge_adapters({}).error().id, "learning.few_parts");
  EXPECT_EQ(merge_adapters(two, {.max_norm_ratio = 2, .trim = 0.5}).error().id, "learning.merge_options");
}

}  // namespace
}  // namespace ruvltra

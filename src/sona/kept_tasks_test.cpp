#include "sona/kept_tasks.h"

#include <gtest/gtest.h>

namespace ruvltra {
namespace {

// Records whose token says which text they are of.
TokenRecords texts_of(std::span<const uint32_t> tokens, size_t n_each) {
  TokenRecords records({.n_features = 2,
                        .n_rows = 64,
                        .capacity = std::max<size_t>(tokens.size() * n_each, 1),
                        .top_k = 8,
                        .max_ids = 0});
  const std::vector<float> logits(64, 0), features = {0.5f, 1};
  for (const uint32_t token : tokens)
    for (size_t i = 0; i < n_each; ++i) EXPECT_TRUE(records.add(logits, token, features, 1));
  return records;
}

class KeptTasksTest : public ::testing::Test {
 protected:
  KeptTasks kept{{.n_features = 2, .n_rows = 64, .capacity = 0, .top_k = 8, .max_ids = 0}};
  double each = 1;  // NLL of a token is this times its id

  double nll(const Batch& batch) const {
    double sum = 0;
    for (const Example& example : batch.examples)
      sum += each * static_cast<double>((*batch.records)[example.index].token);
    return sum / static_cast<double>(batch.examples.size());
  }
  KeptTasks::Nll measure() {
    return [this](const Batch& batch) { return nll(batch); };
  }
  void add(const std::string& name, std::vector<uint32_t> tokens, size_t n_each,
           std::vector<uint64_t> owners) {
    const TokenRecords records = texts_of(tokens, n_each);
    std::vector<uint32_t> begins = {0};
    for (size_t i = 0; i < tokens.size(); ++i) begins.push_back(static_cast<uint32_t>((i + 1) * n_each));
    kept.add(name, records, begins, owners, measure());
  }
};

TEST_F(KeptTasksTest, TellsWhatEachTaskLost) {
  EXPECT_TRUE(kept.forgotten(measure()).empty());
  add("a", {2, 4}, 10, {7, 8});
  add("", {}, 0, {});  // it had no text
  each = 1.5;
  add("b", {10}, 20, {7});
  each = 2;
  const auto found = kept.forgotten(measure());
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].task, "a");
  EXPECT_NEAR(found[0].nat, (2 - 1) * 3, 1e-12);
  EXPECT_EQ(found[0].n_tokens, 20u);
  EXPECT_EQ(found[1].task, "b");
  EXPECT_NEAR(found[1].nat, (2 - 1.5) * 10, 1e-12);
}

TEST_F(KeptTasksTest, WhatAnOwnerSaidGoes) {
  add("a", {2, 4}, 10, {7, 8});
  add("b", {10}, 20, {7});
  EXPECT_EQ(kept.forget(9), 0u);
  EXPECT_EQ(kept.forget(7), 2u);
  ASSERT_NE(kept.records(), nullptr);
  ASSERT_EQ(kept.records()->size(), 10u);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ((*kept.records())[i].token, 4u);
  each = 3;
  const auto found = kept.forgotten(measure());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].task, "a");
  EXPECT_NEAR(found[0].nat, (3 - 1) * 4, 1e-12);
  EXPECT_EQ(kept.forget(8), 1u);
  EXPECT_EQ(kept.records(), nullptr);
}

TEST_F(KeptTasksTest, TasksAndTokensAreBounded) {
  for (uint32_t task = 0; task < 13; ++task) add(std::to_string(task), {task, 20 + task}, 3000, {1, 2});
  EXPECT_EQ(kept.names().size(), kMaxKeptTasks);
  EXPECT_EQ(kept.names().front(), "3");
  EXPECT_EQ(kept.records()->size(), kMaxKeptTasks * kMaxKeptTokens);
  each = 2;
  const auto found = kept.forgotten(measure());
  ASSERT_EQ(found.size(), kMaxKeptTasks);
  for (size_t i = 0; i < found.size(); ++i) {
    // The latest tokens: 1,096 of the first text and 3,000 of the second.
    const auto task = static_cast<double>(i + 3);
    EXPECT_EQ(found[i].n_tokens, kMaxKeptTokens);
    EXPECT_NEAR(found[i].nat, (1096 * task + 3000 * (20 + task)) / 4096, 1e-9);
  }
}

TEST_F(KeptTasksTest, RefusesTextsThatDoNotFit) {
  const auto records = [] {
    return std::make_unique<TokenRecords>(texts_of(std::vector<uint32_t>{1, 2}, 5));
  };
  const KeptText first{.task = 0, .end = 5, .owner = 1, .nll = 1},
      second{.task = 1, .end = 10, .owner = 1, .nll = 1};
  EXPECT_FALSE(kept.restore({"a"}, {first, second}, records()));       // a name is missing
  EXPECT_FALSE(kept.restore({"a", "b"}, {first}, records()));          // a text is missing
  EXPECT_FALSE(kept.restore({"a", "b"}, {second, first}, records()));  // out of order
  EXPECT_FALSE(kept.restore({"a", "b"}, {first, second}, nullptr));
  EXPECT_FALSE(kept.restore(std::vector<std::string>(kMaxKeptTasks + 1, "a"), {first, second}, records()));
  EXPECT_TRUE(kept.restore({"a", "b"}, {first, second}, records()));
  EXPECT_EQ(kept.forgotten(measure()).size(), 2u);
}

}  // namespace
}  // namespace ruvltra

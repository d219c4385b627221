#include "sona/scope_state.h"

#include <gtest/gtest.h>

#include "sona/learner_for_test.h"
#include "sona/learning_signal.h"

namespace ruvltra {
namespace {

using namespace testing;

// Records whose token says which text they are of.
TokenRecords text_of(size_t n, uint32_t token) {
  TokenRecords records({.n_features = 2, .n_rows = 64, .capacity = n, .top_k = 8, .max_ids = 0});
  const std::vector<float> logits(64, 0), features = {0.5f, 1};
  for (size_t i = 0; i < n; ++i) EXPECT_TRUE(records.add(logits, token, features, 1));
  return records;
}

RecordPool make_pool(size_t capacity) {
  return RecordPool(
      {.n_features = 2, .n_rows = 64, .capacity = capacity, .top_k = 8, .max_ids = 64 * capacity});
}

TEST(RecordPoolTest, TheOldestTextsMakeRoom) {
  RecordPool pool = make_pool(100);
  for (uint32_t text = 0; text < 4; ++text) pool.add(text_of(25, text), 1);
  EXPECT_EQ(pool.size(), 100u);
  pool.use(60);
  pool.add(text_of(25, 4), 2);  // two go, and one of those that stay was used in part
  EXPECT_EQ(pool.size(), 75u);
  EXPECT_EQ(pool.n_texts(), 3u);
  EXPECT_EQ(pool.n_used(), 10u);
  EXPECT_EQ(pool.records()[0].token, 2u);
  EXPECT_EQ(pool.batch().examples[74].weight, 2);
  pool.add(text_of(80, 5), 1);  // cut to half of the pool
  EXPECT_EQ(pool.records()[pool.size() - 1].token, 5u);
  EXPECT_EQ(pool.size(), 100u);
}

TEST(RecordPoolTest, ForgetsOneOwnersTexts) {
  RecordPool pool = make_pool(100);
  for (uint32_t text = 0; text < 6; ++text) pool.add(text_of(10, text), 1, owner_of(text % 2 ? "b" : "a"));
  pool.use(25);
  EXPECT_EQ(pool.forget(owner_of("c")), 0u);
  EXPECT_EQ(pool.forget(owner_of("a")), 3u);
  EXPECT_EQ(pool.size(), 30u);
  EXPECT_EQ(pool.n_used(), 10u);
  for (size_t i = 0; i < pool.size(); ++i) EXPECT_EQ(pool.records()[i].token, 1 + 2 * (i / 10));
  EXPECT_TRUE(std::ranges::equal(pool.begins(), std::vector<uint32_t>{0, 10, 20, 30}));
}

TEST(ScopeStateTest, WhatGrowsIsBoundedAndReadBack) {
  TestLanguage language;
  TestFolder folder;
  const auto space = *TestLearner::open_space(language, folder.path());
  const Scope scope{.tenant = "ann", .session = ""};
  const StateShape shape = StateShape::of(*space);
  ScopeState state(scope, shape, 1000, 1024, 1024);
  Sha256Digest digest = {};
  for (int i = 0; i < 10'000; ++i) {
    digest[0] = static_cast<uint8_t>(i);
    digest[1] = static_cast<uint8_t>(i >> 8);
    EXPECT_TRUE(state.remember(digest));
    state.ban(digest);
    state.add_block(2, 1.5, 64, true);
  }
  EXPECT_FALSE(state.remember(digest));
  state.task = std::string(kMaxTaskName, 'x');
  state.publishes = {5, 7};
  const auto file = folder.path() / "state";
  ASSERT_TRUE(state.save(file));
  EXPECT_LT(std::filesystem::file_size(file), 1u << 20);
  ScopeState again(scope, shape, 1000, 1024, 1024);
  const auto loaded = again.load(file);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_TRUE(again.is_banned(digest));
  EXPECT_EQ(again.banned, state.banned);
  EXPECT_EQ(again.seen, state.seen);
  EXPECT_EQ(again.block_gains, state.block_gains);
  EXPECT_EQ(again.publishes, state.publishes);
  EXPECT_EQ(again.task, state.task);
  // Numbers that nothing but a hostile hand writes: casts of them would overflow.
  state.n_seen = 1e300;
  ASSERT_TRUE(state.save(file));
  EXPECT_EQ(again.load(file).error().id, "state.values");
  state.n_seen = 0;
  state.publishes = {INT64_MIN};
  ASSERT_TRUE(state.save(file));
  EXPECT_EQ(again.load(file).error().id, "state.values");
}

// ---- The ring.

LearningSignal signal_of(const std::string& tenant, const std::string& session, TokenId token,
                         size_t n_tokens = 4) {
  LearningSignal signal;
  signal.scope = {.tenant = tenant, .session = session};
  signal.tokens.assign(n_tokens, token);
  signal.n_context = 1;
  return signal;
}

TEST(SignalRingTest, TheOldestAreLostAndCounted) {
  SignalRing ring(4, 1 << 20);
  for (TokenId i = 0; i < 10; ++i) ring.put(signal_of("ann", "", i));
  EXPECT_EQ(ring.stats().n_put, 10u);
  EXPECT_EQ(ring.stats().n_overwritten, 6u);
  for (TokenId i = 6; i < 10; ++i) EXPECT_EQ(ring.take()->tokens[0], i);
  EXPECT_FALSE(ring.take());
}

TEST(SignalRingTest, BytesAreBounded) {
  SignalRing ring(100, 100'000);
  for (TokenId i = 0; i < 10; ++i) ring.put(signal_of("ann", "", i, 5000));
  EXPECT_EQ(ring.stats().n_waiting, 4u);
  ring.put(signal_of("ann", "", 10, 100'000));  // longer than all: it waits alone
  EXPECT_EQ(ring.stats().n_waiting, 1u);
  EXPECT_EQ(ring.take()->tokens.size(), 100'000u);
  ring.put(signal_of("ann", "", 11, 5000));
  EXPECT_EQ(ring.stats().n_waiting, 1u);
}

TEST(SignalRingTest, ForgetsATenantOrOneOfItsSessions) {
  SignalRing ring(8, 1 << 20);
  for (TokenId i = 0; i < 5; ++i) ring.put(signal_of("eve", "", i));
  for (TokenId i = 0; i < 5; ++i) ASSERT_TRUE(ring.take());  // so that what follows goes round the end
  ring.put(signal_of("ann", "s1", 1));
  ring.put(signal_of("bob", "s1", 2));
  ring.put(signal_of("ann", "s2", 3));
  ring.put(signal_of("ann", "", 4));
  ring.put(signal_of("bob", "", 5));
  EXPECT_EQ(ring.forget("ann", "s1"), 1u);
  EXPECT_EQ(ring.forget("ann", {}), 2u);
  EXPECT_EQ(ring.take()->tokens[0], 2);
  EXPECT_EQ(ring.take()->tokens[0], 5);
  EXPECT_FALSE(ring.take());
}

}  // namespace
}  // namespace ruvltra

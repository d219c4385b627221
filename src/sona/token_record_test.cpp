#include "sona/token_record.h"

#include <gtest/gtest.h>

#include <numeric>

#include "sona/lora_for_test.h"

namespace ruvltra {
namespace {

using testing::LoraWorld;

constexpr size_t kRows = 3000, kFeatures = 5;

TokenRecords make_records(size_t capacity, size_t top_k = 32) {
  return TokenRecords(
      {.n_features = kFeatures, .n_rows = kRows, .capacity = capacity, .top_k = top_k, .max_ids = 0});
}

// Against a stable sort of all tokens; coarse logits make many of them equal.
TEST(TokenRecordTest, KeepsTheMostLikelyTokensAndTheOneWritten) {
  std::mt19937 random(4);
  const std::vector<float> phi = {1, -2, 3, 0.5f, 1};
  TokenRecords records = make_records(50);
  for (uint32_t round = 0; round < 50; ++round) {
    std::vector<float> logits(kRows);
    for (float& z : logits)
      z = static_cast<float>(static_cast<int>(random() % 1000) - (round % 2 == 0 ? 0 : 990)) * 0.01f;
    const auto token = static_cast<uint32_t>(random() % kRows);
    const size_t k = records.top_k();
    ASSERT_TRUE(records.add(logits, token, phi, 7));
    std::vector<uint32_t> order(kRows);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
    std::vector<uint32_t> expected(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k));
    if (std::find(expected.begin(), expected.end(), token) == expected.end()) expected.push_back(token);
    std::sort(expected.begin(), expected.end());
    const TokenRecord record = records[round];
    EXPECT_TRUE(std::ranges::equal(record.ids, expected));
    double sum = 0, inside = 0;
    for (const float z : logits) sum += std::exp(static_cast<double>(z));
    for (size_t i = 0; i < expected.size(); ++i) {
      const double log_p = static_cast<double>(logits[expected[i]]) - std::log(sum);
      inside += std::exp(log_p);
      EXPECT_NEAR(static_cast<double>(f16_to_f32(record.log_p[i])), log_p, std::abs(log_p) * 0x1p-11 + 1e-6);
    }
    EXPECT_NEAR(static_cast<double>(record.tail), 1 - inside, 1e-6);
    EXPECT_NEAR(record.nll(), std::log(sum) - static_cast<double>(logits[token]), 1e-5);
    EXPECT_EQ(record.token, token);
    EXPECT_EQ(record.hidden_norm, 7);
    EXPECT_TRUE(std::ranges::equal(record.features, phi));
    EXPECT_TRUE(record.made_at.empty());
  }
}

TEST(TokenRecordTest, ASmallVocabularyIsKeptWhole) {
  TokenRecords records({.n_features = 2, .n_rows = 1024, .capacity = 2, .top_k = 32, .max_ids = 0});
  const std::vector<float> logits(1024, 1.5f), phi = {0, 1};
  ASSERT_TRUE(records.add(logits, 1000, phi, 1));
  EXPECT_EQ(records[0].ids.size(), 1024u);
  EXPECT_EQ(records[0].tail, 0);
}

TEST(TokenRecordTest, AHeavyTailDoublesK) {
  const std::vector<float> phi(kFeatures, 1);
  std::vector<float> flat(kRows, 0), peaked(kRows, 0);
  peaked[3] = 30;
  const size_t window = 1024;
  TokenRecords records(
      {.n_features = kFeatures, .n_rows = kRows, .capacity = 4 * window, .top_k = 32, .max_ids = 0});
  const auto add = [&](const std::vector<float>& logits, size_t n) {
    for (size_t i = 0; i < n; ++i) ASSERT_TRUE(records.add(logits, 3, phi, 1));
  };
  add(peaked, window);
  EXPECT_EQ(records.top_k(), 32u);  // nothing in the tail
  add(flat, window - 1);
  EXPECT_EQ(records.top_k(), 32u);
  add(flat, 1);
  EXPECT_EQ(records.top_k(), 64u);
  add(flat, 1);
  EXPECT_EQ(records[2 * window].ids.size(), 64u);
  EXPECT_NEAR(records.mean_tail(), (window * (1 - 32.0 / kRows) + (1 - 64.0 / kRows)) / (2 * window + 1),
              1e-6);
}

TEST(TokenRecordTest, KComesBackWithTheTail) {
  const std::vector<float> phi(kFeatures, 1);
  std::vector<float> flat(kRows, 0), peaked(kRows, 0);
  peaked[3] = 30;
  TokenRecords records(
      {.n_features = kFeatures, .n_rows = kRows, .capacity = 4096, .top_k = 32, .max_ids = 1 << 20});
  for (size_t i = 0; i < 2048; ++i) ASSERT_TRUE(records.add(flat, 3, phi, 1));
  EXPECT_EQ(records.top_k(), 128u);
  for (size_t i = 0; i < 1024; ++i) ASSERT_TRUE(records.add(peaked, 3, phi, 1));
  EXPECT_EQ(records.top_k(), 64u);
  for (size_t i = 0; i < 1024; ++i) ASSERT_TRUE(records.add(peaked, 3, phi, 1));
  EXPECT_EQ(records.top_k(), 32u);
}

TEST(TokenRecordTest, AFullStoreTakesNothingAndNeverGrows) {
  const std::vector<float> phi(kFeatures, 1);
  const std::vector<float> flat(kRows, 0);
  TokenRecords records = make_records(2000);
  const size_t n_bytes = records.n_bytes();
  size_t n_taken = 0;
  for (int i = 0; i < 3000; ++i) n_taken += records.add(flat, 2999, phi, 1);
  EXPECT_EQ(n_taken, records.size());
  EXPECT_TRUE(records.full());
  EXPECT_LT(n_taken, 2000u);  // K was doubled on the way, and ids filled up before the places
  EXPECT_GT(n_taken, 1024u);
  EXPECT_EQ(records.n_bytes(), n_bytes);
  records.clear();
  EXPECT_TRUE(records.add(flat, 1, phi, 1));
}

TEST(TokenRecordTest, WhatIsNotFiniteTeachesNothing) {
  const std::vector<float> phi(kFeatures, 1);
  std::vector<float> logits(kRows, 0), bad_phi = phi;
  bad_phi[2] = NAN;
  TokenRecords records = make_records(10);
  EXPECT_FALSE(records.add(logits, 1, bad_phi, 1));
  EXPECT_FALSE(records.add(logits, 1, phi, INFINITY));
  logits[5] = NAN;
  EXPECT_FALSE(records.add(logits, 1, phi, 1));
  logits[5] = INFINITY;
  EXPECT_FALSE(records.add(logits, 1, phi, 1));
  logits[5] = -INFINITY;  // a token that cannot be is fine, unless it was written
  EXPECT_FALSE(records.add(logits, 5, phi, 1));
  EXPECT_TRUE(records.add(logits, 1, phi, 1));
  EXPECT_EQ(records.size(), 1u);
}

TEST(TokenRecordTest, CopiesKeepTheirAdapter) {
  LoraWorld world(2000, 32, kFeatures, 5);
  const auto basis = testing::rank_two_basis(world);
  const auto adapter = std::make_shared<const Adapter>(*Adapter::make(basis, world.adapter(0.1f)));
  const TokenRecords::Options options = {
      .n_features = kFeatures, .n_rows = 2000, .capacity = 4, .top_k = 32, .max_ids = 0};
  TokenRecords from(options), to(options);
  EXPECT_EQ(from.reference_to(nullptr), 0u);
  EXPECT_EQ(from.reference_to(std::make_shared<const Adapter>(Adapter::zero(basis))), 0u);
  const auto token = testing::draw_token(world);
  ASSERT_TRUE(testing::record_token(world, from, token));
  ASSERT_TRUE(testing::record_token(world, from, token, {}, from.reference_to(adapter)));
  EXPECT_EQ(from.reference_to(adapter), from.reference_to(adapter));
  ASSERT_TRUE(to.copy(from, 1) && to.copy(from, 0) && to.copy(from, 1) && to.copy(from, 1));
  EXPECT_FALSE(to.copy(from, 0));
  EXPECT_EQ(to[0].made_at.data(), adapter->b().data());
  EXPECT_TRUE(to[1].made_at.empty());
  EXPECT_EQ(to[2].made_at.data(), adapter->b().data());
  EXPECT_TRUE(std::ranges::equal(to[2].ids, from[1].ids));
  EXPECT_TRUE(std::ranges::equal(to[2].log_p, from[1].log_p));
  EXPECT_EQ(to[1].nll(), from[0].nll());
}

}  // namespace
}  // namespace ruvltra

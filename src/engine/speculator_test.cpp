#include "engine/speculator.h"

#include <gtest/gtest.h>

namespace ruvltra {
namespace {

// From earlier text alone.
SpeculativeConfig lookup(bool adaptive) {
  SpeculativeConfig config;
  config.source = DraftSource::kLookup;
  config.lookahead = 4;
  config.adaptive = adaptive;
  return config;
}

std::vector<TokenId> periodic(size_t n) {
  std::vector<TokenId> text;
  while (text.size() < n) text.push_back(static_cast<TokenId>(5 + text.size() % 3));
  return text;
}

std::vector<TokenId> propose(Speculator& speculator, Drafting& drafting, std::span<const TokenId> text,
                             size_t n_most = kMaxDraft) {
  const Speculator::Ask ask{.drafting = &drafting, .text = text, .n_most = n_most, .seed = 1, .choice = 0};
  speculator.propose(std::span(&ask, 1), 0);
  return drafting.tokens;
}

// Steps of one row, until it is known what they cost.
void learn_costs(Speculator& speculator) {
  for (int i = 0; i < 20; ++i) speculator.learn(1, 1, 2.0);
}

TEST(Speculator, GoesOnAsTheTextDidBefore) {
  Speculator speculator(lookup(false), nullptr);
  const auto drafting = speculator.open(100, 0);
  EXPECT_EQ(propose(speculator, *drafting, periodic(9)), (std::vector<TokenId>{5, 6, 7, 5}));
  EXPECT_EQ(propose(speculator, *drafting, periodic(10)), (std::vector<TokenId>{6, 7, 5, 6}));
  EXPECT_EQ(drafting->made.n, 4u);
  EXPECT_EQ(drafting->made.origin, DraftOrigin::kLookup);
  EXPECT_FALSE(drafting->is_probe);
  EXPECT_EQ(propose(speculator, *drafting, periodic(11), 2), (std::vector<TokenId>{7, 5}));
  EXPECT_TRUE(propose(speculator, *drafting, periodic(12), 0).empty());
  auto text = periodic(12);
  text.push_back(99);
  EXPECT_TRUE(propose(speculator, *drafting, text).empty()) << "nothing ended like this before";
  EXPECT_EQ(drafting->made.n, 0u);
  EXPECT_EQ(speculator.last_draft_ms(), 0);
}

TEST(Speculator, ShortTextsHaveNoPast) {
  Speculator speculator(lookup(false), nullptr);
  for (size_t n = 1; n <= 5; ++n) {
    const auto drafting = speculator.open(8, 0);
    EXPECT_TRUE(propose(speculator, *drafting, periodic(n)).empty()) << n;
  }
}

TEST(Speculator, CountsTheRowsOfTheStep) {
  Speculator speculator(lookup(false), nullptr);
  const auto one = speculator.open(100, 0), other = speculator.open(100, 0);
  const auto text = periodic(12);
  const Speculator::Ask asks[] = {{.drafting = one.get(), .text = text, .n_most = 3},
                                  {.drafting = other.get(), .text = text, .n_most = 8}};
  speculator.propose(asks, 5);
  EXPECT_EQ(one->n_rows, 7u);
  EXPECT_EQ(one->tokens.size(), 3u);
  EXPECT_EQ(other->n_rows, 10u);
  EXPECT_EQ(other->tokens.size(), 4u);
}

TEST(Speculator, CountsWhatCameTrue) {
  Speculator speculator(lookup(false), nullptr);
  const auto drafting = speculator.open(100, 0);
  propose(speculator, *drafting, periodic(9));
  speculator.judge(*drafting, 4, 4, 4);
  propose(speculator, *drafting, periodic(14));
  speculator.judge(*drafting, 3, 2, 1);  // one got no row, the second was wrong
  propose(speculator, *drafting, periodic(20));
  speculator.judge(*drafting, 2, 1, 1);  // the answer ended with a proposal
  const SpeculationStats& stats = speculator.stats();
  EXPECT_EQ(stats.n_drafts, 3u);
  EXPECT_EQ(stats.n_drafted, 9u);
  EXPECT_EQ(stats.n_judged, 7u);
  EXPECT_EQ(stats.n_accepted, 6u);
  EXPECT_EQ(stats.n_by_lookup, 9u);
  EXPECT_EQ(stats.n_accepted_by_lookup, 6u);
  EXPECT_EQ(stats.n_drafted_at, (std::array<uint64_t, 8>{3, 3, 2, 1}));
  EXPECT_EQ(stats.n_accepted_at, (std::array<uint64_t, 8>{3, 1, 1, 1}));
  EXPECT_EQ(stats.n_unused, 0u);
  EXPECT_EQ(stats.draft_cost, 0) << "there is no draft model";
}

TEST(Speculator, MeasuresBeforeItTries) {
  Speculator speculator(lookup(true), nullptr);
  const auto drafting = speculator.open(100, 0);
  EXPECT_TRUE(propose(speculator, *drafting, periodic(60)).empty());
  learn_costs(speculator);
  EXPECT_FALSE(propose(speculator, *drafting, periodic(60)).empty());
  EXPECT_NEAR(speculator.stats().unit_seconds, 2e-3, 1e-4);
}

// Proposals that never come true end, and come back as short tries, each time later.
TEST(Speculator, TriesAgainEverMoreRarely) {
  Speculator speculator(lookup(true), nullptr);
  const auto drafting = speculator.open(200, 0);
  learn_costs(speculator);
  const auto text = periodic(60);
  size_t n_refused = 0;
  while (!propose(speculator, *drafting, text).empty() && n_refused < 500) {
    speculator.judge(*drafting, drafting->tokens.size(), 1, 0);
    ++n_refused;
  }
  ASSERT_LT(n_refused, 500u);
  std::vector<size_t> waits;
  for (int probe = 0; probe < 4; ++probe) {
    size_t n_tokens = 0;
    while (propose(speculator, *drafting, text).empty() && n_tokens < 5000) {
      Speculator::count_token(*drafting);
      ++n_tokens;
    }
    ASSERT_LT(n_tokens, 5000u);
    EXPECT_TRUE(drafting->is_probe);
    EXPECT_LE(drafting->tokens.size(), 2u);
    speculator.judge(*drafting, drafting->tokens.size(), 1, 0);
    if (!waits.empty()) {
      EXPECT_GT(n_tokens, waits.back());
    }
    waits.push_back(n_tokens);
  }
}

}  // namespace
}  // namespace ruvltra

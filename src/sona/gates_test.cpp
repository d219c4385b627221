#include "sona/gates.h"

#include <gtest/gtest.h>

#include "sona/lora_fit.h"
#include "sona/lora_for_test.h"

namespace ruvltra {
namespace {

using namespace testing;

class GatesTest : public ::testing::Test {
 protected:
  LoraWorld world{200, 16, 5, 71, 1.5};
  std::vector<float> teacher = world.adapter(0.2f);
  LoraLoss loss = *LoraLoss::make(world.ctx, *world.head, world.m, world.scale, {});
  TokenRecords canary = draw(600, {}), held = draw(64 * 20, LoraWorld::doubles(teacher));
  std::vector<Example> canary_examples = all_of(canary), held_examples = all_of(held);
  std::vector<uint32_t> sequences;
  HeldOut held_out;
  GateLimits limits;
  const std::vector<float> zero = std::vector<float>(5 * 16, 0);

  void SetUp() override {
    for (uint32_t begin = 0; begin <= held.size(); begin += 80) sequences.push_back(begin);
    held_out = {.batch = {&held, held_examples}, .sequence_begin = sequences, .n_fresh_tokens = held.size()};
    limits.min_canary_tokens = 500;
    // The world's hidden states are short for what its teacher says: gates are opened one by one below.
    limits.max_canary_rise = 10;
    limits.max_drift = 10;
    limits.max_delta_ratio = 10;
  }
  TokenRecords draw(size_t n, std::span<const double> by) {
    TokenRecords records(
        {.n_features = world.m, .n_rows = world.n_rows, .capacity = n, .top_k = 200, .max_ids = 0});
    for (size_t i = 0; i < n; ++i) EXPECT_TRUE(record_token(world, records, draw_token(world, by)));
    return records;
  }
  Batch canary_batch() const { return {&canary, canary_examples}; }
  GateReport check(std::span<const float> live, std::span<const float> candidate) {
    return check_gates(loss, &held_out, canary_batch(), live, candidate, limits);
  }
  static const GateResult& result(const GateReport& report, Gate gate) {
    for (const GateResult& each : report.results)
      if (each.gate == gate) return each;
    ADD_FAILURE();
    return report.results[0];
  }
};

// Published tables (one-sided 95 %).
TEST(TQuantileTest, IsThatOfTheTables) {
  EXPECT_NEAR(t_quantile_95(1), 6.3138, 1e-4);
  EXPECT_NEAR(t_quantile_95(7), 1.8946, 1e-4);
  EXPECT_NEAR(t_quantile_95(15), 1.7531, 1e-4);
  EXPECT_NEAR(t_quantile_95(100), 1.6602, 1e-4);
  EXPECT_NEAR(t_quantile_95(1'000'000), 1.6449, 1e-4);
}

TEST_F(GatesTest, ABetterCandidatePasses) {
  const GateReport report = check(zero, teacher);
  EXPECT_TRUE(report.passed) << report.results[0].reason;
  EXPECT_EQ(report.results.size(), 4u);
  EXPECT_EQ(report.evidence.differences.size(), 20u);
  EXPECT_FALSE(report.evidence.by_sequence);
  EXPECT_GT(report.evidence.lower_bound, 0);
  EXPECT_LT(report.evidence.lower_bound, report.evidence.mean);
  // The mean is that of the tokens themselves.
  EXPECT_NEAR(report.evidence.mean, loss.nll(held_out.batch, zero) - loss.nll(held_out.batch, teacher), 1e-9);
}

TEST_F(GatesTest, AWorseOrEqualCandidateDoesNot) {
  EXPECT_FALSE(result(check(teacher, zero), Gate::kEvidence).passed);
  EXPECT_FALSE(result(check(teacher, teacher), Gate::kEvidence).passed);
  std::vector<float> wrong = teacher;
  for (float& value : wrong) value = -value;
  const GateReport report = check(zero, wrong);
  EXPECT_FALSE(report.passed);
  EXPECT_NE(report.results[0].reason.find("expected a gain"), std::string::npos);
}

// Candidates that have nothing to do with the data are let in at most as often as 95 % confidence says.
TEST_F(GatesTest, ChanceIsRarelyTakenForEvidence) {
  const int n = n_draws(2000);
  int n_passed = 0;
  const TokenRecords plain = draw(64 * 20, {});
  const auto examples = all_of(plain);
  held_out.batch = {&plain, examples};
  for (int draw_index = 0; draw_index < n; ++draw_index) {
    // Noise so small that it costs almost nothing: D is a fair coin.
    const auto candidate = world.adapter(1e-4f);
    const Evidence evidence = measure_evidence(loss, held_out, zero, candidate, limits);
    n_passed += evidence.lower_bound > 0;
  }
  EXPECT_LE(n_passed, 0.05 * n + 3 * std::sqrt(0.05 * 0.95 * n));
}

TEST_F(GatesTest, FewBlocksCountBySequence) {
  held_out.batch.examples = std::span(held_examples).first(640);
  held_out.sequence_begin = std::span(sequences).first(9);
  const GateReport report = check(zero, teacher);
  EXPECT_TRUE(report.evidence.by_sequence);
  EXPECT_EQ(report.evidence.differences.size(), 8u);
  EXPECT_TRUE(result(report, Gate::kEvidence).passed);
  held_out.batch.examples = std::span(held_examples).first(560);
  held_out.sequence_begin = std::span(sequences).first(8);
  const GateReport fewer = check(zero, teacher);
  EXPECT_FALSE(result(fewer, Gate::kEvidence).passed);
  EXPECT_NE(result(fewer, Gate::kEvidence).reason.find("16 blocks of 64 tokens or 8 sequences"),
            std::string::npos);
}

TEST_F(GatesTest, TokensUsedBeforeAreNoEvidence) {
  held_out.n_fresh_tokens = 255;
  EXPECT_FALSE(result(check(zero, teacher), Gate::kEvidence).passed);
  held_out.n_fresh_tokens = 256;
  EXPECT_TRUE(result(check(zero, teacher), Gate::kEvidence).passed);
}

TEST_F(GatesTest, TheCanaryMustNotSuffer) {
  const double before = loss.nll(canary_batch(), {}), after = loss.nll(canary_batch(), teacher);
  ASSERT_GT(after, before);
  limits.max_canary_rise = after / before - 1 + 1e-6;
  EXPECT_TRUE(result(check(zero, teacher), Gate::kCanary).passed);
  limits.max_canary_rise = after / before - 1 - 1e-6;
  const GateReport report = check(zero, teacher);
  EXPECT_FALSE(report.passed);
  EXPECT_FALSE(result(report, Gate::kCanary).passed);
  EXPECT_TRUE(result(report, Gate::kDrift).passed);
  EXPECT_NEAR(report.canary_candidate, after, 1e-9);
  // Relative to the base, whatever is live: a rise in many small steps is a rise.
  EXPECT_FALSE(result(check(teacher, teacher), Gate::kCanary).passed);
}

TEST_F(GatesTest, DriftIsMeasuredFromTheBaseNotFromTheLiveOne) {
  const double kl = loss.kl(canary_batch(), teacher);
  limits.max_drift = kl - 1e-6;
  EXPECT_FALSE(result(check(zero, teacher), Gate::kDrift).passed);
  EXPECT_FALSE(result(check(teacher, teacher), Gate::kDrift).passed);
  limits.max_drift = kl + 1e-6;
  EXPECT_TRUE(result(check(teacher, teacher), Gate::kDrift).passed);
}

TEST_F(GatesTest, DeltaIsBoundedOnNearlyAllTokens) {
  std::vector<double> ratios;
  for (const TokenRecords* records : {&canary, &held}) {
    for (size_t t = 0; t < records->size(); ++t) {
      const TokenRecord record = (*records)[t];
      double square = 0;
      for (size_t i = 0; i < world.d; ++i) {
        double delta = 0;
        for (size_t j = 0; j < world.m; ++j)
          delta += static_cast<double>(world.scale) * static_cast<double>(record.features[j]) *
                   static_cast<double>(teacher[j * world.d + i]);
        square += delta * delta;
      }
      ratios.push_back(std::sqrt(square) / static_cast<double>(record.hidden_norm));
    }
  }
  std::sort(ratios.begin(), ratios.end());
  const double p999 = ratios[static_cast<size_t>(std::ceil(0.999 * static_cast<double>(ratios.size()))) - 1];
  EXPECT_NEAR(check(zero, teacher).delta_p999, p999, 1e-6);
  limits.max_delta_ratio = p999 - 1e-5;
  EXPECT_FALSE(result(check(zero, teacher), Gate::kNorm).passed);
  limits.max_delta_ratio = p999 + 1e-5;
  EXPECT_TRUE(result(check(zero, teacher), Gate::kNorm).passed);
}

TEST_F(GatesTest, WhatIsNotFiniteNeverPasses) {
  for (const float bad : {NAN, INFINITY, 3e38f}) {
    auto candidate = teacher;
    candidate[7] = bad;
    const Admission admission = admit(loss, &held_out, canary_batch(), zero, candidate, limits);
    EXPECT_TRUE(admission.b.empty()) << bad;
    EXPECT_FALSE(admission.report.passed) << bad;
  }
}

TEST_F(GatesTest, WithoutACanaryNothingGoesLive) {
  canary_examples.resize(499);
  const GateReport report = check(zero, teacher);
  EXPECT_FALSE(result(report, Gate::kCanary).passed);
  EXPECT_FALSE(result(report, Gate::kDrift).passed);
  canary_examples.clear();
  EXPECT_FALSE(check(zero, teacher).passed);
}

TEST_F(GatesTest, OperatorsSkipTheEvidenceAndNothingElse) {
  const GateReport report = check_gates(loss, nullptr, canary_batch(), zero, teacher, limits);
  EXPECT_TRUE(report.passed);
  EXPECT_EQ(report.results.size(), 3u);
  limits.max_drift = 1e-6;
  EXPECT_FALSE(check_gates(loss, nullptr, canary_batch(), zero, teacher, limits).passed);
}

// A candidate that drifts too far is drawn back towards the live one until it fits.
TEST_F(GatesTest, ASmallerStepIsTried) {
  const auto part = [&](float t) {
    auto b = teacher;
    for (float& value : b) value *= t;
    return b;
  };
  const double quarter = loss.kl(canary_batch(), part(0.25f)), half = loss.kl(canary_batch(), part(0.5f));
  ASSERT_LT(quarter, half);
  limits.max_drift = 0.5 * (quarter + half);
  const Admission admission = admit(loss, &held_out, canary_batch(), zero, teacher, limits);
  ASSERT_TRUE(admission.report.passed);
  EXPECT_EQ(admission.report.t, 0.25);
  EXPECT_EQ(admission.b, part(0.25f));
  EXPECT_EQ(admission.report.tried, (std::vector<double>{1, 0.5, 0.25}));
  EXPECT_NE(admission.report.reasons[0].find("G3 drift"), std::string::npos);
  EXPECT_TRUE(admission.report.reasons[2].empty());
  EXPECT_EQ(admission.report.n_attempts, 2);
  limits.max_drift = 1e-9;
  const Admission refused = admit(loss, &held_out, canary_batch(), zero, teacher, limits);
  EXPECT_TRUE(refused.b.empty());
  EXPECT_EQ(refused.report.tried.size(), 4u);
  EXPECT_EQ(refused.report.n_attempts, 1);
}

TEST(GateLimitsTest, RefusesGatesThatAreNone) {
  EXPECT_TRUE(GateLimits().validate());
  GateLimits limits;
  limits.max_drift = INFINITY;
  EXPECT_EQ(limits.validate().error().id, "learning.gate_limits");
  limits = {};
  limits.min_blocks = 1;
  EXPECT_FALSE(limits.validate());
}

}  // namespace
}  // namespace ruvltra

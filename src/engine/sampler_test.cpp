#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "base/num.h"
#include "engine/sampler_math.h"

namespace ruvltra {
namespace {

SamplingParams params_of(float temperature) {
  SamplingParams params;
  params.temperature = temperature;
  params.top_p = 1;
  params.seed = 7;
  return params;
}

Sampler sampler_of(const SamplingParams& params, size_t n_vocab, std::vector<TokenId> unused = {}) {
  auto sampler = Sampler::create(params, n_vocab, unused);
  EXPECT_TRUE(sampler.has_value());
  return *std::move(sampler);
}

TokenId token_at(Sampler& sampler, const std::vector<float>& row, double u) {
  return sampler.sample_with(row, u)->token;
}

// The chain written out plainly in f64 on a full sort: candidates with their probabilities, in candidate
// order.
std::vector<std::pair<TokenId, double>> enumerate(std::vector<double> z, const SamplingParams& params) {
  std::vector<std::pair<TokenId, double>> list;
  for (size_t id = 0; id < z.size(); ++id) {
    if (std::isfinite(z[id])) list.emplace_back(static_cast<TokenId>(id), z[id]);
  }
  std::stable_sort(list.begin(), list.end(), [](auto a, auto b) { return a.second > b.second; });
  if (params.top_k > 0 && list.size() > static_cast<size_t>(params.top_k))
    list.resize(static_cast<size_t>(params.top_k));
  const double best = list[0].second;
  double total = 0;
  for (auto& [id, value] : list)
    total += value = std::exp((value - best) / static_cast<double>(params.temperature));
  if (params.top_p < 1) {
    double sum = 0;
    size_t n = 0;
    while (n < list.size() && sum < static_cast<double>(params.top_p) * total) sum += list[n++].second;
    list.resize(n);
  }
  std::erase_if(list, [&](const auto& entry) { return entry.second < static_cast<double>(params.min_p); });
  total = 0;
  for (const auto& entry : list) total += entry.second;
  for (auto& entry : list) entry.second /= total;
  return list;
}

TEST(ExpNonpositive, MatchesTheLibraryWithinTwoUlp) {
  std::mt19937_64 random(1);
  double worst = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const double x =
        -std::ldexp(static_cast<double>(random() >> 11), -53) * std::ldexp(1.0, static_cast<int>(i % 12) - 2);
    const double expected = std::exp(x);
    const double ulp = std::nextafter(expected, INFINITY) - expected;
    worst = std::max(worst, std::fabs(exp_nonpositive(x) - expected) / ulp);
  }
  std::printf("worst error %.2f ulp\n", worst);
  EXPECT_LE(worst, 2.0);
  EXPECT_EQ(exp_nonpositive(0), 1.0);
  EXPECT_EQ(exp_nonpositive(-0.0), 1.0);
  EXPECT_NEAR(exp_nonpositive(-700) / std::exp(-700.0), 1, 1e-15);
  EXPECT_EQ(exp_nonpositive(-1e300), exp_nonpositive(-708));
  EXPECT_EQ(exp_nonpositive(-INFINITY), exp_nonpositive(-708));
  EXPECT_GT(exp_nonpositive(-708), 0);
}

TEST(SumOfExponentials, MatchesAPlainSumAndItsLanes) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 4);
  for (const size_t n : {1u, 31u, 32u, 33u, 1000u, 4096u + 17u}) {
    std::vector<float> row(n);
    for (float& value : row) value = normal(random);
    const float highest = *std::max_element(row.begin(), row.end());
    double plain = 0;
    std::vector<double> lanes(32);
    for (size_t i = 0; i < n; ++i) {
      const double x = (static_cast<double>(row[i]) - static_cast<double>(highest)) * 1.25;
      plain += std::exp(x);
      lanes[i % 32] += exp_nonpositive(x);
    }
    double by_lane = 0;
    for (const double lane : lanes) by_lane += lane;
    EXPECT_EQ(sum_of_exponentials(row, highest, 1.25), by_lane);
    EXPECT_NEAR(by_lane / plain, 1, 1e-13);
  }
}

TEST(Sampler, GreedyTakesTheHighestAndTheLowestIdOnTies) {
  auto sampler = sampler_of(params_of(0), 6);
  EXPECT_EQ(token_at(sampler, {1, 3, 2, 3, 3, -1}, 0.99), 1);
  EXPECT_EQ(token_at(sampler, {5, 5, 5, 5, 5, 5}, 0.5), 0);
  EXPECT_EQ(token_at(sampler, {-5, -4, -9, -4, -7, -6}, 0), 1);
  EXPECT_EQ(token_at(sampler, {-0.0f, 0.0f, -1, -1, -1, -1}, 0), 0);
}

// Every cut point of u, found by bisection, must be the running sum of the enumerated probabilities.
TEST(Sampler, CutPointsEqualExactEnumeration) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 2);
  int n_points = 0;
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<float> row(1 + random() % 8);
    for (float& value : row) value = random() % 5 == 0 ? 1.0f : normal(random);
    SamplingParams params = params_of(0.05f + static_cast<float>(random() % 40) * 0.05f);
    if (trial % 2 == 1) params.top_p = 0.05f + static_cast<float>(random() % 95) * 0.01f;
    if (trial % 3 == 1) params.min_p = static_cast<float>(random() % 50) * 0.01f;
    if (trial % 5 == 1) params.top_k = static_cast<int>(random() % (row.size() + 1));
    auto sampler = sampler_of(params, row.size());
    const auto expected = enumerate({row.begin(), row.end()}, params);
    double sum = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double next = sum + expected[i].second;
      if (expected[i].second > 1e-5) {
        ASSERT_EQ(token_at(sampler, row, std::min(sum + 1e-6, 0.5 * (sum + next))), expected[i].first)
            << trial;
        ASSERT_EQ(token_at(sampler, row, std::max(next - 1e-6, 0.5 * (sum + next))), expected[i].first)
            << trial;
        ++n_points;
      }
      sum = next;
    }
    if (expected.back().second > 1e-9) {
      EXPECT_EQ(token_at(sampler, row, std::nextafter(1.0, 0.0)), expected.back().first);
    }
    EXPECT_EQ(token_at(sampler, row, 0.0), expected.front().first);
  }
  EXPECT_GT(n_points, 500);
}

TEST(Sampler, FrequenciesPassAGTest) {
  const std::vector<float> row = {1.0f, 0.0f, 2.0f, -1.0f, 0.5f, 1.5f, -2.0f, 0.0f};
  SamplingParams params = params_of(0.8f);
  params.top_p = 0.95f;
  auto sampler = sampler_of(params, row.size());
  const auto expected = enumerate({row.begin(), row.end()}, params);
  constexpr int kDraws = 100'000;
  std::map<TokenId, int> counts;
  for (uint32_t position = 0; position < kDraws; ++position)
    ++counts[sampler.sample(row, position, 0)->token];
  double g = 0;
  int n_seen = 0;
  for (const auto& [token, p] : expected) {
    if (counts[token] > 0) g += 2 * counts[token] * std::log(counts[token] / (p * kDraws));
    n_seen += counts[token];
  }
  EXPECT_EQ(n_seen, kDraws);  // nothing outside of the candidates
  // The chi-square quantile at 1 - 1e-6 for at most 7 degrees of freedom is 40.5.
  std::printf("G = %.2f with %zu candidates\n", g, expected.size());
  EXPECT_LT(g, 40.5);
}

TEST(Sampler, SameSeedPositionAndChoiceGiveTheSameToken) {
  const std::vector<float> row(64, 0.0f);
  auto a = sampler_of(params_of(1), 64), b = sampler_of(params_of(1), 64);
  SamplingParams other_params = params_of(1);
  other_params.seed = uint64_t{7} << 32;
  auto other = sampler_of(other_params, 64);
  int n_other_seed = 0, n_other_choice = 0, n_other_position = 0;
  for (uint32_t position = 0; position < 200; ++position) {
    const TokenId token = a.sample(row, position, 0)->token;
    ASSERT_EQ(b.sample(row, position, 0)->token, token);
    ASSERT_EQ(a.sample(row, position, 0)->token, token);
    EXPECT_EQ(a.sample_with(row, philox_uniform(7, position, 0, 0))->token, token);
    n_other_seed += other.sample(row, position, 0)->token != token;
    n_other_choice += a.sample(row, position, 1)->token != token;
    n_other_position += a.sample(row, position + 1000, 0)->token != token;
  }
  EXPECT_GT(std::min({n_other_seed, n_other_choice, n_other_position}), 150);
}

TEST(Sampler, TopPBoundaryIsInclusive) {
  // Four equal tokens: two of them are exactly one half.
  const std::vector<float> row = {0, 0, 0, 0};
  const auto n_kept = [&](float top_p) {
    SamplingParams params = params_of(1);
    params.top_p = top_p;
    auto sampler = sampler_of(params, 4);
    return token_at(sampler, row, std::nextafter(1.0, 0.0)) + 1;
  };
  EXPECT_EQ(n_kept(0.5f), 2);
  EXPECT_EQ(n_kept(std::nextafter(0.5f, 1.0f)), 3);
  EXPECT_EQ(n_kept(1e-9f), 1);
  EXPECT_EQ(n_kept(0.75f), 3);
  EXPECT_EQ(n_kept(1.0f), 4);
}

TEST(Sampler, MinPAndTopKCut) {
  const std::vector<float> row = {0, -1, -2, -3};  // weights 1, 0.37, 0.14, 0.05
  const auto last = [&](int top_k, float min_p) {
    SamplingParams params = params_of(1);
    params.top_k = top_k;
    params.min_p = min_p;
    auto sampler = sampler_of(params, 4);
    return token_at(sampler, row, std::nextafter(1.0, 0.0));
  };
  EXPECT_EQ(last(0, 0), 3);
  EXPECT_EQ(last(1, 0), 0);
  EXPECT_EQ(last(3, 0), 2);
  EXPECT_EQ(last(4, 0), 3);
  EXPECT_EQ(last(0, 0.1f), 2);
  EXPECT_EQ(last(0, 0.2f), 1);
  EXPECT_EQ(last(0, 1.0f), 0);
  EXPECT_EQ(last(2, 0.1f), 1);
  // What equals min_p times the best stays.
  SamplingParams params = params_of(1);
  params.min_p = 1;
  auto sampler = sampler_of(params, 3);
  EXPECT_EQ(token_at(sampler, {1, 1, 0}, std::nextafter(1.0, 0.0)), 1);
}

// top-p is relative to what top-k left, and min-p comes after top-p.
TEST(Sampler, OrderOfTheCuts) {
  const std::vector<float> row = {0, 0, -1, -1, -1, -1};
  SamplingParams params = params_of(1);
  params.top_k = 2;
  params.top_p = 0.5f;  // of the two best: one; of all: 0.5 * 3.47 = 1.74 needs two
  auto sampler = sampler_of(params, 6);
  EXPECT_EQ(token_at(sampler, row, 0.999), 0);
  params.top_k = 0;
  auto without_k = sampler_of(params, 6);
  EXPECT_EQ(token_at(without_k, row, 0.999), 1);
  // If min-p came first (leaving two tokens), top-p 0.5 would leave one.
  params.min_p = 0.5f;
  auto with_min_p = sampler_of(params, 6);
  EXPECT_EQ(token_at(with_min_p, row, 0.999), 1);
}

TEST(Sampler, TemperatureComesBeforeTopP) {
  const std::vector<float> row = {2, 0, 0, 0};
  SamplingParams params = params_of(0.5f);  // weights 1, 0.018 x 3: the first alone is 0.95
  params.top_p = 0.9f;
  auto cold = sampler_of(params, 4);
  EXPECT_EQ(token_at(cold, row, 0.999), 0);
  params.temperature = 2;  // weights 1, 0.37 x 3
  auto hot = sampler_of(params, 4);
  EXPECT_EQ(token_at(hot, row, 0.999), 3);
}

TEST(Sampler, PenaltiesByHand) {
  // Token 0 twice in the output, 1 once in prompt and output, 2 in the prompt only, 3 never.
  const auto greedy_after = [](const SamplingParams& params, const std::vector<float>& row) {
    auto sampler = sampler_of(params, 4);
    sampler.accept_prompt(std::vector<TokenId>{1, 2});
    for (const TokenId token : {0, 0, 1}) sampler.accept(token);
    return token_at(sampler, row, 0);
  };
  SamplingParams params = params_of(0);
  params.repeat_penalty = 2;  // 8 / 2, 6 / 2, 5 / 2, 4.5
  EXPECT_EQ(greedy_after(params, {8, 6, 5, 4.5f}), 3);
  EXPECT_EQ(greedy_after(params, {9.5f, 6, 5, 4.5f}), 0);
  EXPECT_EQ(greedy_after(params, {-2, -3, -1, -3.5f}), 2);  // -4, -6, -2, -3.5
  EXPECT_EQ(greedy_after(params, {-2, -3, -1.8f, -3.5f}), 3);
  params = params_of(0);
  params.frequency_penalty = 1;  // minus 2, 1, 0, 0
  EXPECT_EQ(greedy_after(params, {5, 4.5f, 3, 3}), 1);
  EXPECT_EQ(greedy_after(params, {5, 3.5f, 3.25f, 3}), 2);
  params.frequency_penalty = -1;
  EXPECT_EQ(greedy_after(params, {5, 5.5f, 6, 6}), 0);
  params = params_of(0);
  params.presence_penalty = 1;  // minus 1, 1, 0, 0
  EXPECT_EQ(greedy_after(params, {5, 4, 4.5f, 0}), 2);
  EXPECT_EQ(greedy_after(params, {5, 4, 3.5f, 0}), 0);
  // Together: 8 / 2 - 2 * 0.5 - 1 = 2, 6 / 2 - 0.5 - 1 = 1.5, 3.8 / 2 = 1.9.
  params.repeat_penalty = 2;
  params.frequency_penalty = 0.5f;
  EXPECT_EQ(greedy_after(params, {8, 6, 3.8f, 1.95f}), 0);
  EXPECT_EQ(greedy_after(params, {8, 6, 4.2f, 1.95f}), 2);
  EXPECT_EQ(greedy_after(params, {8, 6, 3.8f, 2.05f}), 3);
  // Bias comes before the penalty: (1 + 9) / 2 = 5, not 1 / 2 + 9.
  params = params_of(0);
  params.repeat_penalty = 2;
  params.logit_bias = {{0, 9}};
  EXPECT_EQ(greedy_after(params, {1, 0, 0, 6}), 3);
}

TEST(Sampler, BiasForbidsAndForces) {
  std::vector<float> row = {3, 2, 1, 0};
  SamplingParams params = params_of(1);
  params.logit_bias = {{0, -100}};
  auto forbids = sampler_of(params, 4);
  params.logit_bias = {{3, 100}};
  auto forces = sampler_of(params, 4);
  for (uint32_t position = 0; position < 2000; ++position) {
    ASSERT_NE(forbids.sample(row, position, 0)->token, 0);
    ASSERT_EQ(forces.sample(row, position, 0)->token, 3);
  }
}

TEST(Sampler, UnusedTokensAreNeverSampled) {
  std::vector<float> row = {9, 1, 9, 1, 9};
  for (const float temperature : {0.0f, 0.5f, 2.0f}) {
    SamplingParams params = params_of(temperature);
    params.logit_bias = {{4, 100}};
    auto sampler = sampler_of(params, 5, {0, 2, 4});
    for (uint32_t position = 0; position < 2000; ++position) {
      ASSERT_EQ(sampler.sample(row, position, 0)->token % 2, 1);
    }
    EXPECT_EQ(token_at(sampler, row, 0), 1);
    EXPECT_TRUE(token_at(sampler, row, std::nextafter(1.0, 0.0)) == (temperature == 0 ? 1 : 3));
  }
  const std::vector<TokenId> all = {0, 1};
  EXPECT_EQ(Sampler::create(params_of(1), 2, all).error().id, "sampler.no_token");
}

TEST(Sampler, EachParameterChangesTheOutcome) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> row(200);
  for (float& value : row) value = normal(random);
  const auto sequence = [&](const SamplingParams& params) {
    auto sampler = sampler_of(params, row.size());
    sampler.accept_prompt(std::vector<TokenId>{1, 2, 3, 4, 5, 6, 7, 8});
    std::vector<TokenId> tokens;
    for (uint32_t position = 0; position < 100; ++position) {
      tokens.push_back(sampler.sample(row, position, 0)->token);
      sampler.accept(tokens.back());
    }
    return tokens;
  };
  const SamplingParams base = params_of(1);
  const auto plain = sequence(base);
  EXPECT_EQ(sequence(base), plain);
  const auto changed = [&](auto edit) {
    SamplingParams params = base;
    edit(params);
    return sequence(params) != plain;
  };
  EXPECT_TRUE(changed([](auto& p) { p.temperature = 0.5f; }));
  EXPECT_TRUE(changed([](auto& p) { p.temperature = 0; }));
  EXPECT_TRUE(changed([](auto& p) { p.top_p = 0.5f; }));
  EXPECT_TRUE(changed([](auto& p) { p.min_p = 0.2f; }));
  EXPECT_TRUE(changed([](auto& p) { p.top_k = 10; }));
  EXPECT_TRUE(changed([](auto& p) { p.repeat_penalty = 1.5f; }));
  EXPECT_TRUE(changed([](auto& p) { p.presence_penalty = 1; }));
  EXPECT_TRUE(changed([](auto& p) { p.frequency_penalty = 1; }));
  EXPECT_TRUE(changed([](auto& p) { p.seed = 8; }));
  EXPECT_TRUE(changed([&](auto& p) { p.logit_bias = {{plain[0], -100}}; }));
  EXPECT_FALSE(changed([](auto& p) { p.n_logprobs = 5; }));
}

TEST(Sampler, LogprobsAreThoseOfTheModelsOwnRow) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> row(1000);
  for (float& value : row) value = normal(random);
  row[11] = row[77] = 20;
  double total = 0;
  for (const float value : row) total += std::exp(static_cast<double>(value));
  SamplingParams params = params_of(0.3f);
  params.n_logprobs = 20;
  params.logit_bias = {{500, 100}};
  params.presence_penalty = 2;
  auto sampler = sampler_of(params, row.size());
  sampler.accept(11);
  const Sampled sampled = *sampler.sample(row, 0, 0);
  EXPECT_EQ(sampled.token, 500);
  EXPECT_NEAR(sampled.logprob, static_cast<double>(row[500]) - std::log(total), 1e-12);
  ASSERT_EQ(sampled.top.size(), 20u);
  EXPECT_EQ(sampled.top[0].token, 11);
  EXPECT_EQ(sampled.top[1].token, 77);
  std::vector<float> sorted = row;
  std::sort(sorted.rbegin(), sorted.rend());
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(row[static_cast<size_t>(sampled.top[i].token)], sorted[i]);
    EXPECT_NEAR(sampled.top[i].logprob, static_cast<double>(sorted[i]) - std::log(total), 1e-12);
  }
  params.n_logprobs = 0;
  EXPECT_TRUE(sampler_of(params, row.size()).sample(row, 0, 0)->top.empty());
}

TEST(Sampler, RefusesLogitsThatAreNotFinite) {
  auto sampler = sampler_of(params_of(1), 40);
  for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    for (const size_t place : {0u, 31u, 32u, 39u}) {
      std::vector<float> row(40, 1.0f);
      row[place] = bad;
      const auto result = sampler.sample(row, 0, 0);
      ASSERT_FALSE(result);
      EXPECT_EQ(result.error().id, "sampler.not_finite");
      EXPECT_NE(result.error().message.find("token " + std::to_string(place)), std::string::npos);
    }
  }
  std::vector<float> extreme(40, std::numeric_limits<float>::lowest());
  extreme[3] = std::numeric_limits<float>::max();
  EXPECT_EQ(sampler.sample(extreme, 0, 0)->token, 3);
  EXPECT_TRUE(sampler.sample(std::vector<float>(40, std::numeric_limits<float>::lowest()), 0, 0));
}

// Partial selection must agree with the plain chain on rows of every spread, down to ties everywhere.
TEST(Sampler, LargeRowsAgreeWithTheFullSort) {
  std::mt19937 random(6);
  for (const float spread : {0.0f, 0.01f, 1.0f, 3.0f, 30.0f}) {
    std::normal_distribution<float> normal(0, spread == 0 ? 1.0f : spread);
    std::vector<float> row(5000);
    for (float& value : row) value = spread == 0 ? 2.5f : normal(random);
    for (int kind = 0; kind < 5; ++kind) {
      SamplingParams params = params_of(kind == 4 ? 2.0f : 0.7f);
      if (kind == 1) params.top_p = 0.9f;
      if (kind == 2) params.top_k = 1500;
      if (kind == 3) params.min_p = 0.01f;
      auto sampler = sampler_of(params, row.size());
      const auto expected = enumerate({row.begin(), row.end()}, params);
      size_t i = 0;
      double sum = expected[0].second;
      for (int step = 0; step < 100; ++step) {
        const double u = (step + 0.5) / 100;
        while (sum < u && i + 1 < expected.size()) sum += expected[++i].second;
        if (std::fabs(sum - u) < 1e-9 || std::fabs(sum - expected[i].second - u) < 1e-9) continue;
        ASSERT_EQ(token_at(sampler, row, u), expected[i].first) << spread << " " << kind << " " << u;
      }
    }
  }
}

TEST(Validate, NamesTheFieldOutOfRange) {
  const auto error_of = [](auto edit) {
    SamplingParams params;
    edit(params);
    const auto result = validate(params, 100);
    if (result) return std::string("none");
    EXPECT_TRUE(result.error().id == "sampler.range" || result.error().id.starts_with("config."));
    EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
    return result.error().message.substr(0, result.error().message.find(':'));
  };
  EXPECT_EQ(error_of([](auto&) {}), "none");
  EXPECT_EQ(error_of([](auto& p) {
              p.temperature = 0;
              p.top_p = 1;
              p.top_k = 100;
              p.min_p = 1;
              p.repeat_penalty = 10;
            }),
            "none");
  for (const float bad : {-0.1f, 2.1f, NAN, INFINITY}) {
    EXPECT_EQ(error_of([bad](auto& p) { p.temperature = bad; }), "temperature");
    EXPECT_EQ(error_of([bad](auto& p) { p.top_p = bad; }), "top_p");
    EXPECT_EQ(error_of([bad](auto& p) { p.min_p = bad; }), "min_p");
    EXPECT_EQ(error_of([bad](auto& p) { p.presence_penalty = bad * 100; }), "presence_penalty");
    EXPECT_EQ(error_of([bad](auto& p) { p.frequency_penalty = bad * 100; }), "frequency_penalty");
    EXPECT_EQ(error_of([bad](auto& p) { p.repeat_penalty = bad < 0 ? bad : bad * 100; }), "repeat_penalty");
    EXPECT_EQ(error_of([bad](auto& p) { p.logit_bias = {{1, bad * 1e4f}}; }), "logit_bias");
  }
  EXPECT_EQ(error_of([](auto& p) { p.top_p = 0; }), "top_p");
  EXPECT_EQ(error_of([](auto& p) { p.repeat_penalty = 0; }), "repeat_penalty");
  EXPECT_EQ(error_of([](auto& p) { p.top_k = -1; }), "top_k");
  EXPECT_EQ(error_of([](auto& p) { p.top_k = 101; }), "top_k");
  EXPECT_EQ(error_of([](auto& p) { p.logit_bias = {{100, 1}}; }), "logit_bias");
  EXPECT_EQ(error_of([](auto& p) { p.logit_bias = {{-1, 1}}; }), "logit_bias");
  EXPECT_EQ(error_of([](auto& p) { p.logit_bias.resize(1025, {1, 1}); }), "logit_bias");
  EXPECT_EQ(error_of([](auto& p) { p.stop = {""}; }), "stop");
  EXPECT_EQ(error_of([](auto& p) { p.stop = {std::string(257, 'a')}; }), "stop");
  EXPECT_EQ(error_of([](auto& p) { p.stop.resize(17, "x"); }), "stop");
  EXPECT_EQ(error_of([](auto& p) { p.n_logprobs = 21; }), "n_logprobs");
}

TEST(RandomSeed, Differs) { EXPECT_NE(random_seed(), random_seed()); }

// Prints; asserts nothing about time.
TEST(Sampler, TimePerRow) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> row(151'936);
  for (float& value : row) value = normal(random);
  for (size_t i = 0; i < 20; ++i) row[i * 7000] += 12;
  SamplingParams params = params_of(0.7f);
  params.top_p = 0.9f;
  auto sampler = sampler_of(params, row.size());
  std::vector<double> times;
  for (uint32_t position = 0; position < 50; ++position) {
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE(sampler.sample(row, position, 0));
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  std::nth_element(times.begin(), times.begin() + 25, times.end());
  std::printf("%.3f ms per row of %zu, median of 50\n", times[25], row.size());
}

}  // namespace
}  // namespace ruvltra

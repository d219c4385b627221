#include "sona/lora_gradient.h"

#include <gtest/gtest.h>

#include <atomic>
#include <limits>

#include "sona/lora_for_test.h"

namespace ruvltra {
namespace {

using namespace testing;

RecordEvaluator make_evaluator(const LoraWorld& world) {
  return *RecordEvaluator::make(*world.head, world.m, world.scale, size_t{1} << 20);
}
// Room for so many tokens even if K doubles to the whole vocabulary.
TokenRecords make_records(const LoraWorld& world, size_t n_tokens, size_t top_k) {
  const size_t capacity = n_tokens * (1 + world.n_rows / top_k);
  return TokenRecords(
      {.n_features = world.m, .n_rows = world.n_rows, .capacity = capacity, .top_k = top_k, .max_ids = 0});
}

// NLL and KL(p_base || p_b) in double with the full softmax.
double full_nll(const LoraWorld& world, const LoraToken& token, std::span<const double> b) {
  const auto z = world.logits(token.h, token.phi, b);
  return log_sum_exp(z) - z[token.y];
}
double full_kl(const LoraWorld& world, const LoraToken& token, std::span<const double> b) {
  const auto base = world.logits(token.h, token.phi, {}), z = world.logits(token.h, token.phi, b);
  const double lse_base = log_sum_exp(base), lse = log_sum_exp(z);
  double kl = 0;
  for (size_t v = 0; v < z.size(); ++v)
    kl += std::exp(base[v] - lse_base) * ((base[v] - lse_base) - (z[v] - lse));
  return kl;
}
// The gradient by central differences of a function of B in double.
template <class F>
std::vector<double> central_differences(F&& f, std::vector<double> b, double step = 1e-4) {
  std::vector<double> gradient(b.size());
  for (size_t i = 0; i < b.size(); ++i) {
    const double at = b[i];
    b[i] = at + step;
    const double above = f(b);
    b[i] = at - step;
    gradient[i] = (above - f(b)) / (2 * step);
    b[i] = at;
  }
  return gradient;
}

// The whole vocabulary recorded: only f16 stands between record and reference. Central differences of the
// full softmax know nothing of the formulas.
TEST(LoraGradientTest, AgreesWithDifferencesOfTheFullSoftmax) {
  LoraWorld world(150, 12, 5, 21, 1.5);
  RecordEvaluator evaluator = make_evaluator(world);
  for (int round = 0; round < 10; ++round) {
    const auto b = world.adapter(0.4f);
    const auto wide = LoraWorld::doubles(b);
    const LoraToken token = draw_token(world);
    TokenRecords records = make_records(world, 1, 150);
    ASSERT_TRUE(record_token(world, records, token));
    const TokenLoss loss = evaluator.loss(records[0], b);
    EXPECT_NEAR(loss.nll, full_nll(world, token, wide), 3e-3);
    EXPECT_NEAR(loss.kl, full_kl(world, token, wide), 3e-3);
    std::vector<double> gradient(b.size());
    evaluator.add_nll_gradient(1, gradient);
    EXPECT_LT(relative_error(gradient, central_differences(
                                           [&](const auto& at) { return full_nll(world, token, at); }, wide)),
              1e-2);
    std::fill(gradient.begin(), gradient.end(), 0);
    evaluator.add_kl_gradient(1, gradient);
    EXPECT_LT(relative_error(gradient, central_differences(
                                           [&](const auto& at) { return full_kl(world, token, at); }, wide)),
              1e-2);
  }
}

// The record's own loss, tail and rounded probabilities included, is a function whose gradient is exact.
TEST(LoraGradientTest, IsTheExactGradientOfTheRecordedLoss) {
  LoraWorld world(2000, 12, 5, 22, 1.5);
  RecordEvaluator evaluator = make_evaluator(world);
  TokenRecords records = make_records(world, 20, 64);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(record_token(world, records, draw_token(world)));
  double total_tail = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    const auto b = world.adapter(0.3f);
    std::vector<double> nll(b.size()), kl(b.size());
    total_tail += evaluator.loss(records[i], b).tail;
    evaluator.add_nll_gradient(1, nll);
    evaluator.add_kl_gradient(1, kl);
    // Along a random direction, with steps that f32 can tell apart.
    for (int draw = 0; draw < 5; ++draw) {
      const auto direction = world.adapter(0.005f);
      auto above = b, below = b;
      double nll_slope = 0, kl_slope = 0;
      for (size_t j = 0; j < b.size(); ++j) {
        above[j] += direction[j];
        below[j] -= direction[j];
        const double step = static_cast<double>(above[j]) - static_cast<double>(below[j]);
        nll_slope += nll[j] * step;
        kl_slope += kl[j] * step;
      }
      const TokenLoss high = evaluator.loss(records[i], above), low = evaluator.loss(records[i], below);
      EXPECT_NEAR(high.nll - low.nll, nll_slope, 1e-4 * std::abs(nll_slope) + 2e-6);
      EXPECT_NEAR(high.kl - low.kl, kl_slope, 1e-4 * std::abs(kl_slope) + 2e-6);
    }
  }
  EXPECT_GT(total_tail, 1);
}

// |g - g_K| <= (1 - P_K) R in every draw, and it is no empty bound: some draw comes within a factor of it.
TEST(LoraGradientTest, LeavesOutAtMostTheTailsShare) {
  const int n = n_draws(10'000);
  double tightest = 0;
  for (uint32_t seed = 0; seed < 5; ++seed) {
    LoraWorld world(600, 16, 1, 100 + seed, 1 + seed);
    RecordEvaluator evaluator = make_evaluator(world);
    for (int draw = 0; draw < n / 5; ++draw) {
      const LoraToken token = draw_token(world);
      const auto z = world.logits(token.h, token.phi, {});
      const auto p = softmax(z);
      const size_t k = 1 + world.random() % 300;
      std::vector<uint32_t> ids(world.n_rows);
      for (uint32_t v = 0; v < ids.size(); ++v) ids[v] = v;
      std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(k), ids.end(),
                        [&](uint32_t a, uint32_t b) { return z[a] > z[b]; });
      ids.resize(k);
      if (std::find(ids.begin(), ids.end(), token.y) == ids.end()) ids.push_back(token.y);
      std::sort(ids.begin(), ids.end());
      double inside = 0;
      std::vector<f16_t> log_p;
      for (const uint32_t v : ids) {
        inside += p[v];
        log_p.push_back(f32_to_f16(static_cast<float>(std::log(p[v]))));
      }
      TokenRecord record;
      record.token = token.y;
      record.lse = static_cast<float>(log_sum_exp(z));
      record.logit = static_cast<float>(z[token.y]);
      record.tail = static_cast<float>(ids.size() == world.n_rows ? 0 : 1 - inside);
      record.features = token.phi;
      record.ids = ids;
      record.log_p = log_p;
      evaluator.loss(record, {});
      std::vector<double> found(world.d), exact(world.d);
      evaluator.add_nll_gradient(1, found);  // m = 1, phi = 1, s = 1: the gradient is g
      for (size_t v = 0; v < world.n_rows; ++v)
        for (size_t i = 0; i < world.d; ++i)
          exact[i] += (p[v] - (v == token.y)) * static_cast<double>(world.w[v * world.d + i]);
      double away = 0;
      for (size_t i = 0; i < world.d; ++i) away += (found[i] - exact[i]) * (found[i] - exact[i]);
      away = std::sqrt(away);
      // Rounding of log p to f16 comes on top: at most 2 r p |w| each.
      const double bound = (1 - inside) * world.head->radius() + 0.01 * world.head->radius();
      EXPECT_LE(away, bound);
      if (inside < 0.9) tightest = std::max(tightest, away / ((1 - inside) * world.head->radius()));
    }
  }
  EXPECT_GT(tightest, 0.1);
}

// The NLL at another B from a record alone, against the full softmax: never further off than its bound.
TEST(LoraGradientTest, NllFromARecordStaysWithinItsBound) {
  const int n = n_draws(10'000);
  double largest_error = 0, largest_bound = 0, mean_ratio = 0;
  int n_compared = 0;
  for (uint32_t seed = 0; seed < 4; ++seed) {
    LoraWorld world(1500, 16, 5, 200 + seed, 0.5 + seed);
    RecordEvaluator evaluator = make_evaluator(world);
    for (int draw = 0; draw < n / 4; ++draw) {
      TokenRecords records = make_records(world, 1, 32 << world.random() % 5);
      const LoraToken token = draw_token(world);
      ASSERT_TRUE(record_token(world, records, token));
      const auto b = world.adapter(static_cast<float>(std::exp2(-static_cast<double>(world.random() % 8))));
      const TokenLoss loss = evaluator.loss(records[0], b);
      const double error = std::abs(loss.nll - full_nll(world, token, LoraWorld::doubles(b)));
      ASSERT_LE(error, loss.bound) << "seed " << seed << " draw " << draw;
      if (loss.bound < 1) {
        mean_ratio += error / loss.bound;
        ++n_compared;
      }
      largest_error = std::max(largest_error, error);
      largest_bound = std::max(largest_bound, loss.bound);
    }
  }
  std::printf("largest error %.4f, largest bound %.4f, mean share of bounds below 1: %.3f\n", largest_error,
              largest_bound, mean_ratio / n_compared);
  EXPECT_GT(largest_error, 0.02);  // the bound had something to bound
  EXPECT_GT(n_compared, n / 4);
}

// Records made with an adapter say the same as records made without, where both keep the whole vocabulary.
TEST(LoraGradientTest, RecordsOfAnAdaptedModelReachBackToTheBase) {
  LoraWorld world(300, 32, 5, 31, 1.5);
  const auto basis = rank_two_basis(world);
  ASSERT_EQ(basis->n_features(), world.m);
  const auto adapter = std::make_shared<const Adapter>(*Adapter::make(basis, world.adapter(0.3f)));
  RecordEvaluator evaluator = make_evaluator(world);
  for (int round = 0; round < 20; ++round) {
    TokenRecords records = make_records(world, 2, 300);
    const LoraToken token = draw_token(world);
    ASSERT_TRUE(record_token(world, records, token));
    ASSERT_TRUE(
        record_token(world, records, token, LoraWorld::doubles(adapter->b()), records.reference_to(adapter)));
    const auto b = world.adapter(0.3f);
    for (const auto& at : {std::vector<float>{}, b}) {
      std::vector<double> nll[2], kl[2], fisher[2];
      TokenLoss loss[2];
      for (size_t i = 0; i < 2; ++i) {
        nll[i].resize(b.size());
        kl[i].resize(b.size());
        fisher[i].resize(b.size());
        loss[i] = evaluator.loss(records[i], at);
        evaluator.add_nll_gradient(1, nll[i]);
        evaluator.add_kl_gradient(1, kl[i]);
        evaluator.add_fisher(1, fisher[i]);
      }
      EXPECT_NEAR(loss[0].nll, loss[1].nll, 5e-3);
      EXPECT_NEAR(loss[0].kl, loss[1].kl, 5e-3);
      EXPECT_NEAR(loss[0].delta, loss[1].delta, 1e-4);
      EXPECT_LT(relative_error(nll[1], nll[0]), 1e-2);
      EXPECT_LT(relative_error(fisher[1], fisher[0]), 1e-2);
      if (!at.empty()) {
        EXPECT_LT(relative_error(kl[1], kl[0]), 2e-2);
      }
    }
    EXPECT_NEAR(evaluator.loss(records[1], {}).kl, 0, 1e-6);
  }
}

// F in closed form against its two definitions: second differences of the full NLL on the diagonal, and the
// mean square of gradients whose tokens are drawn from the model.
TEST(LoraFisherTest, IsTheHessianDiagonalAndTheMeanSquareOfGradients) {
  LoraWorld world(200, 6, 3, 41, 1.5);
  RecordEvaluator evaluator = make_evaluator(world);
  const auto b = world.adapter(0.3f);
  const auto wide = LoraWorld::doubles(b);
  const int n_tokens = 20, n_samples = n_draws(10'000);
  std::vector<double> fisher(b.size()), hessian(b.size()), sampled(b.size());
  for (int t = 0; t < n_tokens; ++t) {
    LoraToken token = draw_token(world);
    TokenRecords records = make_records(world, 1, 200);
    ASSERT_TRUE(record_token(world, records, token));
    evaluator.loss(records[0], b);
    evaluator.add_fisher(1.0 / n_tokens, fisher);
    auto at = wide;
    for (size_t i = 0; i < at.size(); ++i) {
      const double step = 1e-3, middle = full_nll(world, token, at);
      at[i] += step;
      const double above = full_nll(world, token, at);
      at[i] -= 2 * step;
      hessian[i] += (above + full_nll(world, token, at) - 2 * middle) / (step * step) / n_tokens;
      at[i] += step;
    }
    const auto p = softmax(world.logits(token.h, token.phi, wide));
    std::vector<double> mean(world.d);
    for (size_t v = 0; v < p.size(); ++v)
      for (size_t i = 0; i < world.d; ++i) mean[i] += p[v] * static_cast<double>(world.w[v * world.d + i]);
    std::discrete_distribution<size_t> model(p.begin(), p.end());
    for (int sample = 0; sample < n_samples; ++sample) {
      const size_t y = model(world.random);
      for (size_t j = 0; j < world.m; ++j) {
        for (size_t i = 0; i < world.d; ++i) {
          const double g = static_cast<double>(world.scale) * static_cast<double>(token.phi[j]) *
                           (mean[i] - static_cast<double>(world.w[y * world.d + i]));
          sampled[j * world.d + i] += g * g / n_samples / n_tokens;
        }
      }
    }
  }
  EXPECT_LT(relative_error(fisher, hessian), 1e-3);
  EXPECT_LT(relative_error(fisher, sampled), 0.05);
}

// With a tail, F is that of the distribution whose tail is uniform over the vocabulary.
TEST(LoraFisherTest, CountsTheTailAsUniform) {
  LoraWorld world(1500, 8, 1, 43, 1);
  RecordEvaluator evaluator = make_evaluator(world);
  TokenRecords records = make_records(world, 1, 40);
  ASSERT_TRUE(record_token(world, records, draw_token(world)));
  const TokenRecord record = records[0];
  evaluator.loss(record, {});
  std::vector<double> fisher(8), first(8), second(8);
  evaluator.add_fisher(1, fisher);
  std::vector<double> p(world.n_rows, static_cast<double>(record.tail) / static_cast<double>(world.n_rows));
  for (size_t k = 0; k < record.ids.size(); ++k) p[record.ids[k]] += evaluator.p()[k];
  for (size_t v = 0; v < p.size(); ++v) {
    for (size_t i = 0; i < 8; ++i) {
      first[i] += p[v] * static_cast<double>(world.w[v * 8 + i]);
      second[i] += p[v] * std::pow(static_cast<double>(world.w[v * 8 + i]), 2);
    }
  }
  ASSERT_GT(record.tail, 0.3f);
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(fisher[i], second[i] - first[i] * first[i], 1e-5 * second[i]);
}

// Where one token has all the probability, little variance is left; it is not lost in rounding.
TEST(LoraFisherTest, KeepsSmallVariances) {
  LoraWorld world(300, 8, 1, 44, 1);
  RecordEvaluator evaluator = make_evaluator(world);
  TokenRecords records = make_records(world, 1, 300);
  std::vector<float> logits(300, -1e4f), phi = {1};
  logits[7] = 0;
  logits[9] = -18;  // p = 1.5e-8
  ASSERT_TRUE(records.add(logits, 7, phi, 1));
  evaluator.loss(records[0], {});
  std::vector<double> fisher(8);
  evaluator.add_fisher(1, fisher);
  for (size_t i = 0; i < 8; ++i) {
    const double away = static_cast<double>(world.w[7 * 8 + i]) - static_cast<double>(world.w[9 * 8 + i]);
    EXPECT_NEAR(fisher[i], std::exp(-18.0) * away * away, 0.02 * std::exp(-18.0) * away * away);
  }
}

// Records of so many tokens, weighted at random.
struct WeightedRecords {
  LoraWorld world;
  TokenRecords records;
  std::vector<Example> examples;
  std::vector<float> b = world.adapter(0.2f);
  WeightedRecords(size_t width, size_t features, uint32_t seed, size_t n_tokens, size_t top_k)
      : world(1500, width, features, seed, 1.5), records(make_records(world, n_tokens, top_k)) {
    for (size_t i = 0; i < n_tokens; ++i) EXPECT_TRUE(record_token(world, records, draw_token(world)));
    examples = all_of(records);
    for (Example& example : examples) example.weight = 0.1f + static_cast<float>(world.random() % 20) * 0.1f;
  }
};

class LoraLossTest : public ::testing::Test, protected WeightedRecords {
 protected:
  LoraLossTest() : WeightedRecords(24, 5, 51, 200, 64) {}
  LoraLoss make_loss(LoraLoss::Options options = {}) {
    return *LoraLoss::make(world.ctx, *world.head, world.m, world.scale, std::move(options));
  }
};

TEST_F(LoraLossTest, IsTheWeightedMeanOfItsTokens) {
  LoraLoss loss = make_loss({.product_bytes = 0, .breathe = {}});
  const Batch batch = {&records, examples};
  RecordEvaluator evaluator = make_evaluator(world);
  std::vector<double> nll_gradient(b.size()), kl_gradient(b.size()), fisher(b.size());
  double nll = 0, kl = 0;
  const double weight = batch.weight();
  for (const Example& example : examples) {
    const double share = static_cast<double>(example.weight) / weight;
    const TokenLoss one = evaluator.loss(records[example.index], b);
    nll += share * one.nll;
    kl += share * one.kl;
    evaluator.add_nll_gradient(3 * share, nll_gradient);
    evaluator.add_kl_gradient(0.1 * share, kl_gradient);
    evaluator.add_fisher(share, fisher);
  }
  std::vector<double> found(b.size());
  EXPECT_NEAR(loss.nll(batch, b, 3, found), nll, 1e-12 * nll);
  EXPECT_LT(relative_error(found, nll_gradient), 1e-12);
  std::fill(found.begin(), found.end(), 0);
  EXPECT_NEAR(loss.kl(batch, b, 0.1, found), kl, 1e-12 * kl);
  EXPECT_LT(relative_error(found, kl_gradient), 1e-12);
  loss.fisher(batch, b, found);
  EXPECT_LT(relative_error(found, fisher), 1e-12);
  EXPECT_EQ(loss.nll({&records, {}}, b), 0);
}

// A batch whose tokens share their rows goes another way, through products of whole matrices.
class RowProductsTest : public ::testing::Test, protected WeightedRecords {
 protected:
  RowProductsTest() : WeightedRecords(40, 37, 61, 800, 200) {}  // more than a block of each
  LoraLoss loss_with(size_t product_bytes, ThreadPool& pool) {
    return *LoraLoss::make({&pool, world.ctx.kernels}, *world.head, world.m, world.scale,
                           {.product_bytes = product_bytes, .breathe = {}});
  }
};

TEST_F(RowProductsTest, SayWhatTheTokensSayOneByOne) {
  ThreadPool pool(2);
  LoraLoss plain = loss_with(0, pool), by_rows = loss_with(size_t{1} << 24, pool);
  const Batch batch = {&records, examples};
  std::vector<double> expected(b.size()), found(b.size());
  const double nll = plain.nll(batch, b, 3, expected);
  EXPECT_NEAR(by_rows.nll(batch, b, 3, found), nll, 1e-6 * nll);
  EXPECT_LT(relative_error(found, expected), 1e-5);
  EXPECT_NE(found, expected);  // it was another way
  std::fill(expected.begin(), expected.end(), 0);
  std::fill(found.begin(), found.end(), 0);
  const double kl = plain.kl(batch, b, 0.1, expected);
  EXPECT_NEAR(by_rows.kl(batch, b, 0.1, found), kl, 1e-6 * kl);
  EXPECT_LT(relative_error(found, expected), 1e-5);
  // Few tokens go one by one.
  const Batch few = {&records, std::span(examples).first(4)};
  EXPECT_EQ(plain.nll(few, b, 1, expected), by_rows.nll(few, b, 1, found));

  std::vector<TokenLoss> one_by_one(examples.size()), together(examples.size());
  plain.each(batch, b, one_by_one);
  by_rows.each(batch, b, together);
  for (size_t i = 0; i < examples.size(); ++i) {
    EXPECT_NEAR(together[i].nll, one_by_one[i].nll, 1e-5);
    EXPECT_NEAR(together[i].bound, one_by_one[i].bound, 1e-4 * one_by_one[i].bound);
    EXPECT_NEAR(together[i].kl, one_by_one[i].kl, 1e-5);
    EXPECT_EQ(together[i].delta, one_by_one[i].delta);
  }
}

// Records of an adapted model know their adapter by themselves: a batch with one of them goes token by token.
TEST(LoraLossOfAdaptedModels, GoesTokenByToken) {
  LoraWorld world(300, 32, 5, 31, 1.5);
  const auto basis = rank_two_basis(world);
  const auto adapter = std::make_shared<const Adapter>(*Adapter::make(basis, world.adapter(0.3f)));
  TokenRecords records = make_records(world, 100, 300);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(record_token(world, records, draw_token(world),
                             i == 50 ? LoraWorld::doubles(adapter->b()) : std::vector<double>{},
                             i == 50 ? records.reference_to(adapter) : 0));
  }
  ThreadPool pool(2);
  const auto b = world.adapter(0.3f);
  const auto examples = all_of(records);
  const auto nll = [&](size_t product_bytes, size_t n) {
    LoraLoss loss = *LoraLoss::make({&pool, world.ctx.kernels}, *world.head, world.m, world.scale,
                                    {.product_bytes = product_bytes, .breathe = {}});
    return loss.nll({&records, std::span(examples).first(n)}, b);
  };
  EXPECT_NE(nll(0, 50), nll(size_t{1} << 24, 50));
  EXPECT_EQ(nll(0, 100), nll(size_t{1} << 24, 100));
}

// Nothing of one batch is left in the next, not even of an adapter without a number.
TEST_F(RowProductsTest, BatchesDoNotTouchEachOther) {
  ThreadPool pool(2);
  LoraLoss used = loss_with(size_t{1} << 24, pool), fresh = loss_with(size_t{1} << 24, pool);
  const Batch whole = {&records, examples}, half = {&records, std::span(examples).subspan(300)};
  auto broken = b;
  broken[5] = std::numeric_limits<float>::quiet_NaN();
  std::vector<double> expected(b.size()), found(b.size()), other(b.size());
  EXPECT_TRUE(std::isnan(used.nll(half, broken, 1, other)));
  used.nll(half, world.adapter(0.3f), 1, other);
  EXPECT_EQ(used.nll(whole, b, 1, found), fresh.nll(whole, b, 1, expected));
  EXPECT_EQ(found, expected);
}

TEST_F(RowProductsTest, BreatheBetweenRowsToo) {
  ThreadPool pool(1);
  std::atomic<size_t> n_breaths = 0;
  LoraLoss loss = *LoraLoss::make({&pool, world.ctx.kernels}, *world.head, world.m, world.scale,
                                  {.breathe = [&] { ++n_breaths; }});
  loss.nll({&records, examples}, b);
  EXPECT_GT(n_breaths, examples.size() + 1500 / 32);
}

TEST_F(RowProductsTest, AnyNumberOfThreadsGivesTheSameBits) {
  std::vector<std::vector<double>> gradients;
  for (const int n_threads : {1, 2, 3}) {
    ThreadPool pool(n_threads);
    LoraLoss loss = loss_with(size_t{1} << 24, pool);
    gradients.emplace_back(b.size());
    loss.nll({&records, examples}, b, 1, gradients.back());
    EXPECT_EQ(gradients.back(), gradients.front());
  }
}

// As many parts as there is room for; with room for none the tokens go one by one.
TEST_F(RowProductsTest, KeepToTheirMemory) {
  const size_t products = 1501 * padded_to_block(world.m) * sizeof(float),
               sums = 1501 * world.m * sizeof(double);
  const auto n_parts = [&](size_t bytes) {
    return RowProducts::make(*world.head, world.m, world.scale, bytes)->n_parts();
  };
  EXPECT_EQ(n_parts(0), 0u);
  EXPECT_EQ(n_parts(products + sums - 1), 0u);
  EXPECT_EQ(n_parts(products + sums), 1u);
  EXPECT_EQ(n_parts(products + 3 * sums), 3u);
  EXPECT_EQ(n_parts(size_t{1} << 30), RowProducts::kMaxParts);
}

TEST_F(LoraLossTest, AnyNumberOfThreadsAndAnyCacheGiveTheSameBits) {
  std::vector<std::vector<double>> gradients;
  for (const int n_threads : {1, 2, 3}) {
    ThreadPool pool(n_threads);
    const Ctx ctx = {&pool, world.ctx.kernels};
    for (const size_t cache_bytes : {size_t{0}, size_t{1} << 20}) {
      LoraLoss loss = *LoraLoss::make(ctx, *world.head, world.m, world.scale,
                                      {.cache_bytes = cache_bytes, .product_bytes = 0, .breathe = {}});
      gradients.emplace_back(b.size());
      loss.nll({&records, examples}, b, 1, gradients.back());
      EXPECT_EQ(gradients.back(), gradients.front());
    }
  }
}

TEST_F(LoraLossTest, BreathesAfterEachToken) {
  std::atomic<int> n_breaths = 0;
  LoraLoss loss =
      make_loss({.cache_bytes = size_t{1} << 20, .product_bytes = 0, .breathe = [&] { ++n_breaths; }});
  loss.nll({&records, examples}, b);
  EXPECT_EQ(n_breaths, 200);
}

TEST_F(LoraLossTest, EffectiveTokensCountHeavyOnesOnce) {
  EXPECT_DOUBLE_EQ((Batch{&records, all_of(records)}.effective_tokens()), 200);
  std::vector<Example> uneven = {{0, 19}, {1, 1}};
  EXPECT_NEAR((Batch{&records, uneven}.effective_tokens()), 400.0 / 362, 1e-12);
}

// Convex in B: the mean of two ends is never below the middle, for NLL and KL.
TEST_F(LoraLossTest, NllAndKlAreConvexInB) {
  LoraLoss loss = make_loss();
  const Batch batch = {&records, examples};
  for (int draw = 0; draw < 20; ++draw) {
    const auto c = world.adapter(0.5f);
    std::vector<float> middle(b.size());
    for (size_t i = 0; i < b.size(); ++i) middle[i] = 0.5f * (b[i] + c[i]);
    EXPECT_GE(0.5 * (loss.nll(batch, b) + loss.nll(batch, c)), loss.nll(batch, middle) - 1e-6);
    EXPECT_GE(0.5 * (loss.kl(batch, b) + loss.kl(batch, c)), loss.kl(batch, middle) - 1e-6);
  }
}

}  // namespace
}  // namespace ruvltra

#include "sona/lora_fit.h"

#include <gtest/gtest.h>

#include "sona/lora_for_test.h"

namespace ruvltra {
namespace {

using namespace testing;

// A world whose texts follow a hidden teacher: y ~ softmax(W (h + s B' phi)). Records are the base's.
class LoraFitTest : public ::testing::Test {
 protected:
  LoraWorld world{200, 16, 5, 61, 1.5};
  std::vector<double> teacher = LoraWorld::doubles(world.adapter(0.35f));
  LoraLoss loss = *LoraLoss::make(world.ctx, *world.head, world.m, world.scale, {});

  TokenRecords draw(size_t n, std::span<const double> by) {
    TokenRecords records(
        {.n_features = world.m, .n_rows = world.n_rows, .capacity = n, .top_k = 200, .max_ids = 0});
    for (size_t i = 0; i < n; ++i) EXPECT_TRUE(record_token(world, records, draw_token(world, by)));
    return records;
  }
  std::vector<float> zero() const { return std::vector<float>(world.m * world.d, 0); }
  static FitOptions unbounded(double n0) {
    FitOptions options;
    options.n0 = n0;
    options.c_feature = 1;
    options.max_update = FitOptions::kNoBound;
    return options;
  }
  LoraFit fit(Ewc& ewc, const FitOptions& options) { return LoraFit(loss, ewc, zero(), options); }
};

TEST_F(LoraFitTest, LearnsWhatTheTeacherKnows) {
  const TokenRecords train = draw(2000, teacher), test = draw(2000, teacher);
  const auto examples = all_of(train), held_out = all_of(test);
  Ewc ewc(zero().size(), 0);
  LoraFit fitted = fit(ewc, unbounded(200));
  const FitReport report = fitted.full_batch({&train, examples}, {});
  const Batch unseen = {&test, held_out};
  std::vector<float> truth(teacher.begin(), teacher.end());
  const double before = loss.nll(unseen, {}), after = loss.nll(unseen, fitted.b()),
               best = loss.nll(unseen, truth);
  std::printf("base %.4f, fitted %.4f, teacher %.4f; %d steps, %s\n", before, after, best, report.n_steps,
              std::string(fit_stop_name(report.stop)).c_str());
  EXPECT_GT(before - after, 0.7 * (before - best));
  EXPECT_DOUBLE_EQ(report.n_tokens, 2000);
  EXPECT_GT(report.update_norm, 0);
}

// The objective falls with each step, and what is reported is what is there.
TEST_F(LoraFitTest, DescendsMonotonically) {
  const TokenRecords train = draw(300, teacher), replay = draw(100, {});
  const auto examples = all_of(train), replayed = all_of(replay);
  Ewc ewc(zero().size(), 1000);
  LoraFit fitted = fit(ewc, unbounded(64));
  const FitReport report = fitted.full_batch({&train, examples}, {&replay, replayed});
  ASSERT_GT(report.n_steps, 3);
  ASSERT_EQ(report.objectives.size(), static_cast<size_t>(report.n_steps) + 1);
  for (size_t i = 1; i < report.objectives.size(); ++i)
    EXPECT_LT(report.objectives[i], report.objectives[i - 1]);
  EXPECT_EQ(report.objectives.back(), report.objective_after);
  const double nll = loss.nll({&train, examples}, fitted.b()), kl = loss.kl({&replay, replayed}, fitted.b());
  EXPECT_DOUBLE_EQ(report.nll_after, nll);
  EXPECT_DOUBLE_EQ(report.kl_after, kl);
  double anchor = 0;
  for (const float value : fitted.b())
    anchor += 0.5 * 64 / 300 * report.kappa * static_cast<double>(value) * static_cast<double>(value);
  EXPECT_NEAR(report.objective_after, nll + 0.1 * kl + anchor, 1e-9);
}

// A model that is sure of what the teacher denies curves little where it stands and much where it must go:
// full steps overshoot, and are halved until the objective falls.
TEST(LoraFitBacktrackingTest, HalvesStepsThatOvershoot) {
  LoraWorld world(200, 16, 5, 62, 8);
  const auto teacher = LoraWorld::doubles(world.adapter(2.0f));
  LoraLoss loss = *LoraLoss::make(world.ctx, *world.head, world.m, world.scale, {});
  TokenRecords train(
      {.n_features = world.m, .n_rows = world.n_rows, .capacity = 200, .top_k = 200, .max_ids = 0});
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(record_token(world, train, draw_token(world, teacher)));
  const auto examples = all_of(train);
  FitOptions options;
  options.n0 = 0.01;
  options.max_update = FitOptions::kNoBound;
  const std::vector<float> zero(world.m * world.d, 0);
  Ewc ewc(zero.size(), 0);
  LoraFit fitted(loss, ewc, zero, options);
  const FitReport report = fitted.full_batch({&train, examples}, {});
  EXPECT_GT(report.n_halvings, 0);
  EXPECT_GT(report.n_steps, 3);
  for (size_t i = 1; i < report.objectives.size(); ++i)
    EXPECT_LT(report.objectives[i], report.objectives[i - 1]);
}

// Hessian <= s^2 R^2 |phi|^2: plain steps of 1 / (s^2 R^2 mean |phi|^2) never ascend.
TEST_F(LoraFitTest, PlainStepsOfTheSmoothnessBoundDescend) {
  const TokenRecords train = draw(200, teacher);
  const auto examples = all_of(train);
  double mean_square = 0;
  for (size_t i = 0; i < train.size(); ++i)
    for (const float value : train[i].features)
      mean_square +=
          static_cast<double>(value) * static_cast<double>(value) / static_cast<double>(train.size());
  const double s = static_cast<double>(world.scale), r = world.head->radius();
  const double step = 1 / (s * s * r * r * mean_square);
  auto b = world.adapter(0.5f);
  std::vector<double> gradient(b.size());
  double before = loss.nll({&train, examples}, b, 1, gradient);
  for (int i = 0; i < 100; ++i) {
    for (size_t j = 0; j < b.size(); ++j) b[j] -= static_cast<float>(step * gradient[j]);
    std::fill(gradient.begin(), gradient.end(), 0);
    const double after = loss.nll({&train, examples}, b, 1, gradient);
    ASSERT_LT(after, before) << i;
    before = after;
  }
}

// Few tokens, many parameters: without the base anchor the held-out NLL gets worse than the base's.
TEST_F(LoraFitTest, TheBaseAnchorKeepsFewTokensFromOverfitting) {
  const TokenRecords train = draw(60, teacher), test = draw(2000, teacher);
  const auto examples = all_of(train), held_out = all_of(test);
  const double base = loss.nll({&test, held_out}, {});
  const auto nll_with = [&](double n0) {
    Ewc ewc(zero().size(), 0);
    auto options = unbounded(n0);
    options.max_steps = 100;
    LoraFit fitted = fit(ewc, options);
    fitted.full_batch({&train, examples}, {});
    return loss.nll({&test, held_out}, fitted.b());
  };
  const double loose = nll_with(0.5), anchored = nll_with(200);
  std::printf("base %.4f, hardly anchored %.4f, anchored %.4f\n", base, loose, anchored);
  EXPECT_GT(loose, base + 0.05);
  EXPECT_LT(anchored, base);
}

TEST_F(LoraFitTest, TheAnchorIsChosenOnTokensNotTrainedOn) {
  const TokenRecords train = draw(120, teacher), validation = draw(1500, teacher);
  const auto examples = all_of(train), unseen = all_of(validation);
  Ewc ewc(zero().size(), 0);
  auto options = unbounded(0);
  const AnchorChoice choice =
      fit_with_best_anchor(loss, ewc, zero(), options, {&train, examples}, {}, {&validation, unseen});
  ASSERT_GE(choice.validation_nll.size(), 2u);
  const auto least = std::min_element(choice.validation_nll.begin(), choice.validation_nll.end());
  EXPECT_EQ(choice.n0, 16 * kAnchorChoices[least - choice.validation_nll.begin()]);
  EXPECT_DOUBLE_EQ(loss.nll({&validation, unseen}, choice.b), *least);
  // Strongest first, and no further than the first that is worse.
  EXPECT_TRUE(std::is_sorted(choice.validation_nll.begin(), least + 1, std::greater<>()));
  EXPECT_GE(least + 2 - choice.validation_nll.begin(), std::ssize(choice.validation_nll));
}

// A bound on |delta| / |h| holds for what was fitted to, and the rest of the gain is found along it.
TEST_F(LoraFitTest, CandidatesStayWithinTheBoundOfDelta) {
  const TokenRecords train = draw(1000, teacher);
  const auto examples = all_of(train);
  const Batch batch = {&train, examples};
  const auto p999 = [&](std::span<const float> b) {
    std::vector<TokenLoss> losses(examples.size());
    loss.each(batch, b, losses);
    std::vector<double> ratios;
    for (size_t i = 0; i < losses.size(); ++i)
      ratios.push_back(losses[i].delta / static_cast<double>(train[i].hidden_norm));
    std::sort(ratios.begin(), ratios.end());
    return ratios[static_cast<size_t>(0.999 * static_cast<double>(ratios.size() - 1))];
  };
  Ewc ewc(zero().size(), 0);
  LoraFit free = fit(ewc, unbounded(50));
  free.full_batch(batch, {});
  const double most = p999(free.b()) / 3;
  auto options = unbounded(50);
  options.max_delta = most;
  LoraFit bounded = fit(ewc, options);
  const FitReport report = bounded.full_batch(batch, {});
  EXPECT_GT(report.n_bounded, 0);
  EXPECT_NEAR(p999(bounded.b()), most, 0.01 * most);
  // No worse than the free one drawn to the same length.
  std::vector<float> drawn(free.b().begin(), free.b().end());
  for (float& value : drawn) value /= 3;
  EXPECT_LE(loss.nll(batch, bounded.b()), loss.nll(batch, drawn) + 1e-4);
  EXPECT_LT(loss.nll(batch, free.b()), loss.nll(batch, bounded.b()));
}

// EWC: after a boundary, lambda decides how much of the first task a second one may undo.
TEST_F(LoraFitTest, LambdaKeepsTheFirstTask) {
  const auto other = LoraWorld::doubles(world.adapter(0.35f));
  const TokenRecords first = draw(1000, teacher), second = draw(1000, other);
  const auto first_examples = all_of(first), second_examples = all_of(second);
  const Batch a = {&first, first_examples}, b = {&second, second_examples};
  std::vector<double> forgotten;
  for (const double lambda : {0.0, 1000.0, 4000.0}) {
    Ewc ewc(zero().size(), lambda);
    LoraFit fitted = fit(ewc, unbounded(50));
    fitted.full_batch(a, {});
    const double before = loss.nll(a, fitted.b());
    ewc.boundary(fitted.b());
    const double second_before = loss.nll(b, fitted.b());
    fitted.full_batch(b, {});
    EXPECT_LT(loss.nll(b, fitted.b()), second_before - 0.02);
    forgotten.push_back(loss.nll(a, fitted.b()) - before);
  }
  std::printf("forgotten: %.4f, %.4f, %.4f nat\n", forgotten[0], forgotten[1], forgotten[2]);
  EXPECT_LT(forgotten[1], 0.7 * forgotten[0]);
  EXPECT_LT(forgotten[2], forgotten[1]);
}

// A fit that ended at the bound of |delta| was in no minimum: what it would forget first is along its slope,
// which curvature alone, of the order of the data's, does not hold.
TEST_F(LoraFitTest, TheSlopeKeepsATaskThatEndedAtTheBound) {
  const auto other = LoraWorld::doubles(world.adapter(0.35f));
  const TokenRecords first = draw(1000, teacher), second = draw(1000, other);
  const auto first_examples = all_of(first), second_examples = all_of(second);
  const Batch a = {&first, first_examples}, b = {&second, second_examples};
  auto options = unbounded(50);
  options.max_delta = 0.1;
  const std::vector<double> none(zero().size(), 0);
  // Lambda 0; 1000 without the slope; 1000.
  std::vector<double> forgotten, gained;
  for (int variant = 0; variant < 3; ++variant) {
    Ewc ewc(zero().size(), variant == 0 ? 0 : 1000);
    LoraFit fitted = fit(ewc, options);
    ASSERT_GT(fitted.full_batch(a, {}).n_bounded, 0);
    std::vector<double> gradient = none;
    loss.nll(a, fitted.b(), 1, gradient);
    const double a_before = loss.nll(a, fitted.b()), b_before = loss.nll(b, fitted.b());
    ewc.boundary(fitted.b(), variant == 2 ? gradient : none);
    const FitReport report = fitted.full_batch(b, {});
    EXPECT_TRUE(std::is_sorted(report.objectives.rbegin(), report.objectives.rend()));
    forgotten.push_back(loss.nll(a, fitted.b()) - a_before);
    gained.push_back(b_before - loss.nll(b, fitted.b()));
  }
  std::printf("forgotten: %.4f, %.4f, %.4f nat; gained: %.4f, %.4f, %.4f\n", forgotten[0], forgotten[1],
              forgotten[2], gained[0], gained[1], gained[2]);
  EXPECT_LT(forgotten[2], 0.5 * forgotten[0]);
  EXPECT_LT(forgotten[2], forgotten[1]);
  EXPECT_GT(gained[2], 0.75 * gained[0]);
}

// A gradient step and a pull, solved at once: e gives the step, a0 and a1 the pull, all elementwise.
TEST(EwcElementwiseTest, IsTheMinimumOfItsOwnModel) {
  std::mt19937 random(8);
  std::uniform_real_distribution<double> positive(0.1, 3);
  std::normal_distribution<float> normal;
  const size_t n = 50;
  Ewc ewc(n, 1000);
  std::vector<double> fisher(n), gradient(n), e(n), a0(n);
  std::vector<float> anchor(n), b(n);
  for (size_t i = 0; i < n; ++i) {
    fisher[i] = positive(random);
    gradient[i] = static_cast<double>(normal(random));
    e[i] = positive(random);
    a0[i] = positive(random);
    anchor[i] = normal(random);
    b[i] = normal(random);
  }
  ewc.observe(fisher);
  ewc.boundary(anchor);
  ewc.observe(fisher);
  const auto a1 = ewc.curvature();
  auto moved = b;
  ewc.proximal_step(moved, gradient, e, a0, a1);
  // argmin g (x - b) + (x - b)^2 / 2e + a0/2 x^2 + a1/2 (x - b*)^2: its derivative is 0 there.
  for (size_t i = 0; i < n; ++i) {
    const auto x = static_cast<double>(moved[i]);
    const double slope = gradient[i] + (x - static_cast<double>(b[i])) / e[i] + a0[i] * x +
                         a1[i] * (x - static_cast<double>(anchor[i]));
    EXPECT_NEAR(slope, 0, 1e-5) << i;
  }
}

TEST_F(LoraFitTest, UpdatesAreBounded) {
  const TokenRecords train = draw(500, teacher);
  const auto examples = all_of(train);
  auto options = unbounded(20);
  options.max_update = 0.005;
  options.max_steps = 1;
  Ewc ewc(zero().size(), 0);
  LoraFit fitted = fit(ewc, options);
  std::vector<double> norms;
  for (size_t i = 0; i < train.size(); ++i) norms.push_back(static_cast<double>(train[i].hidden_norm));
  std::sort(norms.begin(), norms.end());
  auto before = zero();
  for (int step = 0; step < 5; ++step) {
    const FitReport report = fitted.full_batch({&train, examples}, {});
    EXPECT_EQ(report.n_scaled, 1);
    double square = 0;
    for (size_t t = 0; t < train.size(); ++t) {
      for (size_t i = 0; i < world.d; ++i) {
        double change = 0;
        for (size_t j = 0; j < world.m; ++j)
          change += static_cast<double>(world.scale) * static_cast<double>(train[t].features[j]) *
                    (static_cast<double>(fitted.b()[j * world.d + i]) -
                     static_cast<double>(before[j * world.d + i]));
        square += change * change;
      }
    }
    EXPECT_NEAR(std::sqrt(square / 500), 0.005 * norms[250], 1e-5);
    before.assign(fitted.b().begin(), fitted.b().end());
  }
}

TEST_F(LoraFitTest, MicroBatchesLearnAsTheyCome) {
  const size_t n = 40 * kMicroBatch;
  const TokenRecords train = draw(n, teacher), replay = draw(n, {}), test = draw(1000, teacher);
  const auto examples = all_of(train), replayed = all_of(replay), held_out = all_of(test);
  Ewc ewc(zero().size(), 1000);
  auto options = unbounded(100);
  LoraFit fitted = fit(ewc, options);
  double first = 0, last = 0;  // prequential: each batch is scored before it is trained on
  for (size_t begin = 0; begin < n; begin += kMicroBatch) {
    const Batch fresh = {&train, std::span(examples).subspan(begin, kMicroBatch)};
    const double gain = loss.nll(fresh, {}) - loss.nll(fresh, fitted.b());
    (begin < n / 2 ? first : last) += gain;
    const FitReport report =
        fitted.micro_batch(fresh, {&replay, std::span(replayed).subspan(begin, kMicroBatch)}, 2);
    EXPECT_LE(report.n_steps, 2);
    EXPECT_LE(report.objective_after, report.objective_before);
  }
  EXPECT_GT(last, first);
  EXPECT_GT(last, 0);
  EXPECT_DOUBLE_EQ(fitted.n_seen(), static_cast<double>(n));
  EXPECT_LT(loss.nll({&test, held_out}, fitted.b()), loss.nll({&test, held_out}, {}) - 0.05);
}

TEST_F(LoraFitTest, TheKlAnchorHoldsReplayedTokensBack) {
  const TokenRecords train = draw(500, teacher), replay = draw(500, {});
  const auto examples = all_of(train), replayed = all_of(replay);
  std::vector<double> kl;
  for (const double beta : {0.01, 1.0, 10.0}) {
    Ewc ewc(zero().size(), 0);
    auto options = unbounded(20);
    options.beta = beta;
    LoraFit fitted = fit(ewc, options);
    kl.push_back(fitted.full_batch({&train, examples}, {&replay, replayed}).kl_after);
  }
  EXPECT_LT(kl[1], 0.6 * kl[0]);
  EXPECT_LT(kl[2], 0.3 * kl[1]);
}

TEST_F(LoraFitTest, TheSameInputsGiveTheSameBytes) {
  const TokenRecords train = draw(300, teacher), replay = draw(300, {});
  const auto examples = all_of(train), replayed = all_of(replay);
  std::vector<std::vector<float>> results;
  for (const int n_threads : {1, 2, 3}) {
    ThreadPool pool(n_threads);
    LoraLoss own = *LoraLoss::make({&pool, world.ctx.kernels}, *world.head, world.m, world.scale, {});
    Ewc ewc(zero().size(), 1000);
    LoraFit fitted(own, ewc, zero(), unbounded(50));
    fitted.full_batch({&train, examples}, {&replay, replayed});
    results.emplace_back(fitted.b().begin(), fitted.b().end());
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
  EXPECT_NE(results[0], zero());
}

TEST_F(LoraFitTest, NothingToLearnChangesNothing) {
  TokenRecords train = draw(10, teacher);
  Ewc ewc(zero().size(), 0);
  LoraFit fitted = fit(ewc, unbounded(50));
  EXPECT_EQ(fitted.full_batch({&train, {}}, {}).stop, FitStop::kNoData);
  EXPECT_TRUE(std::ranges::equal(fitted.b(), zero()));
  // Fisher 0: every token is certain.
  TokenRecords certain({.n_features = world.m, .n_rows = 200, .capacity = 4, .top_k = 200, .max_ids = 0});
  std::vector<float> logits(200, -1e5f);
  logits[3] = 0;
  ASSERT_TRUE(certain.add(logits, 3, world.features(), 1));
  const auto examples = all_of(certain);
  EXPECT_EQ(fitted.full_batch({&certain, examples}, {}).n_steps, 0);
  EXPECT_TRUE(std::ranges::equal(fitted.b(), zero()));
}

TEST(LoraFitOptionsTest, BetaFollowsTheCanary) {
  EXPECT_DOUBLE_EQ(next_beta(0.1, 0.02), 0.2);
  EXPECT_DOUBLE_EQ(next_beta(0.1, 0.005), 0.1);
  EXPECT_DOUBLE_EQ(next_beta(0.1, 0.001), 0.05);
  EXPECT_DOUBLE_EQ(next_beta(8, 1), 10);
  EXPECT_DOUBLE_EQ(next_beta(0.01, 0), 0.01);
}

TEST(LoraFitOptionsTest, RefusesWhatMakesNoSense) {
  EXPECT_TRUE(FitOptions().validate());
  const auto refused = [](auto change) {
    FitOptions options;
    change(options);
    return !options.validate();
  };
  EXPECT_TRUE(refused([](FitOptions& o) { o.n0 = -1; }));
  EXPECT_TRUE(refused([](FitOptions& o) { o.n0 = NAN; }));
  EXPECT_TRUE(refused([](FitOptions& o) { o.c_bias = 0; }));
  EXPECT_TRUE(refused([](FitOptions& o) { o.beta = INFINITY; }));
  EXPECT_TRUE(refused([](FitOptions& o) { o.max_steps = 0; }));
  EXPECT_TRUE(refused([](FitOptions& o) { o.max_update = NAN; }));
}

TEST(MergeTest, WeighsByWhatEachAdapterKnows) {
  const std::vector<float> a = {1, 1, 1}, b = {3, 3, 3};
  const std::vector<double> fa = {1, 0, 0}, fb = {1, 2, 0};
  const MergePart parts[] = {{a, fa, 300}, {b, fb, 100}};
  EXPECT_EQ(merge_by_fisher(parts), (std::vector<float>{1.5f, 3, 2}));
}

}  // namespace
}  // namespace ruvltra

#include "sona/route_head.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/num.h"

namespace ruvltra {
namespace {

double uniform(uint32_t i, uint32_t purpose) { return philox_uniform(3, i, 0, purpose); }

// `n` tasks of `n_labels` kinds: each kind has words of its own, from place `first` on.
std::vector<HeadExample> kinds(size_t n, size_t n_labels, size_t first, uint32_t purpose) {
  std::vector<HeadExample> out;
  for (uint32_t i = 0; i < n; ++i) {
    HeadExample e;
    e.label = static_cast<uint32_t>(i % n_labels);
    for (uint16_t k = 0; k < 3; ++k) {
      e.x.index.push_back(static_cast<uint16_t>(first + e.label * 4 + k));
      e.x.value.push_back(static_cast<float>(0.3 + 0.4 * uniform(i * 3 + k, purpose)));
    }
    e.x.index.push_back(static_cast<uint16_t>(kRouteDim - 1));
    e.x.value.push_back(1);
    out.push_back(std::move(e));
  }
  return out;
}

SoftmaxHead random_head(size_t n_labels) {
  SoftmaxHead head(n_labels);
  for (size_t i = 0; i < head.weights.size(); ++i) {
    head.weights[i] = static_cast<float>(2 * uniform(static_cast<uint32_t>(i), 9) - 1);
  }
  return head;
}

// The loss written down once more, in f64, from its definition.
double reference_loss(const std::vector<double>& w, size_t n, std::span<const HeadExample> examples) {
  double loss = 0, total = 0;
  for (const HeadExample& e : examples) {
    std::vector<double> z(n, 0);
    for (size_t k = 0; k < e.x.index.size(); ++k) {
      for (size_t a = 0; a < n; ++a) z[a] += w[e.x.index[k] * n + a] * e.x.value[k];
    }
    double sum = 0;
    for (const double v : z) sum += std::exp(v);
    const double p = std::exp(z[e.label]) / sum;
    loss -= e.weight * std::log(e.success ? p : 1 - p);
    total += e.weight;
  }
  return loss / total;
}

TEST(RouteHead, LossAndGradientAgreeWithFiniteDifferences) {
  SoftmaxHead head = random_head(4);
  std::vector<HeadExample> examples = kinds(24, 4, 10, 1);
  for (size_t i = 0; i < examples.size(); ++i) {
    examples[i].success = i % 3 != 0;
    examples[i].weight = 0.2 + 0.1 * static_cast<double>(i % 5);
  }
  std::vector<double> gradient;
  const double loss = head_loss(head, examples, &gradient);
  std::vector<double> w(head.weights.begin(), head.weights.end());
  EXPECT_NEAR(loss, reference_loss(w, 4, examples), 1e-12);
  for (size_t i = 10 * 4; i < 26 * 4; ++i) {
    const double kept = w[i], h = 1e-5;
    w[i] = kept + h;
    const double up = reference_loss(w, 4, examples);
    w[i] = kept - h;
    const double down = reference_loss(w, 4, examples);
    w[i] = kept;
    EXPECT_NEAR(gradient[i], (up - down) / (2 * h), 1e-7) << i;
  }
}

// For successes the Fisher's diagonal is the second derivative of the loss.
TEST(RouteHead, FisherIsTheDiagonalOfTheHessian) {
  const SoftmaxHead head = random_head(3);
  const std::vector<HeadExample> examples = kinds(18, 3, 40, 2);
  const std::vector<double> fisher = head_fisher(head, examples);
  std::vector<double> w(head.weights.begin(), head.weights.end());
  const double middle = reference_loss(w, 3, examples);
  for (size_t i = 40 * 3; i < 52 * 3; ++i) {
    const double kept = w[i], h = 1e-3;
    w[i] = kept + h;
    const double up = reference_loss(w, 3, examples);
    w[i] = kept - h;
    const double down = reference_loss(w, 3, examples);
    w[i] = kept;
    EXPECT_NEAR(fisher[i], (up - 2 * middle + down) / (h * h), 1e-5) << i;
  }
}

TEST(RouteHead, FitNeverRaisesTheObjectiveAndEndsWhereTheGradientIsZero) {
  std::vector<HeadExample> examples = kinds(60, 5, 20, 4);
  SoftmaxHead head(5);
  const double before = head_loss(head, examples);
  EXPECT_NEAR(before, std::log(5.0), 1e-9);
  const Ewc none(head.weights.size(), 0);
  fit_head(head, none, examples, {.max_steps = 3000, .ridge = 1, .tolerance = 1e-12});
  std::vector<double> gradient;
  EXPECT_LT(head_loss(head, examples, &gradient), before);
  for (size_t i = 0; i < gradient.size(); ++i) EXPECT_NEAR(gradient[i] + head.weights[i] / 60, 0, 2e-5) << i;
}

// What the head knew of A after B was learned, and B itself.
struct Forgetting {
  double a_before, a_after, b_after;
  std::vector<float> weights;
};
Forgetting learn_a_then_b(double lambda) {
  const std::vector<HeadExample> a = kinds(120, 4, 0, 5);
  std::vector<HeadExample> b = kinds(120, 4, 8, 6);  // half of its words are A's, with other labels
  const HeadState first = learn_initial_head(4, a, lambda);
  HeadState state = first;
  const auto report = train_head(state, std::span(b).first(90), std::span(b).subspan(90));
  EXPECT_TRUE(report && report->accepted);
  return {head_loss(first.head, a), head_loss(state.head, a), head_loss(state.head, b), state.head.weights};
}

TEST(RouteHead, LambdaChangesTheWeightsAndLessIsForgotten) {
  const Forgetting without = learn_a_then_b(0), with = learn_a_then_b(1000), strong = learn_a_then_b(4000);
  EXPECT_NE(without.weights, with.weights);
  EXPECT_DOUBLE_EQ(without.a_before, with.a_before);
  const double lost = without.a_after - without.a_before;
  EXPECT_GT(lost, 0.1);
  EXPECT_LT(with.a_after - with.a_before, 0.7 * lost);
  EXPECT_LT(strong.a_after, with.a_after);
  EXPECT_GT(with.b_after, without.b_after);
}

TEST(RouteHead, ATrainingThatHarmsHeldOutOutcomesIsNotTaken) {
  const std::vector<HeadExample> known = kinds(80, 4, 0, 7);
  HeadState state = learn_initial_head(4, known, 0);
  std::vector<HeadExample> wrong = known;
  for (HeadExample& e : wrong) e.label = (e.label + 1) % 4;
  const std::vector<float> before = state.head.weights;
  const auto report = train_head(state, wrong, known);
  ASSERT_TRUE(report.has_value());
  EXPECT_FALSE(report->accepted);
  EXPECT_EQ(report->reason, "loss on held-out outcomes got worse");
  EXPECT_EQ(state.head.weights, before);
  EXPECT_EQ(state.n_updates, 0u);
  EXPECT_FALSE(train_head(state, known, {}).value().accepted);
}

TEST(RouteHead, RowsFollowTheirAgentsAndNewOnesHaveNoImportance) {
  const HeadState old = learn_initial_head(3, kinds(30, 3, 0, 8), 1000);
  const HeadState fresh = learn_initial_head(4, kinds(40, 4, 0, 8), 1000);
  const std::vector<size_t> from = {2, kNewLabel, 0, 1};
  const HeadState moved = remap_head(old, from, fresh);
  for (size_t j = 0; j < kRouteDim; ++j) {
    EXPECT_EQ(moved.head.weights[j * 4 + 0], old.head.weights[j * 3 + 2]);
    EXPECT_EQ(moved.head.weights[j * 4 + 1], fresh.head.weights[j * 4 + 1]);
    EXPECT_EQ(moved.ewc.importance()[j * 4 + 2], old.ewc.importance()[j * 3 + 0]);
    EXPECT_EQ(moved.ewc.importance()[j * 4 + 1], 0);
  }
}

}  // namespace
}  // namespace ruvltra

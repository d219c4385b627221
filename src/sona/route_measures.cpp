#include "sona/route_measures.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

namespace ruvltra {
namespace {

constexpr double kComplexityRidge = 3;
constexpr double kOffsetPrior = 4;  // imaginary outcomes that hold an agent's offset at 0
constexpr double kMediumFrom = 0.35, kHighFrom = 0.7;

Eigen::VectorXd dense_of(const RouteFeatures& x) {
  Eigen::VectorXd out = Eigen::VectorXd::Zero(kRouteDim);
  for (size_t k = 0; k < x.index.size(); ++k) out[x.index[k]] = x.value[k];
  return out;
}

double dot(const std::vector<double>& weights, const RouteFeatures& x) {
  double sum = 0;
  for (size_t k = 0; k < x.index.size(); ++k) sum += weights[x.index[k]] * x.value[k];
  return sum;
}

double rank_in(const std::vector<double>& ascending, double value) {
  const auto low = std::lower_bound(ascending.begin(), ascending.end(), value) - ascending.begin();
  const auto high = std::upper_bound(ascending.begin(), ascending.end(), value) - ascending.begin();
  return 0.5 * static_cast<double>(low + high) / static_cast<double>(ascending.size());
}

}  // namespace

int complexity_level(double complexity) {
  return complexity < kMediumFrom ? 0 : complexity < kHighFrom ? 1 : 2;
}

ComplexityModel ComplexityModel::fit(std::span<const Example> examples) {
  ComplexityModel model;
  if (examples.size() < kMinOutcomesToMeasure) return model;
  const auto n = static_cast<Eigen::Index>(examples.size());
  Eigen::MatrixXd x(n, kRouteDim);
  Eigen::VectorXd y(n);
  for (Eigen::Index i = 0; i < n; ++i) {
    x.row(i) = dense_of(examples[static_cast<size_t>(i)].x);
    y[i] = std::log1p(examples[static_cast<size_t>(i)].output_tokens);
  }
  model.mean = y.mean();
  const Eigen::VectorXd centred = y.array() - model.mean;
  Eigen::MatrixXd a = x.transpose() * x;
  a.diagonal().array() += kComplexityRidge;
  const Eigen::LLT<Eigen::MatrixXd> factor(a);
  const Eigen::VectorXd w = factor.solve(x.transpose() * centred);
  // Prediction of each by all others: y - residual / (1 - h), h the diagonal of the hat matrix.
  const Eigen::MatrixXd solved = factor.solve(x.transpose());
  std::vector<double> measured(y.data(), y.data() + n);
  std::vector<double> by_others(static_cast<size_t>(n));
  for (Eigen::Index i = 0; i < n; ++i) {
    const double h = std::min(x.row(i).dot(solved.col(i)), 0.999);
    by_others[static_cast<size_t>(i)] = y[i] - (centred[i] - x.row(i).dot(w)) / (1 - h);
  }
  std::vector<double> sorted = measured;
  std::sort(sorted.begin(), sorted.end());
  model.predictions = by_others;
  std::sort(model.predictions.begin(), model.predictions.end());
  size_t n_right = 0;
  for (size_t i = 0; i < by_others.size(); ++i) {
    n_right += complexity_level(rank_in(model.predictions, by_others[i])) ==
               complexity_level(rank_in(sorted, measured[i]));
  }
  model.tier_accuracy = static_cast<double>(n_right) / static_cast<double>(n);
  model.weights.assign(w.data(), w.data() + w.size());
  return model;
}

std::optional<double> ComplexityModel::rank(const RouteFeatures& x) const {
  if (weights.empty()) return std::nullopt;
  return rank_in(predictions, mean + dot(weights, x));
}

SuccessModel SuccessModel::fit(size_t n_agents, std::span<const Example> examples) {
  SuccessModel model;
  if (examples.size() < kMinOutcomesToMeasure) return model;
  std::vector<HeadExample> rows;
  double total = 0;
  for (const Example& e : examples) {
    // A quality between 0 and 1 counts in part for either side.
    for (const uint32_t label : {0u, 1u}) {
      HeadExample row;
      row.weight = label == 1 ? e.quality : 1 - e.quality;
      if (row.weight <= 0) continue;
      row.x = e.x;
      row.label = label;
      rows.push_back(std::move(row));
    }
    total += e.quality;
  }
  model.head = SoftmaxHead(2);
  // Starts at the mean rate, smoothed by one outcome of each kind, and leaves it slowly.
  const double rate = (total + 1) / (static_cast<double>(examples.size()) + 2);
  model.head.weights[(kRouteDim - 1) * 2 + 1] = static_cast<float>(std::log(rate / (1 - rate)));
  fit_head(model.head, Ewc(model.head.weights.size(), 0), rows, {.ridge = 2});
  model.offsets.assign(n_agents, 0);
  for (size_t a = 0; a < n_agents; ++a) {
    for (int newton = 0; newton < 8; ++newton) {
      double slope = -model.offsets[a], curve = 1;
      for (const Example& e : examples) {
        if (e.agent != a) continue;
        const auto z = model.head.log_probabilities(e.x);
        const double p = 1 / (1 + std::exp(z[0] - z[1] - model.offsets[a]));
        slope += (e.quality - p) / kOffsetPrior;
        curve += p * (1 - p) / kOffsetPrior;
      }
      model.offsets[a] += slope / curve;
    }
  }
  return model;
}

std::optional<double> SuccessModel::probability(const RouteFeatures& x, size_t agent) const {
  if (offsets.empty()) return std::nullopt;
  const auto z = head.log_probabilities(x);
  return 1 / (1 + std::exp(z[0] - z[1] - offsets[agent]));
}

std::vector<double> LinUcb::dense(const RouteFeatures& x) {
  std::vector<double> out(kDim, 0);
  for (size_t k = 0; k < x.index.size(); ++k) {
    const size_t j = x.index[k];
    if (j < kEmbeddingDim) out[j] = x.value[k];
    if (j >= kEmbeddingDim + kLexicalDim) out[j - kLexicalDim] = x.value[k];
  }
  return out;
}

std::vector<double> LinUcb::times(const Arm& arm, std::span<const double> x) {
  if (arm.inverse.empty()) return {x.begin(), x.end()};
  std::vector<double> out(kDim, 0);
  for (size_t i = 0; i < kDim; ++i) {
    double sum = 0;
    for (size_t j = 0; j < kDim; ++j) sum += arm.inverse[i * kDim + j] * x[j];
    out[i] = sum;
  }
  return out;
}

void LinUcb::update(size_t agent, const RouteFeatures& features, double reward) {
  Arm& arm = arms_[agent];
  if (arm.inverse.empty()) {
    arm.inverse.assign(kDim * kDim, 0);
    for (size_t i = 0; i < kDim; ++i) arm.inverse[i * kDim + i] = 1;
    arm.b.assign(kDim, 0);
  }
  const std::vector<double> x = dense(features);
  const std::vector<double> ax = times(arm, x);
  double denominator = 1;
  for (size_t i = 0; i < kDim; ++i) denominator += x[i] * ax[i];
  for (size_t i = 0; i < kDim; ++i) {
    for (size_t j = 0; j < kDim; ++j) arm.inverse[i * kDim + j] -= ax[i] * ax[j] / denominator;
    arm.b[i] += reward * x[i];
  }
}

double LinUcb::score(size_t agent, const RouteFeatures& features) const {
  const Arm& arm = arms_[agent];
  const std::vector<double> x = dense(features);
  const std::vector<double> ax = times(arm, x);
  double mean = 0, spread = 0;
  for (size_t i = 0; i < kDim; ++i) {
    if (!arm.b.empty()) mean += arm.b[i] * ax[i];
    spread += x[i] * ax[i];
  }
  return mean + alpha_ * std::sqrt(std::max(spread, 0.0));
}

}  // namespace ruvltra

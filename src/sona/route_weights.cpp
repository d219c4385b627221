// Fitting what the lanes count and how sure they may be, on outcomes nothing was trained on.
#include <algorithm>
#include <cmath>

#include "sona/route_tenant.h"

namespace ruvltra {
namespace {

constexpr double kScheduleExamples = 3;  // imaginary outcomes that speak for the schedule's weights
constexpr int kWeightSteps = 300;
constexpr size_t kCalibrationBins = 10;
constexpr size_t kMinForTemperature = 200;  // below, a calibration error is mostly chance
constexpr double kLossSlack = 0.01;         // nat that a better calibrated temperature may cost

struct Row {
  const RouteLanesOf* lanes;
  size_t label;
  bool success;
  double weight;
};

std::vector<double> probabilities(const RouteModel& model, const Row& row, const RouteWeights& weights) {
  std::vector<double> p = combine_lanes(model, *row.lanes, weights);
  for (double& v : p) v = std::exp(v);
  return p;
}

double loss_of(const std::vector<double>& p, const Row& row) {
  return -row.weight * std::log(std::max(row.success ? p[row.label] : 1 - p[row.label], 1e-9));
}

// d loss / d alpha of one outcome: the lane's share in the score of the label against the mean.
void add_gradient(const Row& row, const std::vector<double>& p, double temperature,
                  std::array<double, kRouteLanes>& gradient) {
  const double rest = std::max(1 - p[row.label], 1e-9);
  const double factor = row.success ? -row.weight : row.weight * p[row.label] / rest;
  for (size_t lane = 0; lane < kRouteLanes; ++lane) {
    const std::vector<double>& log_p = row.lanes->log_p[lane];
    if (log_p.empty()) continue;
    double mean = 0;
    for (size_t a = 0; a < p.size(); ++a) mean += p[a] * log_p[a];
    double slope = factor * (log_p[row.label] - mean) / temperature;
    if (lane == static_cast<size_t>(RouteLane::kVote)) {
      slope *= row.lanes->vote_mass / (row.lanes->vote_mass + 1);
    }
    gradient[lane] += slope;
  }
}

struct Fit {
  const RouteModel& model;
  std::vector<Row> rows;
  RouteWeights schedule;
  double total = 0;

  double objective(const RouteWeights& weights, std::array<double, kRouteLanes>* gradient) const {
    double loss = 0;
    if (gradient != nullptr) gradient->fill(0);
    for (const Row& row : rows) {
      const std::vector<double> p = probabilities(model, row, weights);
      loss += loss_of(p, row);
      if (gradient != nullptr) add_gradient(row, p, weights.temperature, *gradient);
    }
    for (size_t lane = 0; lane < kRouteLanes; ++lane) {
      const double away = weights.alpha[lane] - schedule.alpha[lane];
      loss += 0.5 * kScheduleExamples * away * away;
      if (gradient != nullptr) (*gradient)[lane] += kScheduleExamples * away;
    }
    return loss;
  }
};

// Expected calibration error over bins of equal mass, and mean log loss.
std::pair<double, double> calibration_of(const Fit& fit, const RouteWeights& weights) {
  std::vector<std::pair<double, double>> sure;  // confidence, hit
  double loss = 0;
  for (const Row& row : fit.rows) {
    const std::vector<double> p = probabilities(fit.model, row, weights);
    loss += loss_of(p, row) / fit.total;
    if (!row.success) continue;
    const size_t best = static_cast<size_t>(std::max_element(p.begin(), p.end()) - p.begin());
    sure.emplace_back(p[best], best == row.label ? 1 : 0);
  }
  std::sort(sure.begin(), sure.end());
  const size_t bins = std::max<size_t>(1, std::min(kCalibrationBins, sure.size() / 10));
  double error = 0;
  for (size_t b = 0; b < bins; ++b) {
    double gap = 0;
    for (size_t i = b * sure.size() / bins; i < (b + 1) * sure.size() / bins; ++i) {
      gap += sure[i].first - sure[i].second;
    }
    error += std::abs(gap) / static_cast<double>(std::max<size_t>(sure.size(), 1));
  }
  return {error, loss};
}

}  // namespace

RouteWeights fit_route_weights(const RouteModel& model, std::span<const RouteLanesOf> lanes,
                               std::span<const RouteExample> examples, std::span<const double> importance,
                               const RouteWeights& schedule) {
  Fit fit{model, {}, schedule};
  for (size_t i = 0; i < examples.size(); ++i) {
    const auto label = model.registry().find(examples[i].agent);
    const double weight = importance[i] * examples[i].weight();
    if (!label || weight <= 0) continue;
    fit.rows.push_back({&lanes[i], *label, examples[i].success(), weight});
    fit.total += weight;
  }
  RouteWeights weights = schedule;
  if (fit.rows.empty()) return weights;
  weights.fitted = true;

  // Projected gradient descent with backtracking; the problem has four unknowns.
  std::array<double, kRouteLanes> gradient;
  double value = fit.objective(weights, &gradient);
  double step = 0.1;
  for (int i = 0; i < kWeightSteps && step > 1e-9; ++i) {
    RouteWeights next = weights;
    for (size_t lane = 0; lane < kRouteLanes; ++lane) {
      next.alpha[lane] = std::max(0.0, weights.alpha[lane] - step * gradient[lane]);
    }
    std::array<double, kRouteLanes> next_gradient;
    const double reached = fit.objective(next, &next_gradient);
    if (!(reached < value)) {
      step *= 0.5;
      continue;
    }
    const bool still = value - reached < 1e-7 * fit.total;
    weights = next, gradient = next_gradient, value = reached;
    step *= 1.5;
    if (still) break;
  }

  // The temperature: the best calibrated one among those that cost next to no log loss.
  const double base = weights.temperature;
  std::vector<std::pair<double, double>> measured;
  std::vector<double> tried;
  double lowest = 1e300;
  for (double factor = 0.4; factor < 2.6; factor *= 1.07) {
    weights.temperature = base * factor;
    tried.push_back(weights.temperature);
    measured.push_back(calibration_of(fit, weights));
    lowest = std::min(lowest, measured.back().second);
  }
  const bool by_loss = fit.rows.size() < kMinForTemperature;
  double best = 1e300;
  for (size_t i = 0; i < tried.size(); ++i) {
    const auto [error, loss] = measured[i];
    if (loss > lowest + kLossSlack) continue;
    const double score = by_loss ? loss : error;
    if (score < best) best = score, weights.temperature = tried[i];
  }
  return weights;
}

}  // namespace ruvltra

#include "sona/lora_fit.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/fail.h"
#include "base/mean.h"

namespace ruvltra {
namespace {

constexpr double kFirstStep = 0.5, kStepGrowth = 1.3, kLargestStep = 1;
constexpr int kMaxHalvings = 6;
constexpr double kFisherFloor = 1e-3;  // of the mean Fisher
// The running Fisher forgets what is older than this; measuring more would change nothing.
constexpr size_t kMaxFisherBatches = 64;
constexpr int kChoiceSteps = 8;  // on the sample, from the last choice on
constexpr double kHighKl = 0.01, kLowKl = 0.003;

bool finite_values(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace

std::string_view fit_stop_name(FitStop stop) {
  switch (stop) {
    case FitStop::kConverged:
      return "converged";
    case FitStop::kMaxSteps:
      return "max_steps";
    case FitStop::kNoDescent:
      return "no_descent";
    case FitStop::kNotFinite:
      return "not_finite";
    case FitStop::kNoData:
      return "no_data";
  }
  return "unknown";
}

Result<void> FitOptions::validate() const {
  const auto positive = [](double value) { return std::isfinite(value) && value > 0; };
  if (!(std::isfinite(n0) && n0 >= 0) || !positive(c_bias) || !positive(c_feature) ||
      !(std::isfinite(beta) && beta >= 0) || max_steps < 1 || !(max_update > 0) || !(max_delta > 0) ||
      !(tolerance >= 0)) {
    return fail(
        ErrorKind::kUsage, "learning.fit_options",
        "fit: expected n0, beta and tolerance of at least 0, c, steps and the bound of updates above 0, "
        "found n0 {}, c {} and {}, beta {}, {} steps, bounds {} and {}, tolerance {}",
        n0, c_bias, c_feature, beta, max_steps, max_update, max_delta, tolerance);
  }
  return {};
}

double next_beta(double beta, double canary_kl) {
  if (canary_kl > kHighKl) beta *= 2;
  if (canary_kl < kLowKl) beta /= 2;
  return std::clamp(beta, kLeastBeta, kMostBeta);
}

LoraFit::LoraFit(LoraLoss& loss, Ewc& ewc, std::vector<float> b, const FitOptions& options)
    : loss_(loss), ewc_(ewc), b_(std::move(b)), options_(options) {
  CHECK(b_.size() == loss.n_parameters() && ewc.size() == loss.n_parameters());
  if (options_.n0 == 0) options_.n0 = kDefaultAnchor * static_cast<double>(loss.d());
}

// Anchors, preconditioner and the measures of a step, from the running Fisher.
void LoraFit::prepare(const Batch& train, const Batch& replay, double n_tokens, double memory) {
  const size_t n = loss_.n_parameters(), d = loss_.d(), m = loss_.n_features();
  n_tokens_ = n_tokens;
  memory_ = memory;
  start_ = b_;
  kappa_ = ewc_.kappa();
  a1_ = ewc_.curvature();
  g1_ = ewc_.slope();
  a0_.resize(n);
  for (size_t j = 0; j < m; ++j) {
    const double c = j + 1 == m ? options_.c_bias : options_.c_feature;
    std::fill_n(a0_.begin() + static_cast<std::ptrdiff_t>(j * d), d, options_.n0 / n_tokens * kappa_ * c);
  }
  precondition_.resize(n);
  ewc_.current(precondition_);
  if (!replay.examples.empty() && options_.beta > 0) {
    // Near the base the KL curves like the Fisher of the replayed tokens.
    std::vector<double> curvature(n);
    const size_t count = std::min(replay.examples.size(), kMicroBatch);
    loss_.fisher({replay.records, replay.examples.first(count)}, b_, curvature);
    for (size_t i = 0; i < n; ++i) precondition_[i] += options_.beta * curvature[i];
  }
  const double floor = kFisherFloor * mean_of(precondition_);
  for (double& value : precondition_) value += floor;

  moments_.assign(m * m, 0);
  std::vector<float> norms;
  for (const Batch& batch : {train, replay}) {
    for (const Example& example : batch.examples) {
      const TokenRecord record = (*batch.records)[example.index];
      norms.push_back(record.hidden_norm);
      for (size_t j = 0; j < m; ++j) {
        for (size_t k = 0; k < m; ++k) {
          moments_[j * m + k] +=
              static_cast<double>(record.features[j]) * static_cast<double>(record.features[k]);
        }
      }
    }
  }
  for (double& value : moments_) value /= static_cast<double>(norms.size());
  const auto middle = norms.begin() + static_cast<std::ptrdiff_t>(norms.size() / 2);
  std::nth_element(norms.begin(), middle, norms.end());
  median_hidden_ = static_cast<double>(*middle);
}

void LoraFit::evaluate(const Batch& train, const Batch& replay, Point& point) {
  const size_t d = loss_.d(), m = loss_.n_features();
  point.gradient.assign(loss_.n_parameters(), 0);
  point.nll = loss_.nll(train, point.b, 1, point.gradient);
  point.kl = 0;
  if (!replay.examples.empty()) {
    const std::span<double> gradient = options_.beta > 0 ? std::span(point.gradient) : std::span<double>();
    point.kl = loss_.kl(replay, point.b, options_.beta, gradient);
  }
  double anchor = 0;
  const std::span<const float> kept = ewc_.anchor();
  for (size_t i = 0; i < m * d; ++i) {
    point.gradient[i] += g1_[i];
    anchor += g1_[i] * (static_cast<double>(point.b[i]) - static_cast<double>(kept[i]));
    const auto value = static_cast<double>(point.b[i]), moved = value - static_cast<double>(start_[i]);
    anchor += 0.5 * (a0_[i] * value * value + memory_ * precondition_[i] * moved * moved);
  }
  point.objective = point.nll + options_.beta * point.kl + anchor + ewc_.penalty(point.b, a1_);
  point.finite = std::isfinite(point.objective) && finite_values(point.b);
}

// A proximal step of size eta_. The pull towards start_ is one more quadratic: its curvature adds to a0, the
// rest of it to the gradient.
void LoraFit::step(const Point& from, std::vector<float>& to) {
  const size_t n = from.b.size();
  e_.resize(n);
  pull_.resize(n);
  slope_.resize(n);
  for (size_t i = 0; i < n; ++i) {
    const double held = memory_ * precondition_[i];
    e_[i] = eta_ / precondition_[i];
    pull_[i] = a0_[i] + held;
    slope_[i] = from.gradient[i] - held * static_cast<double>(start_[i]);
  }
  to = from.b;
  ewc_.proximal_step(to, slope_, e_, pull_, a1_);
}

// Shortens to - from so that the RMS of |change of delta| is at most max_update of the median |h|; true if it
// had to.
bool LoraFit::bound_update(const std::vector<float>& from, std::vector<float>& to) const {
  const size_t d = loss_.d(), m = loss_.n_features();
  const auto scale = static_cast<double>(loss_.scale());
  // mean |s (to - from) phi|^2 = s^2 sum_i change_i' moments change_i
  double square = 0;
  std::vector<double> change(m);
  for (size_t i = 0; i < d; ++i) {
    for (size_t j = 0; j < m; ++j)
      change[j] = static_cast<double>(to[j * d + i]) - static_cast<double>(from[j * d + i]);
    for (size_t j = 0; j < m; ++j) {
      double row = 0;
      for (size_t k = 0; k < m; ++k) row += moments_[j * m + k] * change[k];
      square += change[j] * row;
    }
  }
  const double rms = scale * std::sqrt(std::max(square, 0.0)), most = options_.max_update * median_hidden_;
  if (!(rms > most)) return false;
  const double factor = most / rms;
  for (size_t i = 0; i < to.size(); ++i) {
    const auto start = static_cast<double>(from[i]);
    to[i] = static_cast<float>(start + factor * (static_cast<double>(to[i]) - start));
  }
  return true;
}

// Draws `to` towards zero so that the 99.9th percentile of |s B phi| / |h| is at most max_delta; true if it
// had to. |B phi|^2 = phi' (B'B) phi: m^2 products a token.
bool LoraFit::bound_delta(const Batch& train, const Batch& replay, std::vector<float>& to) const {
  if (!(options_.max_delta < FitOptions::kNoBound)) return false;
  const size_t d = loss_.d(), m = loss_.n_features();
  std::vector<double> gram(m * m);
  for (size_t j = 0; j < m; ++j) {
    for (size_t k = 0; k <= j; ++k) {
      double sum = 0;
      for (size_t i = 0; i < d; ++i)
        sum += static_cast<double>(to[j * d + i]) * static_cast<double>(to[k * d + i]);
      gram[j * m + k] = gram[k * m + j] = sum;
    }
  }
  std::vector<double> ratios;
  for (const Batch& batch : {train, replay}) {
    for (const Example& example : batch.examples) {
      const TokenRecord record = (*batch.records)[example.index];
      double square = 0;
      for (size_t j = 0; j < m; ++j) {
        double row = 0;
        for (size_t k = 0; k < m; ++k) row += gram[j * m + k] * static_cast<double>(record.features[k]);
        square += row * static_cast<double>(record.features[j]);
      }
      ratios.push_back(std::sqrt(std::max(square, 0.0)) / static_cast<double>(record.hidden_norm));
    }
  }
  const auto at =
      ratios.begin() + static_cast<std::ptrdiff_t>(0.999 * static_cast<double>(ratios.size() - 1));
  std::nth_element(ratios.begin(), at, ratios.end());
  const double largest = static_cast<double>(loss_.scale()) * *at;
  if (!(largest > options_.max_delta)) return false;
  const double factor = options_.max_delta / largest;
  for (float& value : to) value = static_cast<float>(factor * static_cast<double>(value));
  return true;
}

FitReport LoraFit::descend(const Batch& train, const Batch& replay, int max_steps) {
  const size_t n = loss_.n_parameters();
  FitReport report;
  report.n_tokens = n_tokens_;
  report.kappa = kappa_;
  report.n0 = options_.n0;
  Point current, trial;
  current.b = b_;
  evaluate(train, replay, current);
  report.objective_before = current.objective;
  report.nll_before = current.nll;
  report.objectives.push_back(current.objective);
  report.stop = current.finite ? FitStop::kMaxSteps : FitStop::kNotFinite;
  while (report.stop == FitStop::kMaxSteps && report.n_steps < max_steps) {
    bool fell = false, scaled = false, bounded = false;
    for (int halving = 0; halving <= kMaxHalvings && !fell; ++halving) {
      if (halving > 0) {
        eta_ /= 2;
        ++report.n_halvings;
      }
      step(current, trial.b);
      scaled = bound_update(current.b, trial.b);
      bounded = bound_delta(train, replay, trial.b);
      evaluate(train, replay, trial);
      fell = trial.finite && trial.objective < current.objective;
    }
    if (!fell) {
      report.stop = trial.finite ? FitStop::kNoDescent : FitStop::kNotFinite;
      break;
    }
    const double gained = current.objective - trial.objective;
    std::swap(current, trial);
    eta_ = std::min(kLargestStep, kStepGrowth * eta_);
    ++report.n_steps;
    report.n_scaled += scaled;
    report.n_bounded += bounded;
    report.objectives.push_back(current.objective);
    if ((!scaled || bounded) && gained < options_.tolerance * std::abs(current.objective))
      report.stop = FitStop::kConverged;
  }
  report.objective_after = current.objective;
  report.nll_after = current.nll;
  report.kl_after = current.kl;
  double square = 0;
  for (size_t i = 0; i < n; ++i) {
    const double moved = static_cast<double>(current.b[i]) - static_cast<double>(b_[i]);
    square += moved * moved;
  }
  report.update_norm = std::sqrt(square);
  // Steps that were kept were finite, whatever came after them.
  b_ = std::move(current.b);
  return report;
}

FitReport LoraFit::full_batch(const Batch& train, const Batch& replay) {
  const size_t n_examples = train.examples.size();
  if (n_examples == 0 || !(train.weight() > 0)) return {};
  ewc_.restart();
  std::vector<double> fisher(loss_.n_parameters());
  const size_t n_batches = std::max<size_t>(1, n_examples / kMicroBatch);
  const size_t n_measured = std::min(n_batches, kMaxFisherBatches);
  for (size_t i = 0; i < n_measured; ++i) {
    const size_t first = i * n_batches / n_measured * kMicroBatch;
    const size_t count = std::min(kMicroBatch, n_examples - first);
    loss_.fisher({train.records, train.examples.subspan(first, count)}, b_, fisher);
    ewc_.observe(fisher);
  }
  eta_ = kFirstStep;
  prepare(train, replay, train.effective_tokens(), 0);
  n_seen_ = train.effective_tokens();
  return descend(train, replay, options_.max_steps);
}

FitReport LoraFit::micro_batch(const Batch& fresh, const Batch& replay, int n_steps) {
  if (fresh.examples.empty() || !(fresh.weight() > 0)) return {};
  std::vector<double> fisher(loss_.n_parameters());
  loss_.fisher(fresh, b_, fisher);
  ewc_.observe(fisher);
  const double before = n_seen_;
  n_seen_ += fresh.effective_tokens();
  prepare(fresh, replay, n_seen_, before / fresh.effective_tokens());
  return descend(fresh, replay, n_steps);
}

AnchorChoice fit_with_best_anchor(LoraLoss& loss, Ewc& ewc, std::span<const float> start,
                                  const FitOptions& options, const Batch& train, const Batch& replay,
                                  const Batch& validation) {
  std::vector<Example> spread;
  if (const size_t n = train.examples.size(); n > kChoiceTokens) {
    for (size_t i = 0; i < kChoiceTokens; ++i) spread.push_back(train.examples[i * n / kChoiceTokens]);
  }
  const Batch sample = spread.empty() ? train : Batch{train.records, spread};
  AnchorChoice best;
  std::vector<float> b(start.begin(), start.end());
  double best_nll = 0;
  for (const double choice : kAnchorChoices) {
    FitOptions own = options;
    own.n0 = choice * static_cast<double>(loss.d());
    if (!spread.empty()) own.max_steps = std::min(own.max_steps, kChoiceSteps);
    LoraFit fit(loss, ewc, b, own);
    FitReport report = fit.full_batch(sample, replay);
    b.assign(fit.b().begin(), fit.b().end());
    const double nll = loss.nll(validation, b);
    best.validation_nll.push_back(nll);
    if (!best.b.empty() && !(nll < best_nll)) break;
    best_nll = nll;
    best.n0 = own.n0;
    best.b = b;
    best.report = std::move(report);
  }
  if (spread.empty()) return best;
  FitOptions own = options;
  own.n0 = best.n0;
  LoraFit fit(loss, ewc, best.b, own);
  best.report = fit.full_batch(train, replay);
  best.b.assign(fit.b().begin(), fit.b().end());
  return best;
}

std::vector<float> merge_by_fisher(std::span<const MergePart> parts) {
  CHECK(!parts.empty());
  const size_t n = parts[0].b.size();
  std::vector<float> merged(n);
  for (const MergePart& part : parts) CHECK(part.b.size() == n && part.fisher.size() == n);
  for (size_t i = 0; i < n; ++i) {
    double sum = 0, weight = 0, plain = 0;
    for (const MergePart& part : parts) {
      const double w = part.fisher[i] * part.n_tokens;
      sum += w * static_cast<double>(part.b[i]);
      weight += w;
      plain += static_cast<double>(part.b[i]);
    }
    merged[i] = static_cast<float>(weight > 0 ? sum / weight : plain / static_cast<double>(parts.size()));
  }
  return merged;
}

}  // namespace ruvltra

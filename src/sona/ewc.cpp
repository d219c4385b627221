#include "sona/ewc.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/mean.h"

namespace ruvltra {
namespace {

constexpr double kFisherMemory = 0.95;

}  // namespace

Ewc::Ewc(size_t n, double lambda) : lambda_(lambda), anchor_(n, 0), total_(n, 0), slope_(n, 0), run_(n, 0) {}

void Ewc::observe(std::span<const double> fisher_batch) {
  CHECK(fisher_batch.size() == run_.size());
  for (size_t i = 0; i < run_.size(); ++i) {
    run_[i] = kFisherMemory * run_[i] + (1 - kFisherMemory) * fisher_batch[i];
  }
  ++n_batches_;
}

void Ewc::restart() {
  std::fill(run_.begin(), run_.end(), 0);
  n_batches_ = 0;
}

void Ewc::boundary(std::span<const float> live) {
  CHECK(live.size() == run_.size());
  // A few batches fill the running average only in part; what they measured counts whole.
  const double filled = n_batches_ == 0 ? 1 : 1 - std::pow(kFisherMemory, n_batches_);
  for (size_t i = 0; i < run_.size(); ++i) total_[i] = kFisherMemory * total_[i] + run_[i] / filled;
  std::copy(live.begin(), live.end(), anchor_.begin());
  restart();
  has_anchor_ = true;
}

void Ewc::boundary(std::span<const float> live, std::span<const double> gradient) {
  CHECK(live.size() == run_.size() && gradient.size() == run_.size());
  for (size_t i = 0; i < slope_.size(); ++i) {
    const double moved = has_anchor_ ? double{live[i]} - double{anchor_[i]} : 0;
    slope_[i] = kFisherMemory * (slope_[i] + total_[i] * moved) + gradient[i];
  }
  boundary(live);
}

double Ewc::kappa() const {
  if (n_batches_ == 0) return 0;
  return mean_of(run_) / (1 - std::pow(kFisherMemory, n_batches_));
}

void Ewc::current(std::span<double> out) const {
  CHECK(out.size() == size());
  const double filled = n_batches_ == 0 ? 1 : 1 - std::pow(kFisherMemory, n_batches_);
  for (size_t i = 0; i < run_.size(); ++i) out[i] = run_[i] / filled;
}

std::vector<double> Ewc::curvature() const {
  std::vector<double> a1(size(), 0);
  const double mean = mean_of(total_);
  if (!has_anchor_ || mean <= 0 || lambda_ <= 0) return a1;
  const double scale = kEwcRho * lambda_ / kEwcLambdaUnit * kappa() / mean;
  for (size_t i = 0; i < a1.size(); ++i) a1[i] = scale * total_[i];
  return a1;
}

std::vector<double> Ewc::slope() const {
  std::vector<double> g1(size(), 0);
  const double mean = mean_of(total_);
  if (!has_anchor_ || mean <= 0 || lambda_ <= 0) return g1;
  const double scale = kEwcSlopeShare * kEwcRho * lambda_ / kEwcLambdaUnit * kappa() / mean;
  for (size_t i = 0; i < g1.size(); ++i) g1[i] = scale * slope_[i];
  return g1;
}

double Ewc::penalty(std::span<const float> parameters, std::span<const double> a1) const {
  double sum = 0;
  for (size_t i = 0; i < a1.size(); ++i) {
    const double away = double{parameters[i]} - double{anchor_[i]};
    sum += 0.5 * a1[i] * away * away;
  }
  return sum;
}

void Ewc::proximal_step(std::span<float> parameters, std::span<const double> gradient, double e, double a0,
                        std::span<const double> a1) const {
  CHECK(parameters.size() == size() && gradient.size() == size() && a1.size() == size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    const double pulled = parameters[i] - e * gradient[i] + e * a1[i] * anchor_[i];
    parameters[i] = static_cast<float>(pulled / (1 + e * (a0 + a1[i])));
  }
}

void Ewc::proximal_step(std::span<float> parameters, std::span<const double> gradient,
                        std::span<const double> e, std::span<const double> a0,
                        std::span<const double> a1) const {
  CHECK(parameters.size() == size() && gradient.size() == size() && e.size() == size() &&
        a0.size() == size() && a1.size() == size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    const double pulled = double{parameters[i]} - e[i] * gradient[i] + e[i] * a1[i] * double{anchor_[i]};
    parameters[i] = static_cast<float>(pulled / (1 + e[i] * (a0[i] + a1[i])));
  }
}

Ewc::State Ewc::state() const { return {anchor_, total_, run_, slope_, n_batches_, has_anchor_}; }

void Ewc::restore(State state) {
  CHECK(state.anchor.size() == size() && state.total.size() == size() && state.run.size() == size());
  CHECK(state.slope.empty() || state.slope.size() == size());
  anchor_ = std::move(state.anchor);
  total_ = std::move(state.total);
  run_ = std::move(state.run);
  slope_ = std::move(state.slope);
  slope_.resize(size(), 0);
  n_batches_ = state.n_batches;
  has_anchor_ = state.has_anchor;
}

PageHinkley::PageHinkley(const Options& options) : options_(options) {
  CHECK(options.most_correlation >= 0 && options.most_correlation < 1);
}

void PageHinkley::restart() {
  n_ = 0;
  mean_ = variance_ = covariance_ = previous_ = sum_ = minimum_ = 0;
}

double PageHinkley::deviation() const {
  const double r = variance_ > 0 ? std::clamp(covariance_ / variance_, 0.0, options_.most_correlation) : 0;
  return std::max(std::sqrt(variance_), options_.min_deviation) * std::sqrt((1 + r) / (1 - r));
}

bool PageHinkley::add(double value) {
  if (n_ == 0) n_suspect_ = 0;
  if (since_alarm_ > 0) ++since_alarm_;
  if (passing_ > 0) {
    if (--passing_ == 0) n_suspect_ = 0;
    previous_ = value - mean_;
    return false;
  }
  ++n_;
  if (n_ > options_.warm_up) {
    const double standard = std::clamp((value - mean_) / deviation(), -options_.clip, options_.clip);
    sum_ += standard - options_.slack;
    ++n_suspect_;
    if (sum_ <= minimum_) {
      minimum_ = sum_;
      n_suspect_ = 0;
    }
    if (sum_ - minimum_ > options_.threshold) {
      const bool again = since_alarm_ > 0 && since_alarm_ <= 4 * options_.cool_down;
      if (options_.cool_down == 0 || again) {
        restart();
      } else {
        sum_ = minimum_ = 0;
        passing_ = options_.cool_down;
      }
      since_alarm_ = again ? 0 : 1;
      return true;
    }
    if (suspect()) {
      previous_ = value - mean_;
      return false;
    }
  }
  // Plain averages first, exponential ones once there are enough.
  const double rate = std::max(1 / static_cast<double>(n_), 1 - options_.memory);
  const double away = value - mean_;
  mean_ += rate * away;
  variance_ = (1 - rate) * (variance_ + rate * away * away);
  const double now = value - mean_;
  covariance_ = (1 - rate) * covariance_ + rate * previous_ * now;
  previous_ = now;
  return false;
}

}  // namespace ruvltra

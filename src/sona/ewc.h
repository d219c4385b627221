// EWC++: keeping what was learned before while learning something new. Generic over a flat vector of
// parameters; adapters and the router's head use it alike.
//
// Elastic weight consolidation (Kirkpatrick et al. 2017) with one running anchor (online EWC; Chaudhry et al.
// 2018). The penalty is part of every step, as a proximal step that is stable for any lambda. It stands for
// the loss of the tasks before, expanded at B*:
//
//   rho kappa / mean(F*) (kEwcSlopeShare G* (B - B*) + 1/2 F* (B - B*)^2)
//
// EWC takes B* for a minimum, where the slope G* is 0. A fit that a bound ended is not in one: there the
// slope says most of what is forgotten, and is kept as well.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ruvltra {

// Examples of one micro-batch that a Fisher is measured on.
inline constexpr size_t kFisherBatch = 64;
// rho = kEwcRho x lambda / kEwcLambdaUnit: lambda 1000 lets the anchor curve 1.5 times as much as new data.
inline constexpr double kEwcRho = 1.5;
// The anchor's slope weighs half as much as its curvature: it pulls at every step, curvature only as far as
// the parameters have moved. Two tasks whose gradients are of one length, within a bound on the parameters:
// the second then counts as 1 and the first as 0.75, which keeps more than half of what would be forgotten
// for less than a quarter of the gain, at any angle between them up to 100 degrees.
inline constexpr double kEwcSlopeShare = 0.5;
inline constexpr double kEwcLambdaUnit = 1000;

// *Thread safety*: none. Invariants: 1. All vectors have n values. 2. Importance is 0 everywhere before the
// first boundary, and has mean 1 after it unless every Fisher seen was 0.
class Ewc {
 public:
  Ewc() = default;
  Ewc(size_t n, double lambda);

  size_t size() const { return run_.size(); }
  double lambda() const { return lambda_; }
  void set_lambda(double lambda) { lambda_ = lambda; }

  // F_run <- 0.95 F_run + 0.05 F_batch, with the diagonal Fisher of a micro-batch: means of per-example
  // values, never the square of a mean.
  void observe(std::span<const double> fisher_batch);
  // Forgets F_run, to measure the current data from the start.
  void restart();
  // F* <- 0.95 F* + F_run, B* <- live; F_run begins anew.
  void boundary(std::span<const float> live);
  // The same where the fit to the tasks so far did not end in a minimum (it was bounded, or stopped early):
  // `gradient` is that of their mean NLL at `live`, and is kept as the first-order term of the anchor,
  // G* <- 0.95 (G* + F* (live - B*)) + gradient.
  void boundary(std::span<const float> live, std::span<const double> gradient);
  bool has_anchor() const { return has_anchor_; }

  // kappa: mean Fisher of the current data, corrected for the short run of its average. 0 before the first
  // batch.
  double kappa() const;
  // The Fisher that kappa() is the mean of. *Requires*: out has size() values.
  void current(std::span<double> out) const;
  // a1 = rho kappa F*/mean(F*): the curvature the anchor adds, per parameter.
  std::vector<double> curvature() const;
  // g1 = kEwcSlopeShare rho kappa G*/mean(F*): the slope the anchor adds at B*, per parameter.
  std::vector<double> slope() const;
  // Sum of a1/2 (B - B*)^2.
  double penalty(std::span<const float> parameters, std::span<const double> a1) const;
  // B <- (B - e g + e a1 B*) / (1 + e (a0 + a1)), elementwise. a0: curvature of a pull towards 0.
  void proximal_step(std::span<float> parameters, std::span<const double> gradient, double e, double a0,
                     std::span<const double> a1) const;
  // The same with a step size and a pull of its own for each parameter.
  void proximal_step(std::span<float> parameters, std::span<const double> gradient, std::span<const double> e,
                     std::span<const double> a0, std::span<const double> a1) const;

  std::span<const float> anchor() const { return anchor_; }
  std::span<const double> importance() const { return total_; }  // F*, unnormalised

  // State, for keeping it and for rows that come and go. An empty slope is one of zeros.
  struct State {
    std::vector<float> anchor;
    std::vector<double> total, run, slope;
    uint32_t n_batches = 0;
    bool has_anchor = false;
  };
  State state() const;
  // *Requires*: every vector but an empty slope has size() values.
  void restore(State state);

 private:
  double lambda_ = 0;
  std::vector<float> anchor_;  // B*
  std::vector<double> total_;  // F*
  std::vector<double> slope_;  // G*
  std::vector<double> run_;    // F_run
  uint32_t n_batches_ = 0;
  bool has_anchor_ = false;
};

// Page-Hinkley: has the mean of a series risen? Values are standardised by their running mean and deviation,
// which stand still while a rise is suspected.
//
// *Thread safety*: none.
class PageHinkley {
 public:
  struct Options {
    double slack = 0.5;    // deviations above the mean that are no rise
    double threshold = 8;  // alarm if the sum stands so far above its minimum
    double memory = 0.99;  // of the running mean and variance
    size_t warm_up = 16;   // values that only set the mean
    double min_deviation = 0.05;
    double clip = 6;       // one value counts at most so many deviations
    size_t cool_down = 0;  // values after an alarm that are passed over
    // Below 1. Values that follow one another may be alike: with a correlation r of neighbours, measured and
    // taken as at most this, sums of values vary as if each varied (1 + r) / (1 - r) times as much (an AR(1)
    // process).
    double most_correlation = 0;
  };
  PageHinkley() : PageHinkley(Options{}) {}
  explicit PageHinkley(const Options& options);

  // True: alarm. Without a cool-down it starts anew with the next value. With one, what came before stays the
  // measure: after a false alarm the next rise is not taken for normal. A second alarm soon after is a new
  // level, and it starts anew.
  bool add(double value);
  // Values since the sum last stood at its minimum: where a rise began, if there is one.
  size_t n_suspect() const { return n_suspect_; }
  bool suspect() const { return sum_ - minimum_ > options_.threshold / 4; }

 private:
  void restart();
  double deviation() const;
  Options options_;
  size_t n_ = 0;
  size_t passing_ = 0;      // values left of the cool-down
  size_t since_alarm_ = 0;  // values; 0: there was none
  double mean_ = 0, variance_ = 0;
  double covariance_ = 0;  // of neighbours
  double previous_ = 0;    // the last value less the mean then
  double sum_ = 0, minimum_ = 0;
  size_t n_suspect_ = 0;
};

}  // namespace ruvltra

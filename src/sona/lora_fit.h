// Fitting B: diagonal-Fisher preconditioned proximal steps on the convex objective
//
//   mean NLL(new) + beta mean KL(p_base || p_B)(replay)
//     + sum_j a0_j/2 |B_:j|^2 + sum_ij g1_ij (B - B*)_ij + a1_ij/2 (B - B*)_ij^2
//
// with the base anchor a0_j = (n0 / N) kappa c_j and EWC's g1 and a1 (sona/ewc.h), kappa = mean(F). Without
// the base anchor few tokens and many parameters overfit violently: it is not optional. There is no learning
// rate; the objective falls with every step that is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"
#include "sona/ewc.h"
#include "sona/lora_gradient.h"

namespace ruvltra {

// Tokens of a micro-batch; replay comes in batches of the same size.
inline constexpr size_t kMicroBatch = kFisherBatch;
// Default strength of the base anchor, and what may be picked from, in units of d tokens.
inline constexpr double kDefaultAnchor = 8;
inline constexpr double kAnchorChoices[] = {256, 64, 16, 4, 1};  // strongest first

struct FitOptions {
  static constexpr double kNoBound = std::numeric_limits<double>::infinity();
  double n0 = 0;                      // tokens the base anchor counts as; 0: kDefaultAnchor x d
  double c_bias = 1, c_feature = 10;  // c_j of the column of the constant and of the others
  double beta = 0.1;                  // of the KL anchor
  int max_steps = 32;
  // RMS over the batch of |change of delta| per update, relative to the median |h|.
  double max_update = 0.005;
  // 99.9th percentile of |delta| / |h| over the batch, of the candidate itself: steps end where it is
  // reached, and go on along it while the objective falls.
  double max_delta = kNoBound;
  // Stops where a step gains less than this share of the objective.
  double tolerance = 1e-6;
  // Errors (usage): learning.fit_options.
  Result<void> validate() const;
};

enum class FitStop : uint8_t { kConverged, kMaxSteps, kNoDescent, kNotFinite, kNoData };
std::string_view fit_stop_name(FitStop stop);

struct FitReport {
  FitStop stop = FitStop::kNoData;
  int n_steps = 0, n_halvings = 0;
  int n_scaled = 0;     // updates cut to max_update
  int n_bounded = 0;    // candidates cut to max_delta
  double n_tokens = 0;  // N
  double kappa = 0, n0 = 0;
  double objective_before = 0, objective_after = 0;
  double nll_before = 0, nll_after = 0;
  double kl_after = 0;             // on replay
  double update_norm = 0;          // |B after - B before|
  std::vector<double> objectives;  // before, and after each step
};

// beta of the next update: doubled where canary KL is above 0.01, halved below 0.003, within these bounds.
inline constexpr double kLeastBeta = 0.01, kMostBeta = 10;
double next_beta(double beta, double canary_kl);

// A candidate on its way. The same inputs give the same bytes.
//
// *Thread safety*: none.
class LoraFit {
 public:
  // `loss` and `ewc` are borrowed; ewc has m d parameters. b: where to start, (m, d).
  LoraFit(LoraLoss& loss, Ewc& ewc, std::vector<float> b, const FitOptions& options);

  std::span<const float> b() const { return b_; }
  const FitOptions& options() const { return options_; }
  void set_beta(double beta) { options_.beta = beta; }

  // Fits to all of `train`, with as much replay as the caller sees fit (it may be empty). The Fisher is
  // measured anew, in micro-batches spread over `train`. A candidate that is not finite stays as it was.
  FitReport full_batch(const Batch& train, const Batch& replay);

  // n_steps steps on a micro-batch of n tokens. Its Fisher joins the running one, and N counts all tokens
  // since the start. Those before, N_before, are remembered as what they made certain: the objective gets
  //   (N_before / n) / 2 sum_ij F_ij (B - B_start)^2_ij,
  // the recursive form of the posterior (Opper 1998; Ritter, Botev, Barber 2018). Without it each batch would
  // be fitted for itself, with more parameters than tokens, and the last one would win.
  FitReport micro_batch(const Batch& fresh, const Batch& replay, int n_steps);

  double n_seen() const { return n_seen_; }
  void set_n_seen(double n_tokens) { n_seen_ = n_tokens; }

 private:
  struct Point {
    std::vector<float> b;
    std::vector<double> gradient;
    double objective = 0, nll = 0, kl = 0;
    bool finite = false;
  };
  void prepare(const Batch& train, const Batch& replay, double n_tokens, double memory);
  void step(const Point& from, std::vector<float>& to);
  void evaluate(const Batch& train, const Batch& replay, Point& point);
  bool bound_update(const std::vector<float>& from, std::vector<float>& to) const;
  bool bound_delta(const Batch& train, const Batch& replay, std::vector<float>& to) const;
  FitReport descend(const Batch& train, const Batch& replay, int max_steps);

  LoraLoss& loss_;
  Ewc& ewc_;
  std::vector<float> b_;
  FitOptions options_;
  double n_seen_ = 0;
  double eta_ = 0.5;
  // Of the objective at hand.
  std::vector<double> a0_, a1_, g1_;  // (m, d)
  double memory_ = 0;                 // N_before / n: pull towards start_, in units of precondition_
  std::vector<float> start_;
  std::vector<double> precondition_;      // (m, d) F + 1e-3 mean F
  std::vector<double> moments_;           // (m, m) mean of phi phi'
  std::vector<double> e_, pull_, slope_;  // scratch of step()
  double median_hidden_ = 0, n_tokens_ = 0, kappa_ = 0;
};

// Which n0 of d x kAnchorChoices predicts `validation` best: fits each to `train`, from the strongest anchor
// on, each from where the last one ended, until one predicts worse. Of many tokens kChoiceTokens, spread
// evenly, make the choice (a prior weighs so many tokens whatever comes after it); the fit to all of them
// follows. `validation` must be neither trained on nor the evidence of gate G1.
inline constexpr size_t kChoiceTokens = 2048;
struct AnchorChoice {
  double n0 = 0;
  std::vector<float> b;
  std::vector<double> validation_nll;  // of each choice that was tried
  FitReport report;                    // of the one chosen
};
AnchorChoice fit_with_best_anchor(LoraLoss& loss, Ewc& ewc, std::span<const float> start,
                                  const FitOptions& options, const Batch& train, const Batch& replay,
                                  const Batch& validation);

// Merges adapters of one basis, each with its Fisher (unnormalised) and the tokens it was fitted to (Matena,
// Raffel 2021): theta = sum F_k n_k theta_k / sum F_k n_k elementwise; the plain mean where nothing is known.
struct MergePart {
  std::span<const float> b;
  std::span<const double> fisher;
  double n_tokens = 0;
};
std::vector<float> merge_by_fisher(std::span<const MergePart> parts);

}  // namespace ruvltra

// What else the router learns from outcomes: how much work a task is, whether it will succeed, and what to
// try where it does not know. Each says nothing until it has enough to say it from.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "sona/route_features.h"
#include "sona/route_head.h"

namespace ruvltra {

inline constexpr size_t kMinOutcomesToMeasure = 50;

// Size of the work: ridge regression on log(1 + output tokens), told as the rank among what was measured.
struct ComplexityModel {
  struct Example {
    RouteFeatures x;
    uint32_t output_tokens = 0;
  };
  std::vector<double> weights;      // (kRouteDim); empty: untrained
  std::vector<double> predictions;  // of the examples, each made by all others; ascending
  double mean = 0;
  double tier_accuracy = 0;  // share of the examples whose tier the others' prediction names rightly

  // Untrained below kMinOutcomesToMeasure examples.
  static ComplexityModel fit(std::span<const Example> examples);
  // 0..1: the share of predictions that are lower. None if untrained.
  std::optional<double> rank(const RouteFeatures& x) const;
};

// Low below 0.35, medium below 0.7, high from there: 0, 1, 2.
int complexity_level(double complexity);

// P(success | agent, task): logistic regression on the task with an offset per agent.
struct SuccessModel {
  struct Example {
    RouteFeatures x;
    uint32_t agent = 0;
    double quality = 0;
  };
  SoftmaxHead head;             // label 0: failure, 1: success
  std::vector<double> offsets;  // (n_agents); empty: untrained

  static SuccessModel fit(size_t n_agents, std::span<const Example> examples);
  std::optional<double> probability(const RouteFeatures& x, size_t agent) const;
};

// LinUCB (Li et al., arXiv 1003.0146), disjoint: per agent theta^T x + alpha sqrt(x^T A^-1 x), over
// embedding, surface and 1. Its choice is deterministic: what it picks has propensity 1.
//
// *Thread safety*: none.
class LinUcb {
 public:
  static constexpr size_t kDim = kEmbeddingDim + kSurfaceDim + 1;
  explicit LinUcb(size_t n_agents, double alpha = 0.5) : alpha_(alpha), arms_(n_agents) {}
  // Sherman-Morrison.
  void update(size_t agent, const RouteFeatures& x, double reward);
  double score(size_t agent, const RouteFeatures& x) const;

 private:
  struct Arm {
    std::vector<double> inverse;  // (kDim, kDim); empty: the unit matrix, nothing seen yet
    std::vector<double> b;
  };
  static std::vector<double> dense(const RouteFeatures& x);
  static std::vector<double> times(const Arm& arm, std::span<const double> x);
  double alpha_;
  std::vector<Arm> arms_;
};

}  // namespace ruvltra

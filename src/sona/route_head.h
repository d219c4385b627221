// The router's learned head: multinomial logistic regression over RouteFeatures, kept from forgetting by
// EWC++ (ewc.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ruvltra/routing.h"
#include "sona/ewc.h"
#include "sona/route_features.h"

namespace ruvltra {

// What is known of one task. Success: the label is right, loss -log p(label). Failure: it is not, loss
// -log(1 - p(label)).
struct HeadExample {
  RouteFeatures x;
  uint32_t label = 0;
  bool success = true;
  double weight = 1;  // |2q - 1|, times what age takes off
};

// Weights are feature-major: those of feature j for all labels stand together. (kRouteDim, n_labels)
struct SoftmaxHead {
  size_t n_labels = 0;
  std::vector<float> weights;

  SoftmaxHead() = default;
  explicit SoftmaxHead(size_t n) : n_labels(n), weights(kRouteDim * n, 0) {}
  std::vector<double> log_probabilities(const RouteFeatures& x) const;  // (n_labels)
};

// Weighted mean loss; 0 for no examples. With `gradient` (same shape as the weights), that too. Sums in f64
// in the order of the examples.
double head_loss(const SoftmaxHead& head, std::span<const HeadExample> examples,
                 std::vector<double>* gradient = nullptr);

// The exact diagonal Fisher of softmax regression, E[p_a (1 - p_a) x_j^2] over the examples: per-example
// squares, weighted. Same shape as the weights.
std::vector<double> head_fisher(const SoftmaxHead& head, std::span<const HeadExample> examples);

struct HeadFitOptions {
  int max_steps = 150;
  double ridge = 0.5;       // pull towards 0, as if of so many examples of curvature 1
  double tolerance = 1e-6;  // relative fall of the objective at which it ends
};

// Minimises head_loss + penalties by accelerated proximal steps with backtracking; the objective never rises.
// Deterministic.
void fit_head(SoftmaxHead& head, const Ewc& ewc, std::span<const HeadExample> examples,
              const HeadFitOptions& options = {});

// A head with its memory of what came before.
struct HeadState {
  SoftmaxHead head;
  Ewc ewc;
  uint64_t n_updates = 0;  // accepted ones
  size_t n_outcomes = 0;   // it was last trained on
};

// Learns labelled texts from nothing and anchors there: what a router starts from.
HeadState learn_initial_head(size_t n_labels, std::span<const HeadExample> examples, double ewc_lambda);

// Fits to `train` from the live weights, with the anchor's pull, and goes live only if the loss on `heldout`
// (never trained on) does not get worse; the whole way is tried first, then 1/2, 1/4 and 1/8 of it. A state
// that is not accepted is unchanged, but for the Fisher of the current data.
// Errors: learning.not_finite.
Result<HeadReport> train_head(HeadState& state, std::span<const HeadExample> train,
                              std::span<const HeadExample> heldout, const HeadFitOptions& options = {});

// The anchor moves to the live weights, with what the current data says of their importance.
void head_boundary(HeadState& state);

// The same head for another list of labels: from[i] is the old place of new label i, or npos for one that is
// new; that gets its row of `fresh` and no importance.
HeadState remap_head(const HeadState& state, std::span<const size_t> from, const HeadState& fresh);
inline constexpr size_t kNewLabel = static_cast<size_t>(-1);

}  // namespace ruvltra

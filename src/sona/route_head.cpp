#include "sona/route_head.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/fail.h"

namespace ruvltra {
namespace {

constexpr double kSmallest = 1e-9;
constexpr size_t kMinHeldout = 2;

void logits_of(const SoftmaxHead& head, const RouteFeatures& x, std::vector<double>& out) {
  const size_t n = head.n_labels;
  out.assign(n, 0);
  for (size_t k = 0; k < x.index.size(); ++k) {
    const float* row = head.weights.data() + size_t{x.index[k]} * n;
    const double value = x.value[k];
    for (size_t a = 0; a < n; ++a) out[a] += value * row[a];
  }
}

double total_weight(std::span<const HeadExample> examples) {
  double sum = 0;
  for (const HeadExample& e : examples) sum += e.weight;
  return sum;
}

// Of a fit: what is minimised, at a point.
struct Objective {
  const Ewc& ewc;
  std::span<const HeadExample> examples;
  double a0;
  std::vector<double> a1;

  double penalties(std::span<const float> weights) const {
    double sum = 0;
    for (const float w : weights) sum += double{w} * w;
    return 0.5 * a0 * sum + (a1.empty() ? 0 : ewc.penalty(weights, a1));
  }
};

double dot_difference(std::span<const double> g, std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < g.size(); ++i) sum += g[i] * (double{a[i]} - double{b[i]});
  return sum;
}

double squared_distance(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = double{a[i]} - double{b[i]};
    sum += d * d;
  }
  return sum;
}

void measure_fisher(HeadState& state, std::span<const HeadExample> examples) {
  state.ewc.restart();
  for (size_t first = 0; first < examples.size(); first += kFisherBatch) {
    const size_t n = std::min(kFisherBatch, examples.size() - first);
    state.ewc.observe(head_fisher(state.head, examples.subspan(first, n)));
  }
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace

std::vector<double> SoftmaxHead::log_probabilities(const RouteFeatures& x) const {
  std::vector<double> values;
  logits_of(*this, x, values);
  log_softmax(values);
  return values;
}

double head_loss(const SoftmaxHead& head, std::span<const HeadExample> examples,
                 std::vector<double>* gradient) {
  const size_t n = head.n_labels;
  if (gradient != nullptr) gradient->assign(head.weights.size(), 0);
  const double total = total_weight(examples);
  if (total <= 0) return 0;
  double loss = 0;
  std::vector<double> p;
  for (const HeadExample& e : examples) {
    logits_of(head, e.x, p);
    log_softmax(p);
    const double log_p = p[e.label];
    for (double& v : p) v = std::exp(v);
    const double share = e.weight / total;
    const double rest = std::max(1 - p[e.label], kSmallest);
    loss -= share * (e.success ? log_p : std::log(rest));
    if (gradient == nullptr) continue;
    // d loss / d logit: p - y after a success, p_a / (1 - p_a) (y - p) after a failure.
    const double factor = e.success ? share : -share * p[e.label] / rest;
    p[e.label] -= 1;
    for (double& v : p) v *= factor;
    for (size_t k = 0; k < e.x.index.size(); ++k) {
      double* row = gradient->data() + size_t{e.x.index[k]} * n;
      const double value = e.x.value[k];
      for (size_t a = 0; a < n; ++a) row[a] += value * p[a];
    }
  }
  return loss;
}

std::vector<double> head_fisher(const SoftmaxHead& head, std::span<const HeadExample> examples) {
  const size_t n = head.n_labels;
  std::vector<double> fisher(head.weights.size(), 0);
  const double total = total_weight(examples);
  if (total <= 0) return fisher;
  std::vector<double> p;
  for (const HeadExample& e : examples) {
    logits_of(head, e.x, p);
    log_softmax(p);
    for (double& v : p) v = std::exp(v) * (1 - std::exp(v)) * e.weight / total;
    for (size_t k = 0; k < e.x.index.size(); ++k) {
      double* row = fisher.data() + size_t{e.x.index[k]} * n;
      const double square = double{e.x.value[k]} * e.x.value[k];
      for (size_t a = 0; a < n; ++a) row[a] += square * p[a];
    }
  }
  return fisher;
}

void fit_head(SoftmaxHead& head, const Ewc& ewc, std::span<const HeadExample> examples,
              const HeadFitOptions& options) {
  const double total = total_weight(examples);
  if (total <= 0) return;
  Objective objective{ewc, examples, options.ridge / std::max(total, 1.0), ewc.curvature()};
  std::vector<float>& w = head.weights;
  std::vector<float> previous = w;
  SoftmaxHead probe = head;  // where the gradient is taken
  SoftmaxHead next = head;
  std::vector<double> gradient;
  double value = head_loss(head, examples) + objective.penalties(w);
  double e = 4;         // step
  double momentum = 1;  // t of Nesterov's sequence
  for (int step = 0; step < options.max_steps; ++step) {
    const double grown = (1 + std::sqrt(1 + 4 * momentum * momentum)) / 2;
    const auto beta = static_cast<float>((momentum - 1) / grown);
    for (size_t i = 0; i < w.size(); ++i) probe.weights[i] = w[i] + beta * (w[i] - previous[i]);
    const double at_probe = head_loss(probe, examples, &gradient);
    e *= 1.5;
    double loss = 0;
    for (int shrink = 0; shrink < 40; ++shrink, e *= 0.5) {
      next.weights = probe.weights;
      ewc.proximal_step(next.weights, gradient, e, objective.a0, objective.a1);
      loss = head_loss(next, examples);
      const double bound = at_probe + dot_difference(gradient, next.weights, probe.weights) +
                           squared_distance(next.weights, probe.weights) / (2 * e);
      if (loss <= bound + 1e-9) break;
    }
    const double reached = loss + objective.penalties(next.weights);
    if (!(reached <= value)) {
      if (momentum == 1) break;  // a plain step from w brings nothing either
      momentum = 1;
      previous = w;
      continue;
    }
    const double fall = value - reached;
    previous.swap(w);
    w = next.weights;
    momentum = grown;
    value = reached;
    if (fall < options.tolerance * std::max(value, 1e-3)) break;
  }
}

HeadState learn_initial_head(size_t n_labels, std::span<const HeadExample> examples, double ewc_lambda) {
  HeadState state;
  state.head = SoftmaxHead(n_labels);
  state.ewc = Ewc(state.head.weights.size(), ewc_lambda);
  fit_head(state.head, state.ewc, examples);
  measure_fisher(state, examples);
  state.ewc.boundary(state.head.weights);
  return state;
}

Result<HeadReport> train_head(HeadState& state, std::span<const HeadExample> train,
                              std::span<const HeadExample> heldout, const HeadFitOptions& options) {
  HeadReport report;
  report.n_outcomes = train.size();
  report.n_heldout = heldout.size();
  report.loss_before = report.loss_after = head_loss(state.head, train);
  report.heldout_before = report.heldout_after = head_loss(state.head, heldout);
  measure_fisher(state, train);
  if (total_weight(train) <= 0) {
    report.reason = "no outcomes to learn from";
    return report;
  }
  if (heldout.size() < kMinHeldout) {
    report.reason = "too few outcomes held out to judge by";
    return report;
  }
  SoftmaxHead candidate = state.head;
  fit_head(candidate, state.ewc, train, options);
  if (!all_finite(candidate.weights)) {
    return fail("learning.not_finite", "router head: training gave weights that are not finite");
  }
  for (const float part : {1.0f, 0.5f, 0.25f, 0.125f}) {
    SoftmaxHead tried = state.head;
    for (size_t i = 0; i < tried.weights.size(); ++i) {
      tried.weights[i] += part * (candidate.weights[i] - tried.weights[i]);
    }
    const double heldout_loss = head_loss(tried, heldout);
    if (!(heldout_loss <= report.heldout_before)) continue;
    report.accepted = true;
    report.heldout_after = heldout_loss;
    report.loss_after = head_loss(tried, train);
    report.weight_change = std::sqrt(squared_distance(tried.weights, state.head.weights));
    state.head = std::move(tried);
    ++state.n_updates;
    state.n_outcomes = train.size();
    return report;
  }
  report.reason = "loss on held-out outcomes got worse";
  return report;
}

void head_boundary(HeadState& state) { state.ewc.boundary(state.head.weights); }

HeadState remap_head(const HeadState& state, std::span<const size_t> from, const HeadState& fresh) {
  const size_t n = from.size(), n_old = state.head.n_labels;
  CHECK(fresh.head.n_labels == n);
  HeadState out = fresh;
  out.n_updates = state.n_updates;
  out.n_outcomes = state.n_outcomes;
  out.ewc = Ewc(out.head.weights.size(), state.ewc.lambda());
  const Ewc::State old = state.ewc.state();
  Ewc::State next = out.ewc.state();
  next.anchor = fresh.head.weights;
  next.has_anchor = old.has_anchor;
  next.n_batches = old.n_batches;
  for (size_t j = 0; j < kRouteDim; ++j) {
    for (size_t a = 0; a < n; ++a) {
      if (from[a] == kNewLabel) continue;
      const size_t to = j * n + a, source = j * n_old + from[a];
      out.head.weights[to] = state.head.weights[source];
      next.anchor[to] = old.anchor[source];
      next.total[to] = old.total[source];
      next.run[to] = old.run[source];
    }
  }
  out.ewc.restore(std::move(next));
  return out;
}

}  // namespace ruvltra

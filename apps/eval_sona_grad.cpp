// `eval sona-grad`: are gradient, Fisher information, bounds and steps of MicroLoRA what their formulas say?
// Everything is compared with the full softmax in double precision, at hidden states of a real model.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <random>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "console.h"
#include "experiments.h"
#include "lora_contexts.h"
#include "lora_options.h"
#include "sona/lora_fit.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr double kMaxDifferenceError = 1e-4;  // formulas against central differences, both in double
constexpr double kMaxSingleError = 1e-2;      // the learner's arithmetic against the formulas
constexpr size_t kTokens = 64;                // of gradient and Fisher
constexpr size_t kFitTokens = 2048;
constexpr int kDescentSteps = 20;

struct GradOptions {
  std::shared_ptr<const LoraText> text;
  int n_draws = 10'000;  // over all seeds
};

// The full softmax of the model's head in double.
class FullSoftmax {
 public:
  FullSoftmax(const OutputHead& head) : n_(head.n_rows()), d_(head.d()), w_(n_ * d_) {
    std::vector<float> row(head.stride());
    for (size_t v = 0; v < n_; ++v) {
      head.row(v, row.data());
      std::copy_n(row.data(), d_, w_.data() + v * d_);
    }
  }
  size_t n() const { return n_; }
  size_t d() const { return d_; }
  const double* row(size_t v) const { return w_.data() + v * d_; }

  // z += W x
  void add_logits(std::span<const double> x, std::vector<double>& z) const {
    z.resize(n_);
    for (size_t v = 0; v < n_; ++v) {
      const double* w = row(v);
      double sums[4] = {};
      for (size_t i = 0; i + 4 <= d_; i += 4)
        for (size_t lane = 0; lane < 4; ++lane) sums[lane] += w[i + lane] * x[i + lane];
      for (size_t i = d_ / 4 * 4; i < d_; ++i) sums[0] += w[i] * x[i];
      z[v] += (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }
  }
  static double log_sum_exp(std::span<const double> z) {
    const double largest = *std::max_element(z.begin(), z.end());
    double sum = 0;
    for (const double value : z) sum += std::exp(value - largest);
    return largest + std::log(sum);
  }

 private:
  size_t n_, d_;
  std::vector<double> w_;
};

struct SeedResult {
  uint64_t seed = 0;
  double gradient_differences = 0;              // formula against differences of the NLL, and of the KL
  double fisher_differences = 0;                // the same for the Fisher: second differences
  double gradient_whole = 0, fisher_whole = 0;  // learner with all tokens recorded, against the formula
  double gradient_batch = 0;                    // of all tokens in one batch, by products of whole matrices
  double gradient_top_k = 0, fisher_top_k = 0;  // with K of them: for information
  double mean_tail = 0, nll_error = 0, nll_bound = 0;  // means over draws
  size_t n_draws = 0, n_outside_nll = 0, n_outside_gradient = 0;
  double proximal = 0;  // relative slope left at the step's minimum
  bool descent_monotone = false, fit_monotone = false;
  // Of one token's gradient on one thread, in a batch of kFitTokens: token by token, and by products of rows.
  double microseconds = 0, batch_microseconds = 0;
};

// One seed's experiment.
class GradSeed {
 public:
  GradSeed(const LoadedModel& model, const OutputHead& head, const FullSoftmax& full,
           const LoraContexts& contexts, uint64_t seed)
      : model_(model), head_(head), full_(full), contexts_(contexts), random_(seed) {
    result_.seed = seed;
  }

  Result<SeedResult> run(size_t n_draws) {
    RETURN_IF_ERROR(measure_gradients());
    RETURN_IF_ERROR(measure_bounds(n_draws));
    RETURN_IF_ERROR(measure_descent());
    measure_proximal_step();
    return result_;
  }

 private:
  size_t d() const { return contexts_.d(); }
  size_t m() const { return contexts_.m(); }
  double s() const { return static_cast<double>(contexts_.basis->scale()); }
  size_t any_context() { return random_() % contexts_.size(); }

  std::vector<float> random_b(double ratio) {
    // |s B phi| is about ratio |h|: |phi|^2 is about m, and s^2 = 1 / m.
    const double h = euclidean_norm(contexts_.h(0).data(), d());
    std::normal_distribution<double> normal(0, ratio * h / std::sqrt(static_cast<double>(d())));
    std::vector<float> b(m() * d());
    for (float& value : b) value = static_cast<float>(normal(random_));
    return b;
  }
  std::vector<double> delta(size_t context, std::span<const float> b) const {
    std::vector<double> x(d(), 0);
    const auto phi = contexts_.phi(context);
    for (size_t j = 0; j < m(); ++j)
      for (size_t i = 0; i < d(); ++i)
        x[i] += s() * static_cast<double>(phi[j]) * static_cast<double>(b[j * d() + i]);
    return x;
  }
  std::vector<double> base_logits(size_t context) const {
    std::vector<double> z, h(contexts_.h(context).begin(), contexts_.h(context).end());
    full_.add_logits(h, z);
    return z;
  }
  TokenRecords records(size_t capacity, size_t top_k) const {
    return TokenRecords(
        {.n_features = m(), .n_rows = head_.n_rows(), .capacity = capacity, .top_k = top_k, .max_ids = 0});
  }
  bool record(TokenRecords& to, size_t context, std::span<const double> z) const {
    const std::vector<float> logits(z.begin(), z.end());
    return to.add(logits, contexts_.next[context], contexts_.phi(context),
                  static_cast<float>(euclidean_norm(contexts_.h(context).data(), d())));
  }
  Result<RecordEvaluator> evaluator() const {
    return RecordEvaluator::make(head_, m(), contexts_.basis->scale(), size_t{64} << 20);
  }

  Result<void> measure_gradients();
  Result<void> measure_speed(const Batch& batch, std::span<const float> b);
  void compare_with_differences(std::span<const double> base, std::span<const double> z, size_t context,
                                std::span<const double> nll, std::span<const double> kl,
                                std::span<const double> variance);
  Result<void> measure_bounds(size_t n_draws);
  Result<void> measure_descent();
  void measure_proximal_step();

  const LoadedModel& model_;
  const OutputHead& head_;
  const FullSoftmax& full_;
  const LoraContexts& contexts_;
  std::mt19937_64 random_;
  std::vector<double> found_[3], expected_[3];  // NLL, KL, variance along single directions
  SeedResult result_;
};

double relative_error(std::span<const double> a, std::span<const double> b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

// The gradient's outer product with phi is exact by construction; what can be wrong is g (d) and Var (d).
// Each is compared along some single directions i of delta.
void GradSeed::compare_with_differences(std::span<const double> base, std::span<const double> z,
                                        size_t context, std::span<const double> nll,
                                        std::span<const double> kl, std::span<const double> variance) {
  const size_t n = full_.n(), y = contexts_.next[context];
  const double lse_base = FullSoftmax::log_sum_exp(base);
  std::vector<double> moved(n);
  const auto losses = [&](size_t i, double step) {
    for (size_t v = 0; v < n; ++v) moved[v] = z[v] + step * full_.row(v)[i];
    const double lse = FullSoftmax::log_sum_exp(moved);
    double divergence = 0;
    for (size_t v = 0; v < n; ++v)
      divergence += std::exp(base[v] - lse_base) * ((base[v] - lse_base) - (moved[v] - lse));
    return std::pair(lse - moved[y], divergence);
  };
  const auto middle = losses(0, 0);
  for (int sample = 0; sample < 4; ++sample) {
    const size_t i = random_() % d();
    // Steps that move logits by about 2e-4: curvature and rounding are both small against the slope.
    const double step = 2e-4 / std::sqrt(head_.mean_square()[i]);
    const auto above = losses(i, step), below = losses(i, -step);
    found_[0].push_back(nll[i]);
    expected_[0].push_back((above.first - below.first) / (2 * step));
    found_[1].push_back(kl[i]);
    expected_[1].push_back((above.second - below.second) / (2 * step));
    found_[2].push_back(variance[i]);
    expected_[2].push_back((above.first + below.first - 2 * middle.first) / (step * step));
  }
}

Result<void> GradSeed::measure_gradients() {
  const size_t size = m() * d();
  ASSIGN_OR_RETURN(auto learner, evaluator());
  TokenRecords whole = records(kTokens, head_.n_rows()), top_k = records(4 * kTokens, kDefaultTopK);
  std::vector<double> exact(size), exact_fisher(size), found[2], fisher[2];
  for (size_t i = 0; i < 2; ++i) {
    found[i].resize(size);
    fisher[i].resize(size);
  }
  const auto b = random_b(0.03);
  for (size_t t = 0; t < kTokens; ++t) {
    const size_t context = any_context(), y = contexts_.next[context];
    const auto base = base_logits(context);
    auto z = base;
    full_.add_logits(delta(context, b), z);
    const double lse = FullSoftmax::log_sum_exp(z), lse_base = FullSoftmax::log_sum_exp(base);
    std::vector<double> nll(d()), kl(d()), mean(d()), variance(d());
    for (size_t v = 0; v < full_.n(); ++v) {
      const double p = std::exp(z[v] - lse), p_base = std::exp(base[v] - lse_base);
      for (size_t i = 0; i < d(); ++i) {
        nll[i] += (p - (v == y)) * full_.row(v)[i];
        kl[i] += (p - p_base) * full_.row(v)[i];
        mean[i] += p * full_.row(v)[i];
      }
    }
    for (size_t v = 0; v < full_.n(); ++v) {
      const double p = std::exp(z[v] - lse);
      for (size_t i = 0; i < d(); ++i)
        variance[i] += p * (full_.row(v)[i] - mean[i]) * (full_.row(v)[i] - mean[i]);
    }
    compare_with_differences(base, z, context, nll, kl, variance);
    const auto phi = contexts_.phi(context);
    for (size_t j = 0; j < m(); ++j) {
      const double step = s() * static_cast<double>(phi[j]);
      for (size_t i = 0; i < d(); ++i) {
        exact[j * d() + i] += step * nll[i];
        exact_fisher[j * d() + i] += step * step * variance[i];
      }
    }
    record(whole, context, base);
    record(top_k, context, base);
    size_t which = 0;
    for (const TokenRecords* kept : {&whole, &top_k}) {
      learner.loss((*kept)[t], b);
      learner.add_nll_gradient(1, found[which]);
      learner.add_fisher(1, fisher[which]);
      ++which;
    }
  }
  result_.gradient_differences =
      std::max(relative_error(found_[0], expected_[0]), relative_error(found_[1], expected_[1]));
  result_.fisher_differences = relative_error(found_[2], expected_[2]);
  result_.gradient_whole = relative_error(found[0], exact);
  result_.gradient_top_k = relative_error(found[1], exact);
  result_.fisher_whole = relative_error(fisher[0], exact_fisher);
  result_.fisher_top_k = relative_error(fisher[1], exact_fisher);
  result_.mean_tail = top_k.mean_tail();

  // The same tokens as a batch, each of them twice: so many that their rows are multiplied together.
  std::vector<Example> examples;
  for (size_t i = 0; i < 2 * kTokens; ++i) examples.push_back({static_cast<uint32_t>(i % kTokens), 1});
  ASSIGN_OR_RETURN(auto loss, LoraLoss::make(model_.ctx, head_, m(), contexts_.basis->scale(), {}));
  std::vector<double> together(size);
  loss.nll({&whole, examples}, b, kTokens, together);
  result_.gradient_batch = relative_error(together, exact);
  return {};
}

// Records of K = 8..1024 tokens and adapters from hardly anything to three times the largest that may go
// live.
Result<void> GradSeed::measure_bounds(size_t n_draws) {
  ASSIGN_OR_RETURN(auto learner, evaluator());
  std::vector<double> gradient(m() * d());
  for (size_t draw = 0; draw < n_draws; ++draw) {
    const size_t context = any_context(), y = contexts_.next[context];
    auto z = base_logits(context);
    TokenRecords one = records(1, size_t{8} << random_() % 8);
    if (!record(one, context, z)) return fail("sona_grad.record", "sona-grad: a context gave no record");
    const TokenRecord kept = one[0];

    // The gradient at the record's own B, as one column of the outer product: phi_m = 1.
    std::fill(gradient.begin(), gradient.end(), 0);
    learner.loss(kept, {});
    learner.add_nll_gradient(1 / s(), gradient);
    const double* g = gradient.data() + (m() - 1) * d();
    const double lse = FullSoftmax::log_sum_exp(z);
    std::vector<double> exact(d());
    for (size_t v = 0; v < full_.n(); ++v) {
      const double c = std::exp(z[v] - lse) - (v == y);
      for (size_t i = 0; i < d(); ++i) exact[i] += c * full_.row(v)[i];
    }
    double away = 0;
    for (size_t i = 0; i < d(); ++i) away += (g[i] - exact[i]) * (g[i] - exact[i]);
    // log p is kept as f16: each p is off by 2^-11 |log p| p at most, twice that once they are scaled again.
    double rounding = 1e-6;
    for (size_t k = 0; k < kept.ids.size(); ++k)
      rounding += learner.p()[k] * 2 * 0x1p-11 * std::abs(static_cast<double>(f16_to_f32(kept.log_p[k])));
    const double bound = (static_cast<double>(kept.tail) + 2 * rounding) * head_.radius();
    result_.n_outside_gradient += std::sqrt(away) > bound;

    const auto b = random_b(0.15 * std::exp2(-static_cast<double>(random_() % 8)));
    const TokenLoss loss = learner.loss(kept, b);
    full_.add_logits(delta(context, b), z);
    const double error = std::abs(loss.nll - (FullSoftmax::log_sum_exp(z) - z[y]));
    result_.n_outside_nll += !(error <= loss.bound);
    result_.nll_error += error / static_cast<double>(n_draws);
    result_.nll_bound += loss.bound / static_cast<double>(n_draws);
  }
  result_.n_draws = n_draws;
  return {};
}

Result<void> GradSeed::measure_speed(const Batch& batch, std::span<const float> b) {
  ThreadPool one(1);
  std::vector<double> gradient(b.size());
  for (const bool by_rows : {false, true}) {
    LoraLoss::Options options;
    if (!by_rows) options.product_bytes = 0;
    ASSIGN_OR_RETURN(auto loss, LoraLoss::make({&one, model_.ctx.kernels}, head_, m(),
                                               contexts_.basis->scale(), std::move(options)));
    loss.nll(batch, b, 1, gradient);  // rows come into the cache
    const auto start = std::chrono::steady_clock::now();
    loss.nll(batch, b, 1, gradient);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    (by_rows ? result_.batch_microseconds : result_.microseconds) =
        took.count() / static_cast<double>(batch.examples.size());
  }
  return {};
}

// Steps of 1 / (s^2 R^2 mean |phi|^2) from a random B, and the optimiser from the base: does the loss fall
// with every step?
Result<void> GradSeed::measure_descent() {
  TokenRecords kept = records(4 * kFitTokens, kDefaultTopK);
  std::vector<Example> examples;
  double mean_square = 0;
  for (uint32_t t = 0; t < kFitTokens; ++t) {
    const size_t context = any_context();
    if (!record(kept, context, base_logits(context))) break;
    examples.push_back({t, 1});
    for (const float value : contexts_.phi(context))
      mean_square += static_cast<double>(value) * static_cast<double>(value) / kFitTokens;
  }
  const Batch batch = {&kept, examples};
  ASSIGN_OR_RETURN(auto loss, LoraLoss::make(model_.ctx, head_, m(), contexts_.basis->scale(), {}));
  auto b = random_b(0.1);
  RETURN_IF_ERROR(measure_speed(batch, b));
  std::vector<double> gradient(b.size());
  double before = loss.nll(batch, b, 1, gradient);
  const double step = 1 / (s() * s() * head_.radius() * head_.radius() * mean_square);
  result_.descent_monotone = true;
  for (int i = 0; i < kDescentSteps; ++i) {
    for (size_t j = 0; j < b.size(); ++j) b[j] -= static_cast<float>(step * gradient[j]);
    std::fill(gradient.begin(), gradient.end(), 0);
    const double after = loss.nll(batch, b, 1, gradient);
    result_.descent_monotone &= after < before;
    before = after;
  }
  Ewc ewc(b.size(), 0);
  LoraFit fit(loss, ewc, std::vector<float>(b.size(), 0), {});
  const FitReport report = fit.full_batch(batch, {});
  result_.fit_monotone = report.n_steps > 0;
  for (size_t i = 1; i < report.objectives.size(); ++i)
    result_.fit_monotone &= report.objectives[i] < report.objectives[i - 1];
  return {};
}

// The proximal step minimises g x + (x - b)^2 / 2e + a0 x^2 / 2 + a1 (x - b*)^2 / 2: its slope there, from
// central differences, relative to |g|.
void GradSeed::measure_proximal_step() {
  const size_t n = 1000;
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> positive(0.01, 10);
  std::vector<float> b(n), anchor(n);
  std::vector<double> g(n), e(n), a0(n), fisher(n);
  for (size_t i = 0; i < n; ++i) {
    b[i] = static_cast<float>(normal(random_));
    anchor[i] = static_cast<float>(normal(random_));
    g[i] = normal(random_);
    e[i] = positive(random_);
    a0[i] = positive(random_);
    fisher[i] = positive(random_);
  }
  Ewc ewc(n, 1000);
  ewc.observe(fisher);
  ewc.boundary(anchor);
  ewc.observe(fisher);
  const auto a1 = ewc.curvature();
  auto moved = b;
  ewc.proximal_step(moved, g, e, a0, a1);
  double slopes = 0, norm = 0;
  for (size_t i = 0; i < n; ++i) {
    const auto model = [&](double x) {
      const double from = x - static_cast<double>(b[i]), anchored = x - static_cast<double>(anchor[i]);
      return g[i] * x + from * from / (2 * e[i]) + a0[i] / 2 * x * x + a1[i] / 2 * anchored * anchored;
    };
    const double x = static_cast<double>(moved[i]), step = 1e-3;
    const double slope = (model(x + step) - model(x - step)) / (2 * step);
    slopes += slope * slope;
    norm += g[i] * g[i];
  }
  result_.proximal = std::sqrt(slopes / norm);
}

bool passed(const SeedResult& r) {
  return r.gradient_differences <= kMaxDifferenceError && r.fisher_differences <= kMaxDifferenceError &&
         r.gradient_whole <= kMaxSingleError && r.gradient_batch <= kMaxSingleError &&
         r.fisher_whole <= kMaxSingleError && r.n_outside_nll == 0 && r.n_outside_gradient == 0 &&
         r.proximal <= kMaxDifferenceError && r.descent_monotone && r.fit_monotone;
}

Json to_document(const SeedResult& r) {
  Json out;
  out["seed"] = r.seed;
  out["gradient_vs_differences"] = r.gradient_differences;
  out["fisher_vs_differences"] = r.fisher_differences;
  out["gradient_whole"] = r.gradient_whole;
  out["fisher_whole"] = r.fisher_whole;
  out["gradient_batch"] = r.gradient_batch;
  out["gradient_top_k"] = r.gradient_top_k;
  out["fisher_top_k"] = r.fisher_top_k;
  out["mean_tail"] = r.mean_tail;
  out["draws"] = r.n_draws;
  out["nll_outside_bound"] = r.n_outside_nll;
  out["gradient_outside_bound"] = r.n_outside_gradient;
  out["nll_mean_error"] = r.nll_error;
  out["nll_mean_bound"] = r.nll_bound;
  out["proximal_slope"] = r.proximal;
  out["descent_monotone"] = r.descent_monotone;
  out["fit_monotone"] = r.fit_monotone;
  out["gradient_us_per_token"] = r.microseconds;
  out["gradient_us_per_token_by_rows"] = r.batch_microseconds;
  out["passed"] = passed(r);
  return out;
}

Result<int> eval_sona_grad(const GradOptions& grad, const ExperimentOptions& options) {
  ASSIGN_OR_RETURN(const auto model, load_model(options.model));
  ASSIGN_OR_RETURN(const OutputHead head,
                   OutputHead::make(model->ctx, model->weights.head(), model->weights.shape.n_vocab));
  const FullSoftmax full(head);
  ASSIGN_OR_RETURN(const HiddenStates canary, hidden_states(*model, canary_text(), 8192));
  ASSIGN_OR_RETURN(const HiddenStates text, read_states(*model, *grad.text, 8192));
  Json rows = Json::array();
  bool all_passed = true;
  ProgressBar bar("sona-grad", ProgressBar::Unit::kItems, !options.model.no_progress);
  const auto n_seeds = static_cast<uint64_t>(grad.text->n_seeds);
  std::vector<SeedResult> results;
  for (uint64_t i = 0; i < n_seeds; ++i) {
    ASSIGN_OR_RETURN(const LoraContexts contexts, lora_contexts(*model, canary, text, options.seed + i));
    ASSIGN_OR_RETURN(const SeedResult result,
                     GradSeed(*model, head, full, contexts, options.seed + i)
                         .run((static_cast<size_t>(grad.n_draws) + n_seeds - 1) / n_seeds));
    results.push_back(result);
    rows.push_back(to_document(result));
    all_passed &= passed(result);
    if (!bar.update(i + 1, n_seeds))
      return fail(ErrorKind::kCancelled, "eval.cancelled", "sona-grad: stopped on request");
  }
  if (options.json) {
    Json out = experiment_document("sona-grad", *model, options.seed);
    out["tokens"] = text.next.size();
    out["seeds"] = rows;
    out["passed"] = all_passed;
    print("{}\n", to_json(out));
    return all_passed ? kExitOk : kExitFailure;
  }
  print("{}{}: {} contexts, {} draws of bounds\n\n", model->label(),
        has_random_weights(model->file.metadata()) ? " (random weights)" : "", text.next.size(),
        results[0].n_draws * results.size());
  print(
      "| seed | g, differences | F, differences | g, all tokens | in a batch | F, all tokens | g, top {} | "
      "F, top {} | "
      "tail | "
      "NLL error / bound | outside | prox | falls | us/token | by rows |\n",
      kDefaultTopK, kDefaultTopK);
  print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const SeedResult& r : results) {
    print(
        "| {} | {:.1e} | {:.1e} | {:.1e} | {:.1e} | {:.1e} | {:.1e} | {:.1e} | {:.3f} | {:.4f} / {:.3f} | {} "
        "+ {} | "
        "{:.1e} | "
        "{} {} | {:.0f} | {:.0f} |\n",
        r.seed, r.gradient_differences, r.fisher_differences, r.gradient_whole, r.gradient_batch,
        r.fisher_whole, r.gradient_top_k, r.fisher_top_k, r.mean_tail, r.nll_error, r.nll_bound,
        r.n_outside_nll, r.n_outside_gradient, r.proximal, r.descent_monotone ? "yes" : "NO",
        r.fit_monotone ? "yes" : "NO", r.microseconds, r.batch_microseconds);
  }
  print("\n{}\n", all_passed ? "passed" : "FAILED");
  return all_passed ? kExitOk : kExitFailure;
}

}  // namespace

Experiment sona_grad_experiment() {
  const auto grad = std::make_shared<GradOptions>();
  return {.name = "sona-grad",
          .add_options =
              [grad](CLI::App& app) {
                auto names = add_lora_text_options(app, grad->text);
                app.add_option("--draws", grad->n_draws,
                               "sona-grad: random draws of each bound, all seeds together")
                    ->check(in_range(1, 100'000'000))
                    ->configurable(false);
                names.push_back("--draws");
                return names;
              },
          .run = [grad](const ExperimentOptions& options) { return eval_sona_grad(*grad, options); }};
}

}  // namespace ruvltra

#include "sona/gates.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/fail.h"
#include "base/mean.h"

namespace ruvltra {
namespace {

constexpr double kSteps[] = {1, 0.5, 0.25, 0.125};
constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

// Errors as values: nothing is thrown.
using Quiet = boost::math::policies::policy<
    boost::math::policies::domain_error<boost::math::policies::ignore_error>,
    boost::math::policies::pole_error<boost::math::policies::ignore_error>,
    boost::math::policies::overflow_error<boost::math::policies::ignore_error>,
    boost::math::policies::underflow_error<boost::math::policies::ignore_error>,
    boost::math::policies::evaluation_error<boost::math::policies::ignore_error>,
    boost::math::policies::promote_double<false>>;

GateResult result_of(Gate gate, double value, double limit, bool passed, std::string reason) {
  GateResult result{.gate = gate, .passed = passed, .value = value, .limit = limit, .reason = {}};
  if (!passed) result.reason = std::move(reason);
  return result;
}

GateResult check_evidence(const Evidence& evidence, const HeldOut& held_out, const GateLimits& limits) {
  const size_t n = evidence.differences.size();
  std::string reason;
  if (held_out.n_fresh_tokens < limits.min_fresh_tokens) {
    reason = fmt::format("expected {} held-out tokens that no attempt has used, found {}",
                         limits.min_fresh_tokens, held_out.n_fresh_tokens);
  } else if (n < 2 || n < (evidence.by_sequence ? limits.min_sequences : limits.min_blocks)) {
    reason = fmt::format("expected {} blocks of {} tokens or {} sequences, found {} tokens in {} sequences",
                         limits.min_blocks, limits.block_tokens, limits.min_sequences, evidence.n_tokens,
                         held_out.sequence_begin.size() - 1);
  } else if (!(evidence.lower_bound > 0)) {
    reason = fmt::format("expected a gain with 95 % confidence, found {:.5f} nat, at least {:.5f}",
                         evidence.mean, evidence.lower_bound);
  }
  return result_of(Gate::kEvidence, evidence.lower_bound, 0, reason.empty(), reason);
}

}  // namespace

std::string_view gate_name(Gate gate) {
  switch (gate) {
    case Gate::kEvidence:
      return "G1 evidence";
    case Gate::kCanary:
      return "G2 canary";
    case Gate::kDrift:
      return "G3 drift";
    case Gate::kNorm:
      return "G4 norm";
  }
  return "unknown";
}

Result<void> GateLimits::validate() const {
  const auto limit = [](double value) { return std::isfinite(value) && value > 0; };
  if (block_tokens == 0 || min_blocks < 2 || min_sequences < 2 || !limit(max_canary_rise) ||
      !limit(max_drift) || !limit(max_delta_ratio) || min_canary_tokens == 0) {
    return fail(ErrorKind::kUsage, "learning.gate_limits",
                "gates: expected limits above 0 and at least 2 blocks and sequences, found others");
  }
  return {};
}

double t_quantile_95(size_t degrees) {
  const boost::math::students_t_distribution<double, Quiet> t(static_cast<double>(degrees));
  return boost::math::quantile(t, 0.95);
}

Evidence measure_evidence(LoraLoss& loss, const HeldOut& held_out, std::span<const float> live,
                          std::span<const float> candidate, const GateLimits& limits) {
  const Batch& batch = held_out.batch;
  const size_t n = batch.examples.size();
  Evidence evidence;
  evidence.n_tokens = n;
  evidence.lower_bound = -std::numeric_limits<double>::infinity();
  if (n == 0) return evidence;
  CHECK(!held_out.sequence_begin.empty() && held_out.sequence_begin.back() == n);
  std::vector<TokenLoss> before(n), after(n);
  loss.each(batch, live, before);
  loss.each(batch, candidate, after);
  const auto difference = [&](size_t begin, size_t end) {
    double sum = 0, weight = 0;
    for (size_t i = begin; i < end; ++i) {
      const auto w = static_cast<double>(batch.examples[i].weight);
      sum += w * (before[i].nll - after[i].nll);
      weight += w;
    }
    return weight > 0 ? sum / weight : 0;
  };
  for (size_t i = 0; i < n; ++i)
    evidence.mean_error += (before[i].bound + after[i].bound) / static_cast<double>(n);
  const size_t n_blocks = n / limits.block_tokens;
  if (n_blocks >= limits.min_blocks) {
    for (size_t block = 0; block < n_blocks; ++block)
      evidence.differences.push_back(
          difference(block * limits.block_tokens, (block + 1) * limits.block_tokens));
  } else {
    evidence.by_sequence = true;
    for (size_t i = 0; i + 1 < held_out.sequence_begin.size(); ++i) {
      const size_t begin = held_out.sequence_begin[i], end = held_out.sequence_begin[i + 1];
      if (begin < end) evidence.differences.push_back(difference(begin, end));
    }
  }
  const size_t count = evidence.differences.size();
  evidence.mean = mean_of(evidence.differences);
  if (count < 2) return evidence;
  double square = 0;
  for (const double value : evidence.differences) square += (value - evidence.mean) * (value - evidence.mean);
  const double deviation = std::sqrt(square / static_cast<double>(count - 1));
  evidence.lower_bound =
      evidence.mean - t_quantile_95(count - 1) * deviation / std::sqrt(static_cast<double>(count));
  if (!std::isfinite(evidence.lower_bound)) evidence.lower_bound = kNothing;
  return evidence;
}

GateReport check_gates(LoraLoss& loss, const HeldOut* held_out, const Batch& canary,
                       std::span<const float> live, std::span<const float> candidate,
                       const GateLimits& limits) {
  GateReport report;
  report.t = 1;
  if (held_out != nullptr) {
    report.evidence = measure_evidence(loss, *held_out, live, candidate, limits);
    report.results.push_back(check_evidence(report.evidence, *held_out, limits));
  }
  const size_t n = canary.examples.size();
  std::vector<TokenLoss> base(n), now(n);
  std::vector<double> ratios;
  const auto keep_ratios = [&](const Batch& batch, std::span<const TokenLoss> losses) {
    for (size_t i = 0; i < losses.size(); ++i) {
      const auto hidden = static_cast<double>((*batch.records)[batch.examples[i].index].hidden_norm);
      ratios.push_back(losses[i].delta == 0 ? 0 : losses[i].delta / hidden);
    }
  };
  if (n > 0) {
    loss.each(canary, {}, base);
    loss.each(canary, candidate, now);
    keep_ratios(canary, now);
  }
  if (held_out != nullptr) {
    std::vector<TokenLoss> losses(held_out->batch.examples.size());
    loss.each(held_out->batch, candidate, losses);
    keep_ratios(held_out->batch, losses);
  }
  for (size_t i = 0; i < n; ++i) {
    const double share = 1 / static_cast<double>(n);
    report.canary_base += share * base[i].nll;
    report.canary_candidate += share * now[i].nll;
    report.canary_error += share * now[i].bound;
    report.drift += share * now[i].kl;
  }
  const bool enough = n >= limits.min_canary_tokens;
  const std::string too_few =
      fmt::format("expected at least {} canary tokens, found {}", limits.min_canary_tokens, n);
  // Where a value is not a number, no comparison holds and the gate is closed.
  const double rise = report.canary_candidate / report.canary_base - 1;
  report.results.push_back(
      result_of(Gate::kCanary, rise, limits.max_canary_rise, enough && rise <= limits.max_canary_rise,
                enough ? fmt::format("expected the canary NLL to rise by at most {:.2f} %, found {:+.2f} %",
                                     100 * limits.max_canary_rise, 100 * rise)
                       : too_few));
  report.results.push_back(result_of(
      Gate::kDrift, report.drift, limits.max_drift, enough && report.drift <= limits.max_drift,
      enough
          ? fmt::format("expected a mean KL of at most {} nat, found {:.4f}", limits.max_drift, report.drift)
          : too_few));
  const bool finite =
      std::all_of(candidate.begin(), candidate.end(), [](float value) { return std::isfinite(value); }) &&
      std::all_of(ratios.begin(), ratios.end(), [](double value) { return std::isfinite(value); });
  report.delta_p999 = kNothing;
  if (finite && !ratios.empty()) {
    const auto at = std::min(ratios.size() - 1,
                             static_cast<size_t>(std::ceil(0.999 * static_cast<double>(ratios.size()))) - 1);
    std::nth_element(ratios.begin(), ratios.begin() + static_cast<std::ptrdiff_t>(at), ratios.end());
    report.delta_p999 = ratios[at];
  }
  report.results.push_back(result_of(
      Gate::kNorm, report.delta_p999, limits.max_delta_ratio, report.delta_p999 <= limits.max_delta_ratio,
      finite ? fmt::format("expected |delta| of at most {:.1f} % of |h|, found {:.2f} %",
                           100 * limits.max_delta_ratio, 100 * report.delta_p999)
             : std::string("expected finite values, found NaN or infinity")));
  report.passed = std::all_of(report.results.begin(), report.results.end(),
                              [](const GateResult& result) { return result.passed; });
  return report;
}

Admission admit(LoraLoss& loss, const HeldOut* held_out, const Batch& canary, std::span<const float> live,
                std::span<const float> candidate, const GateLimits& limits) {
  Admission admission;
  std::vector<double> tried;
  std::vector<std::string> reasons;
  for (const double t : kSteps) {
    std::vector<float> b(candidate.begin(), candidate.end());
    for (size_t i = 0; t < 1 && i < b.size(); ++i) {
      const auto from = live.empty() ? 0 : static_cast<double>(live[i]);
      b[i] = static_cast<float>(from + t * (static_cast<double>(candidate[i]) - from));
    }
    admission.report = check_gates(loss, held_out, canary, live, b, limits);
    admission.report.t = t;
    tried.push_back(t);
    std::string reason;
    for (const GateResult& result : admission.report.results) {
      if (result.passed) continue;
      reason += fmt::format("{}{}: {}", reason.empty() ? "" : "; ", gate_name(result.gate), result.reason);
    }
    reasons.push_back(reason);
    if (admission.report.passed) {
      admission.b = std::move(b);
      break;
    }
  }
  admission.report.tried = tried;
  admission.report.reasons = reasons;
  admission.report.n_attempts = admission.report.passed && tried.size() > 1 ? 2 : 1;
  return admission;
}

}  // namespace ruvltra

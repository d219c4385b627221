#include "engine/lookahead.h"

#include <algorithm>
#include <cmath>

#include "engine/suffix_index.h"

namespace ruvltra {
namespace {

constexpr double kUnitRate = 0.1;       // how fast the unit follows the machine,
constexpr double kRatioRate = 0.01;     // and the ratios their kernels
constexpr double kForget = 0.001;       // what is not measured again drifts back to what is expected
constexpr double kRowPrior = 0.03;      // another row of a small step, before it was measured
constexpr double kPriorSteps = 5;       // what is expected counts for so many steps
constexpr double kFade = 0.98;          // of the measured rate, per step
constexpr double kMargin = 1.05;        // proposals must be worth 5 % more than they cost
constexpr double kOwnWeight = 0.08;     // of one case in a sequence's own history,
constexpr double kCommonWeight = 0.02;  // and in what all have learned
constexpr size_t kLastProbe = 8192;     // tokens between two tries, at most
constexpr double kOutlier = 2;          // a step that was interrupted tells nothing

constexpr uint32_t kPriorCases = 8;

double expected_ratio(size_t n_rows) { return 1 + kRowPrior * (static_cast<double>(n_rows) - 1); }

double weight_of_next(uint32_t n_before, double least) { return std::max(least, 1.0 / (n_before + 3.0)); }

size_t index_of(DraftOrigin origin) { return static_cast<size_t>(origin); }

}  // namespace

StepTimes::StepTimes() {
  for (size_t n = 0; n <= kMostRows; ++n) ratio_[n] = expected_ratio(n);
  n_seen_[1] = 1;
}

void StepTimes::learn_step(size_t n_rows, double ms) {
  n_rows = std::min(n_rows, kMostRows);
  double& ratio = ratio_[n_rows];
  if (n_steps_++ == 0) unit_ms_ = ms / ratio;
  const uint32_t n_before = n_seen_[n_rows]++;
  if (is_known()) ms = std::min(ms, kOutlier * unit_ms_ * ratio);
  if (n_rows > 1) {
    const double weight = std::max(kRatioRate, 1.0 / (n_before + kPriorSteps));
    ratio = std::max(1.0, ratio + weight * (ms / unit_ms_ - ratio));
  }
  unit_ms_ += kUnitRate * (ms / ratio - unit_ms_);
  for (size_t n = 2; n <= kMostRows; ++n) {
    if (n != n_rows) ratio_[n] += kForget * (expected_ratio(n) - ratio_[n]);
  }
}

void StepTimes::learn_draft(double ms) {
  if (unit_ms_ <= 0) return;
  const double share = ms / unit_ms_;
  const double weight = std::max(kUnitRate, 1.0 / (n_drafts_++ + kPriorSteps));
  draft_ += weight * (std::min(share, kOutlier * draft_) - draft_);
}

// Rows that were never measured cost as much more than the nearest smaller step as the prior says.
double StepTimes::step(size_t n_rows) const {
  n_rows = std::min(n_rows, kMostRows);
  size_t known = n_rows;
  while (n_seen_[known] == 0) --known;
  return ratio_[known] + kRowPrior * static_cast<double>(n_rows - known);
}

Acceptance::Acceptance() {
  for (size_t c = 0; c < kClasses; ++c) {
    rate_[c] = (static_cast<double>(c) + 0.5) / kClasses;
    share_[c] = 1.0 / kClasses;
  }
}

void Acceptance::saw(size_t c, double least_weight) {
  const double weight = weight_of_next(n_seen_++, least_weight);
  for (size_t i = 0; i < kClasses; ++i) share_[i] += weight * ((i == c ? 1.0 : 0.0) - share_[i]);
}

void Acceptance::judged(size_t c, bool confirmed, double least_weight) {
  const double weight = weight_of_next(n_judged_[c]++, least_weight);
  rate_[c] += weight * ((confirmed ? 1.0 : 0.0) - rate_[c]);
}

Acceptance Acceptance::as_prior() const {
  Acceptance prior = *this;
  prior.n_seen_ = std::min(n_seen_, kPriorCases);
  for (uint32_t& n : prior.n_judged_) n = std::min(n, kPriorCases);
  return prior;
}

size_t confidence_class(double probability) {
  const double scaled = std::clamp(probability, 0.0, 1.0) * static_cast<double>(Acceptance::kClasses);
  return std::min(static_cast<size_t>(scaled), Acceptance::kClasses - 1);
}

size_t match_class(size_t length) {
  const size_t beyond = length > SuffixIndex::kLeast ? length - SuffixIndex::kLeast : 0;
  return std::min(beyond, Acceptance::kClasses - 1);
}

DraftHistory Lookahead::new_history() const {
  DraftHistory history;
  for (size_t i = 0; i < history.acceptance.size(); ++i)
    history.acceptance[i] = common_.acceptance[i].as_prior();
  return history;
}

void Lookahead::learn(size_t n_rows, size_t n_tokens, double step_ms, double draft_ms) {
  times_.learn_step(n_rows, step_ms);
  tokens_ = kFade * tokens_ + static_cast<double>(n_tokens);
  units_ = kFade * units_ + (step_ms + draft_ms) / times_.unit_ms();
}

void Lookahead::saw(DraftHistory& history, DraftOrigin origin, size_t c) {
  history.acceptance[index_of(origin)].saw(c, kOwnWeight);
  common_.acceptance[index_of(origin)].saw(c, kCommonWeight);
}

double Lookahead::rate_of(const DraftHistory& history, DraftOrigin origin, size_t c) {
  return history.acceptance[index_of(origin)].rate(c);
}

void Lookahead::learn(DraftHistory& history, const DraftVerdict& verdict) {
  const auto learn_from = [&](Acceptance& acceptance, double weight) {
    for (size_t i = 0; i < verdict.n_judged; ++i)
      acceptance.judged(verdict.classes[i], i < verdict.n_accepted, weight);
  };
  learn_from(history.acceptance[index_of(verdict.origin)], kOwnWeight);
  learn_from(common_.acceptance[index_of(verdict.origin)], kCommonWeight);
}

// In tokens: what else could have been had in this time.
double Lookahead::price(double units) const { return kMargin * rate() * std::max(0.0, units); }

double Lookahead::rows_price(size_t n_rows, size_t n_more) const {
  return price(times_.step(n_rows + n_more) - times_.step(n_rows));
}

double Lookahead::lookup_gain(const DraftHistory& history, size_t c, size_t n, size_t n_rows) const {
  const double a = history.acceptance[index_of(DraftOrigin::kLookup)].rate(c);
  double tokens = 0, survival = 1;
  for (size_t i = 0; i < n; ++i) tokens += survival *= a;
  return tokens - rows_price(n_rows, n);
}

size_t Lookahead::lookup_length(const DraftHistory& history, size_t c, size_t n, size_t n_rows) const {
  n = std::min(n, options_.most);
  if (!options_.adaptive) return n;
  size_t best = 0;
  double most = 0;
  for (size_t i = 1; i <= n; ++i) {
    const double gain = lookup_gain(history, c, i, n_rows);
    if (gain > most) most = gain, best = i;
  }
  return best;
}

// Tokens to be expected of one more draft step: its proposal is verified if that pays.
double Lookahead::worth(const Acceptance& model, double price_of_row) const {
  double sum = 0;
  for (size_t c = 0; c < Acceptance::kClasses; ++c) {
    const double highest = static_cast<double>(c + 1) / static_cast<double>(Acceptance::kClasses);
    if (highest <= options_.cut_off) continue;
    sum += model.share(c) * std::max(0.0, model.rate(c) - price_of_row);
  }
  return sum;
}

bool Lookahead::draft_on(const DraftHistory& history, double survival, size_t n_made, size_t n_rows,
                         size_t n_sharing) const {
  if (n_made >= options_.most) return false;
  if (!options_.adaptive) return true;
  if (survival <= 0) return false;
  const Acceptance& model = history.acceptance[index_of(DraftOrigin::kModel)];
  const double row = rows_price(n_rows + n_made, 1) / survival;
  return survival * worth(model, row) > price(times_.draft() / static_cast<double>(n_sharing));
}

size_t Lookahead::model_length(const DraftHistory& history, const DraftVerdict& made, size_t n_rows) const {
  if (!options_.adaptive) return made.n;
  const Acceptance& model = history.acceptance[index_of(DraftOrigin::kModel)];
  size_t best = 0;
  double most = 0, tokens = 0, survival = 1;
  for (size_t i = 0; i < made.n; ++i) {
    tokens += survival *= model.rate(made.classes[i]);
    const double gain = tokens - rows_price(n_rows, i + 1);
    if (gain > most) most = gain, best = i + 1;
  }
  return best;
}

double Lookahead::model_gain(const DraftHistory& history, size_t n_rows, size_t n_sharing) const {
  const Acceptance& model = history.acceptance[index_of(DraftOrigin::kModel)];
  double mean_rate = 0;
  for (size_t c = 0; c < Acceptance::kClasses; ++c) mean_rate += model.share(c) * model.rate(c);
  double gain = 0, survival = 1;
  for (size_t i = 0; draft_on(history, survival, i, n_rows, n_sharing); ++i) {
    const double row = rows_price(n_rows + i, 1) / survival;
    gain += survival * worth(model, row) - price(times_.draft() / static_cast<double>(n_sharing));
    survival *= mean_rate;
  }
  return gain;
}

bool Lookahead::probe_due(const DraftHistory& history, DraftOrigin origin) const {
  const DraftHistory::Probe& probe = history.probes[index_of(origin)];
  return options_.adaptive && probe.n_tokens_since >= probe.interval;
}

void Lookahead::count_token(DraftHistory& history) {
  for (DraftHistory::Probe& probe : history.probes) ++probe.n_tokens_since;
}

void Lookahead::try_now(DraftHistory& history, DraftOrigin origin) {
  DraftHistory::Probe& probe = history.probes[index_of(origin)];
  probe.n_tokens_since = 0;
  probe.interval = std::min(2 * probe.interval, kLastProbe);
}

void Lookahead::tried(DraftHistory& history, const DraftVerdict& verdict, bool was_probe,
                      size_t n_rows) const {
  DraftHistory::Probe& probe = history.probes[index_of(verdict.origin)];
  const Acceptance& lookup = history.acceptance[index_of(DraftOrigin::kLookup)];
  const bool pays = verdict.origin == DraftOrigin::kModel
                        ? draft_on(history, 1, 0, n_rows, 1)
                        : lookup.rate(verdict.classes[0]) > rows_price(n_rows, 1);
  if (pays) probe.interval = DraftHistory::kFirstProbe;
  // Encouraged, the next step tries again.
  probe.n_tokens_since = was_probe && verdict.n_accepted == verdict.n ? probe.interval : 0;
}

}  // namespace ruvltra

// `eval sona-null`: how often does a learner that has nothing to gain believe that it gained?
//
// Two kinds of attempts. The model's own samples, taught as if they were somebody's text: the model is their
// exact distribution, and no adapter predicts them better. And own samples with qualities drawn at random:
// what is praised is the model's distribution again. Whatever is accepted was accepted by chance, which the
// gate on evidence allows in one attempt of twenty.
#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "base/fail.h"
#include "console.h"
#include "sona_canary.h"
#include "sona_stories.h"
#include "sona_trial.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr int kAnswerTokens = 40;
// Fewer than the learner waits for before it tries by itself: every attempt is one of ours.
constexpr size_t kBatch = 48;
constexpr size_t kAttempts = 200;
constexpr int kAttemptsOfTenant = 4;  // then one that has learned nothing yet
constexpr int kMaxBatches = 12;       // without a verdict
constexpr double kMaxAccepted = 0.05, kMaxDrift = 0.02;

enum class Kind { kOwnText, kRandomQuality };

struct Attempt {
  Kind kind = Kind::kOwnText;
  size_t n_answers = 0;
  LearningReport report;
  std::optional<CanaryReading> canary;  // of what went live
};

// Did the gates look at it? Too little held-out text is no attempt, whatever the report calls it.
bool was_judged(const LearningReport& report) {
  if (report.accepted) return true;
  return report.reason.starts_with("G") && !report.reason.starts_with("G5") &&
         report.detail.find(" sequences, found ") == std::string::npos &&
         report.detail.find("no attempt has used") == std::string::npos;
}

// The least k with P(X <= k) >= 95 % for X ~ Binomial(n, p).
size_t binomial_bound(size_t n, double p) {
  double probability = std::pow(1 - p, static_cast<double>(n)), sum = probability;
  size_t k = 0;
  while (sum < 0.95 && k < n) {
    probability *= static_cast<double>(n - k) / static_cast<double>(k + 1) * p / (1 - p);
    sum += probability;
    ++k;
  }
  return k;
}

class NullEval {
 public:
  NullEval(const ExperimentOptions& common, const TrialOptions& own)
      : common_(common), own_(own), gates_(common.json) {}

  Result<int> run();

 private:
  Result<void> attempts(SonaTrial& trial, Kind kind, size_t n);
  Result<void> feed(SonaTrial& trial, Kind kind, const Scope& scope);
  void judge();
  Json raw() const;

  const ExperimentOptions& common_;
  const TrialOptions& own_;
  Gates gates_;
  std::mt19937_64 random_{common_.seed};
  uint64_t n_told_ = 0;
  std::vector<Attempt> attempts_;
  std::map<std::string, size_t> unjudged_;  // by reason
};

Result<void> NullEval::feed(SonaTrial& trial, Kind kind, const Scope& scope) {
  const auto prompts = story_prompts(kBatch, (common_.seed << 32) + n_told_);
  ASSIGN_OR_RETURN(const auto answers,
                   tell_stories(trial.model(), prompts, (common_.seed << 32) + n_told_,
                                {.scope = scope, .adapter = 0, .n_tokens = kAnswerTokens}));
  n_told_ += kBatch;
  for (const Generation& answer : answers) {
    Signal signal;
    signal.accepted = kind == Kind::kOwnText;
    if (kind == Kind::kRandomQuality) signal.quality = static_cast<double>(random_() >> 11) * 0x1p-53;
    RETURN_IF_ERROR(trial.sona().feedback(answer.id, signal, scope));
  }
  return {};
}

Result<void> NullEval::attempts(SonaTrial& trial, Kind kind, size_t n) {
  ProgressBar bar(kind == Kind::kOwnText ? "own text" : "random qualities", ProgressBar::Unit::kItems,
                  !common_.model.no_progress);
  int n_of_tenant = 0, n_tenants = 0;
  for (size_t i = 0; i < n;) {
    const Scope scope{.tenant = fmt::format("null-{}-{}", static_cast<int>(kind), n_tenants), .session = {}};
    Attempt attempt;
    attempt.kind = kind;
    for (int batch = 0; batch < kMaxBatches; ++batch) {
      RETURN_IF_ERROR(feed(trial, kind, scope));
      attempt.n_answers += kBatch;
      ASSIGN_OR_RETURN(attempt.report, trial.sona().learn(scope));
      if (was_judged(attempt.report)) break;
      ++unjudged_[attempt.report.reason];
    }
    if (!was_judged(attempt.report)) {
      return fail("eval.no_verdict", "sona-null: expected a verdict after {} answers, found: {}: {}",
                  attempt.n_answers, attempt.report.reason, attempt.report.detail);
    }
    if (attempt.report.accepted) {
      ASSIGN_OR_RETURN(attempt.canary, read_canary(trial, scope));
    }
    // Who believed in chance has something to gain from now on: the way back.
    if (attempt.report.accepted || ++n_of_tenant == kAttemptsOfTenant) {
      ++n_tenants;
      n_of_tenant = 0;
    }
    attempts_.push_back(std::move(attempt));
    if (!bar.update(++i, n))
      return fail(ErrorKind::kCancelled, "eval.cancelled", "evaluation: stopped on request");
  }
  return {};
}

void NullEval::judge() {
  size_t n_accepted = 0, of_kind[2] = {}, n_kind[2] = {};
  double worst_reported = 0, worst_measured = 0;
  for (const Attempt& attempt : attempts_) {
    n_accepted += attempt.report.accepted;
    of_kind[static_cast<int>(attempt.kind)] += attempt.report.accepted;
    ++n_kind[static_cast<int>(attempt.kind)];
    if (!attempt.report.accepted) continue;
    worst_reported = std::max(worst_reported, attempt.report.canary_kl);
    worst_measured = std::max(worst_measured, attempt.canary->drift);
  }
  const size_t bound = binomial_bound(attempts_.size(), kMaxAccepted);
  gates_.add("accepted by chance: one attempt in twenty, 95 % margin", n_accepted <= bound,
             fmt::format("{} of {}, at most {} (own text {} of {}, random qualities {} of {})", n_accepted,
                         attempts_.size(), bound, of_kind[0], n_kind[0], of_kind[1], n_kind[1]));
  gates_.add("nothing live drifts by more than 0.02 nat",
             std::max(worst_reported, worst_measured) <= kMaxDrift,
             fmt::format("at most {:.4f} by the learner, {:.4f} measured", worst_reported, worst_measured));
}

Json NullEval::raw() const {
  Json out{{"unjudged", unjudged_}, {"attempts", Json::array()}};
  for (const Attempt& attempt : attempts_) {
    const LearningReport& report = attempt.report;
    Json one{{"kind", attempt.kind == Kind::kOwnText ? "own text" : "random qualities"},
             {"answers", attempt.n_answers},
             {"accepted", report.accepted},
             {"reason", report.reason},
             {"gain", report.nll_before - report.nll_after},
             {"gain_lower_bound", report.gain_lower_bound},
             {"train_tokens", report.n_train_tokens},
             {"held_out_tokens", report.n_held_out_tokens},
             {"canary_kl", report.canary_kl}};
    if (attempt.canary) one["canary"] = attempt.canary->json();
    out["attempts"].push_back(std::move(one));
  }
  return out;
}

Result<int> NullEval::run() {
  ASSIGN_OR_RETURN(SonaTrial trial, SonaTrial::open(common_));
  const size_t n = own_.n_attempts > 0 ? static_cast<size_t>(own_.n_attempts) : kAttempts;
  if (!common_.json) print("{}: {} attempts with nothing to gain\n", trial.label(), n);
  RETURN_IF_ERROR(attempts(trial, Kind::kOwnText, n - n / 2));
  RETURN_IF_ERROR(attempts(trial, Kind::kRandomQuality, n / 2));
  judge();
  if (!common_.json) {
    for (const auto& [reason, count] : unjudged_)
      print("     {} more attempts ended before the gates looked, and do not count: {}\n", count, reason);
  }
  const std::string command = fmt::format("ruvltra eval sona-null --seed {} --attempts {}", common_.seed, n);
  return gates_.finish("sona-null", command, trial.label(), common_.seed, raw());
}

}  // namespace

Experiment sona_null_experiment() { return trial_experiment<NullEval>("sona-null"); }

}  // namespace ruvltra

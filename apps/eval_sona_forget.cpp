// `eval sona-forget`: a model is taught one author, then another. What does the second cost the first, and
// how much of that does EWC++ save at what price?
//
// The gates on canary and drift are opened: what they forbid cannot be forgotten. That on |delta| / |h|
// stays: answers are made within its limit whatever was learned. The second author goes on, portion by
// portion, until nothing of the first is kept: neither to be rehearsed, nor for the gate on evidence, which
// else refuses what costs the first author more than it brings.
//
// The second author is rewritten by rule (sona_house_words.h).
#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "base/file.h"
#include "console.h"
#include "sona_house_words.h"
#include "sona_trial.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{64} << 20;
constexpr size_t kWindows = 32;
constexpr double kTaughtShare = 0.7;
constexpr int kPortions = 3;  // of the second author
const std::vector<double> kLambdas = {0, 250, 500, 1000, 2000, 4000};
constexpr double kJudged = 1000;  // the default, which the gates are about
constexpr double kMinCut = 0.5, kMaxLoss = 0.25;

// One author after another, at one lambda. NLLs are means over held-out windows, in nat per token.
struct Outcome {
  double lambda = 0;
  uint64_t seed = 0;
  double first_base = 0, first_learned = 0, first_left = 0;
  double second_before = 0, second_learned = 0;
  // Of the first, by the learner itself on blocks it kept; absent where it did not compare.
  std::optional<double> told;
  bool accepted = false;  // both
  std::string hash;       // of what was live in the end
  double forgotten() const { return first_left - first_learned; }
  double gained() const { return second_before - second_learned; }
};

class ForgetEval {
 public:
  ForgetEval(const ExperimentOptions& common, const TrialOptions& own, std::vector<double> lambdas,
             bool as_is)
      : common_(common), own_(own), lambdas_(std::move(lambdas)), as_is_(as_is), gates_(common.json) {}
  Result<int> run();

 private:
  Result<void> one(SonaTrial& trial, double lambda, uint64_t seed);
  // What was published last, or why nothing was.
  Result<LearningReport> teach(SonaTrial& trial, const std::string& text, int n_portions, uint64_t seed,
                               const Scope& scope);
  std::vector<const Outcome*> at(double lambda) const;
  void judge();

  const ExperimentOptions& common_;
  const TrialOptions& own_;
  const std::vector<double> lambdas_;
  const bool as_is_;
  Gates gates_;
  std::string first_, second_;
  std::vector<Window> first_rest_, second_rest_;
  std::vector<Outcome> outcomes_;
  std::string label_;
};

Result<LearningReport> ForgetEval::teach(SonaTrial& trial, const std::string& text, int n_portions,
                                         uint64_t seed, const Scope& scope) {
  const auto n_bytes = static_cast<size_t>(kTaughtShare * static_cast<double>(text.size()));
  const auto n_tokens = static_cast<size_t>(own_.n_tokens);
  const double u = std::fmod(0.618033988749895 * static_cast<double>(seed), 1.0);
  // Few tokens are longer than four bytes on average.
  const size_t needed = 5 * n_tokens * static_cast<size_t>(n_portions);
  auto at = static_cast<size_t>(u * static_cast<double>(n_bytes > needed ? n_bytes - needed : 0));
  LearningReport last;
  for (int i = 0; i < n_portions; ++i) {
    ASSIGN_OR_RETURN(const std::string part,
                     cut(trial.model(), std::string_view(text).substr(0, n_bytes), at, n_tokens));
    at += part.size();
    RETURN_IF_ERROR(trial.sona().teach(part, scope));
    ASSIGN_OR_RETURN(LearningReport report, trial.sona().learn(scope));
    if (report.accepted || !last.accepted) last = std::move(report);
  }
  return last;
}

Result<void> ForgetEval::one(SonaTrial& trial, double lambda, uint64_t seed) {
  Outcome out;
  out.lambda = lambda;
  out.seed = seed;
  const Scope scope{.tenant = fmt::format("trial-{}", seed), .session = {}};
  const auto measure = [&](const std::vector<Window>& windows,
                           const std::optional<Scope>& whose) -> Result<double> {
    ASSIGN_OR_RETURN(const auto values, trial.nll(windows, whose));
    return mean_of(values);
  };
  ASSIGN_OR_RETURN(out.first_base, measure(first_rest_, std::nullopt));
  RETURN_IF_ERROR(trial.sona().begin_task(scope, "first"));
  ASSIGN_OR_RETURN(const LearningReport first, teach(trial, first_, 1, seed, scope));
  ASSIGN_OR_RETURN(out.first_learned, measure(first_rest_, scope));
  ASSIGN_OR_RETURN(out.second_before, measure(second_rest_, scope));
  RETURN_IF_ERROR(trial.sona().begin_task(scope, "second"));
  ASSIGN_OR_RETURN(const LearningReport second, teach(trial, second_, kPortions, seed, scope));
  ASSIGN_OR_RETURN(out.first_left, measure(first_rest_, scope));
  ASSIGN_OR_RETURN(out.second_learned, measure(second_rest_, scope));
  out.accepted = first.accepted && second.accepted;
  for (const TaskForgetting& task : second.forgetting)
    if (task.task == "first") out.told = task.nat;
  out.hash = trial.sona().live(scope).hash;
  if (!common_.json) {
    print("{:>6} {:>5} {:>9.4f} {:>9.4f} {:>9.4f} {:>10.4f} {:>9} {:>10.4f}  {}\n", lambda, seed,
          out.first_base, out.first_learned, out.first_left, out.forgotten(),
          out.told ? fmt::format("{:.4f}", *out.told) : "-", out.gained(),
          out.accepted     ? ""
          : first.accepted ? second.reason
                           : first.reason);
  }
  outcomes_.push_back(std::move(out));
  return {};
}

std::vector<const Outcome*> ForgetEval::at(double lambda) const {
  std::vector<const Outcome*> found;
  for (const Outcome& outcome : outcomes_)
    if (outcome.lambda == lambda) found.push_back(&outcome);
  return found;
}

void ForgetEval::judge() {
  const auto plain = at(0), judged = at(kJudged);
  std::vector<double> cuts, losses;
  size_t n_other_weights = 0, n_accepted = 0;
  for (size_t i = 0; i < judged.size(); ++i) {
    // Where an author was refused there is nothing to compare; the last gate counts it.
    if (judged[i]->accepted && plain[i]->accepted) {
      cuts.push_back(1 - judged[i]->forgotten() / plain[i]->forgotten());
      losses.push_back(1 - judged[i]->gained() / plain[i]->gained());
    }
    n_other_weights += judged[i]->hash != plain[i]->hash;
  }
  for (const Outcome& outcome : outcomes_) n_accepted += outcome.accepted;
  std::vector<double> forgotten;
  for (const Outcome* outcome : plain) forgotten.push_back(outcome->forgotten());
  const auto spoken = [](const MeanInterval& i) {
    return fmt::format("{:.1f} % [{:.1f}, {:.1f}]", 100 * i.mean, 100 * i.low, 100 * i.high);
  };
  const MeanInterval there = t_interval(forgotten), cut_by = t_interval(cuts), loss = t_interval(losses);
  gates_.add("without EWC the first author is forgotten", there.low > 0,
             fmt::format("{:.4f} nat [{:.4f}, {:.4f}]", there.mean, there.low, there.high));
  gates_.add("lambda 1000: forgetting cut by at least 50 %", cut_by.mean >= kMinCut && cut_by.low > 0,
             spoken(cut_by));
  gates_.add("lambda 1000: at most 25 % of the second author's gain lost", loss.mean <= kMaxLoss,
             spoken(loss));
  gates_.add("lambda changes the weights", n_other_weights == judged.size(),
             fmt::format("{} of {} trials", n_other_weights, judged.size()));
  gates_.add("both authors were published", n_accepted == outcomes_.size(),
             fmt::format("{} of {}", n_accepted, outcomes_.size()));
}

Result<int> ForgetEval::run() {
  for (const double needed : {0.0, kJudged}) {
    if (std::find(lambdas_.begin(), lambdas_.end(), needed) == lambdas_.end())
      return fail(ErrorKind::kUsage, "eval.lambdas", "--lambdas: expected {} among them, found {}", needed,
                  fmt::join(lambdas_, ","));
  }
  ASSIGN_OR_RETURN(first_, read_text_file(own_.author, kMaxTextBytes));
  ASSIGN_OR_RETURN(second_, read_text_file(own_.second, kMaxTextBytes));
  if (!as_is_) second_ = rewritten(second_);
  for (const double lambda : lambdas_) {
    ASSIGN_OR_RETURN(SonaTrial trial, SonaTrial::open(common_, [&](MediumConfig& config) {
                       config.sona_config.gates.max_canary_rise = 1;
                       config.sona_config.gates.max_drift = 10;
                       config.sona_config.ewc_lambda = static_cast<float>(lambda);
                     }));
    if (first_rest_.empty()) {
      const auto rest = [](const std::string& text) {
        return static_cast<size_t>(kTaughtShare * static_cast<double>(text.size())) + 1000;
      };
      ASSIGN_OR_RETURN(first_rest_, trial.windows(first_, rest(first_), kWindows));
      ASSIGN_OR_RETURN(second_rest_, trial.windows(second_, rest(second_), kWindows));
      label_ = trial.label();
      if (!common_.json) {
        print("{}\n{:>6} {:>5} {:>9} {:>9} {:>9} {:>10} {:>9} {:>10}\n", label_, "lambda", "seed", "NLL 1st",
              "learned", "after 2nd", "forgotten", "told", "2nd gains");
      }
    }
    for (int i = 0; i < own_.n_seeds; ++i)
      RETURN_IF_ERROR(one(trial, lambda, common_.seed + static_cast<uint64_t>(i)));
  }
  judge();
  Json raw = Json::array();
  for (const Outcome& o : outcomes_) {
    raw.push_back({{"lambda", o.lambda},
                   {"seed", o.seed},
                   {"first_base", o.first_base},
                   {"first_learned", o.first_learned},
                   {"first_left", o.first_left},
                   {"second_before", o.second_before},
                   {"second_learned", o.second_learned},
                   {"told", o.told ? Json(*o.told) : Json(nullptr)},
                   {"accepted", o.accepted},
                   {"hash", o.hash}});
  }
  const std::string command = fmt::format(
      "ruvltra eval sona-forget --seed {} --trials {} --taught {} --author {} --second-author {} --lambdas "
      "{}{}",
      common_.seed, own_.n_seeds, own_.n_tokens, own_.author, own_.second, fmt::join(lambdas_, ","),
      as_is_ ? " --as-is" : "");
  return gates_.finish("sona-forget", command, label_, common_.seed, std::move(raw));
}

}  // namespace

Experiment sona_forget_experiment() {
  auto own = std::make_shared<std::shared_ptr<const TrialOptions>>();
  auto lambdas = std::make_shared<std::vector<double>>(kLambdas);
  auto as_is = std::make_shared<bool>(false);
  return {
      "sona-forget",
      [own, lambdas, as_is](CLI::App& app) {
        auto names = add_trial_options(app, *own);
        app.add_option("--lambdas", *lambdas, "sona-forget: strengths of EWC, 0 and 1000 among them")
            ->delimiter(',')
            ->check(in_range(0, 1'000'000))
            ->configurable(false);
        app.add_flag("--as-is", *as_is, "sona-forget: do not rewrite the second author")->configurable(false);
        names.emplace_back("--lambdas");
        names.emplace_back("--as-is");
        return names;
      },
      [own, lambdas, as_is](const ExperimentOptions& common) {
        return ForgetEval(common, **own, *lambdas, *as_is).run();
      }};
}

}  // namespace ruvltra

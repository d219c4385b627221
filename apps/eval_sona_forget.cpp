// `eval sona-forget`: a model is taught one author, then another. What does the second cost the first, and
// how much of that does EWC++ save at what price?
//
// The gates on canary and drift are opened: what they forbid cannot be forgotten. The second author brings
// more tokens than records are kept, so nothing of the first is rehearsed.
#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "console.h"
#include "sona_trial.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{64} << 20;
constexpr size_t kWindows = 32;
constexpr double kTaughtShare = 0.7;
constexpr double kLambdas[] = {0, 250, 500, 1000, 2000, 4000};
constexpr double kJudged = 1000;  // the default, which the gates are about
constexpr double kMinCut = 0.5, kMaxLoss = 0.25;

// One author after another, at one lambda. NLLs are means over held-out windows, in nat per token.
struct Outcome {
  double lambda = 0;
  uint64_t seed = 0;
  double first_base = 0, first_learned = 0, first_left = 0;
  double second_before = 0, second_learned = 0;
  bool accepted = false;  // both
  std::string hash;       // of what was live in the end
  double forgotten() const { return first_left - first_learned; }
  double gained() const { return second_before - second_learned; }
};

class ForgetEval {
 public:
  ForgetEval(const ExperimentOptions& common, const TrialOptions& own)
      : common_(common), own_(own), gates_(common.json) {}
  Result<int> run();

 private:
  Result<void> one(SonaTrial& trial, double lambda, uint64_t seed);
  Result<LearningReport> teach(SonaTrial& trial, const std::string& text, uint64_t seed, const Scope& scope);
  std::vector<const Outcome*> at(double lambda) const;
  void judge();

  const ExperimentOptions& common_;
  const TrialOptions& own_;
  Gates gates_;
  std::string first_, second_;
  std::vector<Window> first_rest_, second_rest_;
  std::vector<Outcome> outcomes_;
  std::string label_;
};

Result<LearningReport> ForgetEval::teach(SonaTrial& trial, const std::string& text, uint64_t seed,
                                         const Scope& scope) {
  const auto n_bytes = static_cast<size_t>(kTaughtShare * static_cast<double>(text.size()));
  const auto n_tokens = static_cast<size_t>(own_.n_tokens);
  const double u = std::fmod(0.618033988749895 * static_cast<double>(seed), 1.0);
  // Few tokens are longer than four bytes on average.
  const size_t room = n_bytes > 5 * n_tokens ? n_bytes - 5 * n_tokens : 0;
  ASSIGN_OR_RETURN(const std::string part, cut(trial.model(), std::string_view(text).substr(0, n_bytes),
                                               static_cast<size_t>(u * static_cast<double>(room)), n_tokens));
  RETURN_IF_ERROR(trial.sona().teach(part, scope));
  return trial.sona().learn(scope);
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
  ASSIGN_OR_RETURN(const LearningReport first, teach(trial, first_, seed, scope));
  ASSIGN_OR_RETURN(out.first_learned, measure(first_rest_, scope));
  ASSIGN_OR_RETURN(out.second_before, measure(second_rest_, scope));
  RETURN_IF_ERROR(trial.sona().begin_task(scope, "second"));
  ASSIGN_OR_RETURN(const LearningReport second, teach(trial, second_, seed, scope));
  ASSIGN_OR_RETURN(out.first_left, measure(first_rest_, scope));
  ASSIGN_OR_RETURN(out.second_learned, measure(second_rest_, scope));
  out.accepted = first.accepted && second.accepted;
  out.hash = trial.sona().live(scope).hash;
  if (!common_.json) {
    print("{:>6} {:>5} {:>9.4f} {:>9.4f} {:>9.4f} {:>10.4f} {:>10.4f}  {}\n", lambda, seed, out.first_base,
          out.first_learned, out.first_left, out.forgotten(), out.gained(),
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
    cuts.push_back(1 - judged[i]->forgotten() / plain[i]->forgotten());
    losses.push_back(1 - judged[i]->gained() / plain[i]->gained());
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
  ASSIGN_OR_RETURN(first_, read_text_file(own_.author, kMaxTextBytes));
  ASSIGN_OR_RETURN(second_, read_text_file(own_.second, kMaxTextBytes));
  for (const double lambda : kLambdas) {
    ASSIGN_OR_RETURN(SonaTrial trial, SonaTrial::open(common_, [&](MediumConfig& config) {
                       config.sona_config.gates = {
                           .max_canary_rise = 1, .max_drift = 10, .max_delta_ratio = 1};
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
        print("{}\n{:>6} {:>5} {:>9} {:>9} {:>9} {:>10} {:>10}\n", label_, "lambda", "seed", "NLL 1st",
              "learned", "after 2nd", "forgotten", "2nd gains");
      }
    }
    for (int i = 0; i < own_.n_seeds; ++i)
      RETURN_IF_ERROR(one(trial, lambda, common_.seed + static_cast<uint64_t>(i)));
  }
  judge();
  if (common_.json) {
    Json raw = Json::array();
    for (const Outcome& o : outcomes_) {
      raw.push_back({{"lambda", o.lambda},
                     {"seed", o.seed},
                     {"first_base", o.first_base},
                     {"first_learned", o.first_learned},
                     {"first_left", o.first_left},
                     {"second_before", o.second_before},
                     {"second_learned", o.second_learned},
                     {"accepted", o.accepted},
                     {"hash", o.hash}});
    }
    const std::string command = fmt::format(
        "ruvltra eval sona-forget --seed {} --trials {} --taught {} --author {} --second-author {}",
        common_.seed, own_.n_seeds, own_.n_tokens, own_.author, own_.second);
    print("{}\n", to_json(gates_.document("sona-forget", command, label_, common_.seed, std::move(raw))));
  }
  return gates_.passed() ? kExitOk : kExitFailure;
}

}  // namespace

Experiment sona_forget_experiment() {
  auto own = std::make_shared<std::shared_ptr<const TrialOptions>>();
  return {"sona-forget", [own](CLI::App& app) { return add_trial_options(app, *own); },
          [own](const ExperimentOptions& common) { return ForgetEval(common, **own).run(); }};
}

}  // namespace ruvltra

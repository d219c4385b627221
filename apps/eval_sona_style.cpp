// `eval sona-style`: a model is taught an author it has never seen, in portions, through the whole pipeline
// with its gates. How much better does it predict the rest of that author, and what does it cost elsewhere?
//
// How much there was to gain: G, the held-out gain of the same fit without any gate. A cap of k nat on the
// drift lets about 2 sqrt(k / G) - k / G of G through (docs/learning.md); half of that is the gate.
#include <algorithm>
#include <cmath>

#include "bank_stream.h"
#include "base/fail.h"
#include "base/file.h"
#include "console.h"
#include "sona_trial.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{64} << 20;
constexpr int kPortions = 5;
constexpr size_t kHeldOutWindows = 40;
constexpr double kMaxHarmPercent = 0.5, kShareOfCap = 0.5;
constexpr double kTaughtShare = 0.7;  // of the author's text; the rest is never taught

struct Trial {
  uint64_t seed = 0;
  std::vector<double> curve;             // relative change of held-out NLL in %, after each portion
  std::vector<size_t> tokens;            // taught by then
  double author = 0, other = 0;          // change in %
  double gain = 0, ungated = 0;          // nat per token
  double needed = 0;                     // of `gain`
  bool pinned = false, cleared = false;  // bits: by generation 0; after a reset
  std::vector<LearningReport> reports;
};

class StyleEval {
 public:
  StyleEval(const ExperimentOptions& common, const TrialOptions& own)
      : common_(common), own_(own), gates_(common.json) {}

  Result<int> run();

 private:
  Result<void> one(SonaTrial& trial, SonaTrial& open_gates, int i);
  void tell(const Trial& trial) const;
  void judge();

  const ExperimentOptions& common_;
  const TrialOptions& own_;
  Gates gates_;
  std::string author_;
  std::vector<Window> held_out_, other_;
  std::vector<double> base_held_out_, base_other_;
  std::vector<double> changes_author_, bases_author_, changes_other_, bases_other_;  // all trials' windows
  std::vector<Trial> trials_;
  double cap_ = 0;
};

Result<void> StyleEval::one(SonaTrial& trial, SonaTrial& open_gates, int i) {
  Trial out;
  out.seed = common_.seed + static_cast<uint64_t>(i);
  const Scope scope{.tenant = fmt::format("trial-{}", out.seed), .session = {}};
  // Portions from places of the seed's, all inside what may be taught.
  const auto taught_bytes = static_cast<size_t>(kTaughtShare * static_cast<double>(author_.size()));
  const auto n_portion = static_cast<size_t>(own_.n_tokens) / kPortions;
  std::string all;
  for (int k = 0; k < kPortions; ++k) {
    const double u =
        std::fmod(0.618033988749895 * static_cast<double>(out.seed) + k * (1.0 / kPortions), 1.0);
    const auto begin = static_cast<size_t>(u * static_cast<double>(taught_bytes - n_portion * 8));
    ASSIGN_OR_RETURN(const std::string text, cut(trial.model(), author_, begin, n_portion));
    all += text;
    ASSIGN_OR_RETURN(const size_t n, trial.sona().teach(text, scope));
    ASSIGN_OR_RETURN(const LearningReport report, trial.sona().learn(scope));
    out.reports.push_back(report);
    out.tokens.push_back((out.tokens.empty() ? 0 : out.tokens.back()) + n);
    ASSIGN_OR_RETURN(const auto now, trial.nll(held_out_, scope));
    out.curve.push_back(100 * (mean_of(now) / mean_of(base_held_out_) - 1));
  }
  ASSIGN_OR_RETURN(const auto author, trial.nll(held_out_, scope));
  ASSIGN_OR_RETURN(const auto other, trial.nll(other_, scope));
  for (size_t w = 0; w < author.size(); ++w) {
    changes_author_.push_back(author[w] - base_held_out_[w]);
    bases_author_.push_back(base_held_out_[w]);
  }
  for (size_t w = 0; w < other.size(); ++w) {
    changes_other_.push_back(other[w] - base_other_[w]);
    bases_other_.push_back(base_other_[w]);
  }
  out.author = 100 * (mean_of(author) / mean_of(base_held_out_) - 1);
  out.other = 100 * (mean_of(other) / mean_of(base_other_) - 1);
  out.gain = mean_of(base_held_out_) - mean_of(author);

  RETURN_IF_ERROR(open_gates.sona().teach(all, scope));
  RETURN_IF_ERROR(open_gates.sona().learn(scope));
  ASSIGN_OR_RETURN(const auto ungated, open_gates.nll(held_out_, scope));
  out.ungated = mean_of(base_held_out_) - mean_of(ungated);
  const double ratio = cap_ / std::max(out.ungated, cap_);
  out.needed = kShareOfCap * (2 * std::sqrt(ratio) - ratio) * std::max(out.ungated, 0.0);

  // On and off by what a request asks for, and gone after a reset.
  const std::span<const Window> few = std::span(held_out_).first(4);
  ASSIGN_OR_RETURN(const std::string base, trial.bits(few, std::nullopt));
  ASSIGN_OR_RETURN(const std::string live, trial.bits(few, scope));
  out.pinned = live != base;
  ASSIGN_OR_RETURN(const GenerationInfo reset, trial.sona().reset(scope));
  ASSIGN_OR_RETURN(const std::string cleared, trial.bits(few, scope));
  RETURN_IF_ERROR(trial.sona().rollback(scope, reset.parent));
  ASSIGN_OR_RETURN(const std::string again, trial.bits(few, scope));
  out.cleared = cleared == base && again == live;
  tell(out);
  trials_.push_back(std::move(out));
  return {};
}

void StyleEval::tell(const Trial& trial) const {
  if (common_.json) return;
  std::string curve;
  for (const double percent : trial.curve) curve += fmt::format(" {:+.2f}", percent);
  print("{:>5} {:>9.2f} {:>9.2f} {:>10.4f} {:>10.4f} {:>10.4f}   {}\n", trial.seed, trial.author, trial.other,
        trial.gain, trial.ungated, trial.needed, curve);
}

void StyleEval::judge() {
  const RelativeChange author = bootstrap_change(changes_author_, bases_author_, common_.seed);
  const RelativeChange other = bootstrap_change(changes_other_, bases_other_, common_.seed);
  const auto spoken = [](const RelativeChange& change) {
    return fmt::format("{:+.2f} % [{:+.2f}, {:+.2f}]", change.percent, change.low, change.high);
  };
  gates_.add("the author's unseen rest: NLL lower", author.high < 0, spoken(author));
  gates_.add("other text: NLL at most +0.5 %", other.high <= kMaxHarmPercent, spoken(other));
  std::vector<double> gains, needed;
  size_t n_pinned = 0, n_cleared = 0;
  for (const Trial& trial : trials_) {
    gains.push_back(trial.gain);
    needed.push_back(trial.needed);
    n_pinned += trial.pinned;
    n_cleared += trial.cleared;
  }
  gates_.add("at least half of what the cap on drift lets through", mean_of(gains) >= mean_of(needed),
             fmt::format("{:.4f} nat, needed {:.4f}", mean_of(gains), mean_of(needed)));
  gates_.add("learned weights change the bits, reset and rollback bring them back",
             n_pinned == trials_.size() && n_cleared == trials_.size(),
             fmt::format("{} and {} of {} trials", n_pinned, n_cleared, trials_.size()));
}

Result<int> StyleEval::run() {
  ASSIGN_OR_RETURN(author_, read_text_file(own_.author, kMaxTextBytes));
  ASSIGN_OR_RETURN(const std::string other, read_text_file(own_.other, kMaxTextBytes));
  ASSIGN_OR_RETURN(SonaTrial trial, SonaTrial::open(common_));
  ASSIGN_OR_RETURN(SonaTrial open_gates, SonaTrial::open(common_, [](MediumConfig& config) {
                     config.sona_config.gates = {.max_canary_rise = 1, .max_drift = 10, .max_delta_ratio = 1};
                   }));
  cap_ = static_cast<double>(trial.model().config().sona_config.gates.max_drift);
  const auto rest = static_cast<size_t>(kTaughtShare * static_cast<double>(author_.size()));
  ASSIGN_OR_RETURN(held_out_, trial.windows(author_, rest + 1000, kHeldOutWindows));
  ASSIGN_OR_RETURN(other_, trial.windows(other, 0, kHeldOutWindows));
  ASSIGN_OR_RETURN(base_held_out_, trial.nll(held_out_, std::nullopt));
  ASSIGN_OR_RETURN(base_other_, trial.nll(other_, std::nullopt));
  if (!common_.json) {
    print("{}: NLL of the author {:.4f}, of other text {:.4f}\n", trial.label(), mean_of(base_held_out_),
          mean_of(base_other_));
    print("{:>5} {:>9} {:>9} {:>10} {:>10} {:>10}   {}\n", "seed", "author, %", "other, %", "gain, nat",
          "no gates", "needed", "author, % after each portion");
  }
  for (int i = 0; i < own_.n_seeds; ++i) RETURN_IF_ERROR(one(trial, open_gates, i));
  judge();
  Json raw = Json::array();
  for (const Trial& t : trials_) {
    Json reports = Json::array();
    for (const LearningReport& report : t.reports)
      reports.push_back({{"accepted", report.accepted},
                         {"reason", report.reason},
                         {"canary_kl", report.canary_kl},
                         {"canary_rise", report.canary_rise},
                         {"delta_p999", report.delta_p999}});
    raw.push_back({{"seed", t.seed},
                   {"author_percent", t.author},
                   {"other_percent", t.other},
                   {"gain", t.gain},
                   {"ungated_gain", t.ungated},
                   {"needed", t.needed},
                   {"tokens", t.tokens},
                   {"curve_percent", t.curve},
                   {"reports", reports}});
  }
  const std::string command =
      fmt::format("ruvltra eval sona-style --seed {} --trials {} --taught {} --author {} --other {}",
                  common_.seed, own_.n_seeds, own_.n_tokens, own_.author, own_.other);
  return gates_.finish("sona-style", command, trial.label(), common_.seed, std::move(raw));
}

}  // namespace

Experiment sona_style_experiment() { return trial_experiment<StyleEval>("sona-style"); }

}  // namespace ruvltra

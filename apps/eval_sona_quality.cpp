// `eval sona-quality`: a model is told of each answer only whether it showed what was wanted, and of none
// what should have been said. Does it show it more often where nobody asked before? And if the same opinions
// are dealt out at random?
//
// Wanted is direct speech among the first 48 tokens of a story. Both arms answer the same requests with the
// same random numbers, learn by the same calls, and are measured on requests neither was ever asked.
#include <algorithm>
#include <random>

#include "bank_stream.h"
#include "base/fail.h"
#include "base/file.h"
#include "console.h"
#include "sona_stories.h"
#include "sona_trial.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{64} << 20;
constexpr int kAnswerTokens = 48;
// Fewer opinions at a time than the learner waits for before it tries by itself: what happens depends on the
// seed alone.
constexpr size_t kBatch = 96;
constexpr size_t kHeldOutPrompts = 400;
constexpr size_t kOtherWindows = 16;
constexpr double kMaxHarmPercent = 0.5;

struct Arm {
  size_t n_told = 0, n_shown = 0;  // answers with an opinion; of these, those that showed it
  size_t n_published = 0;
  double rate = 0;   // held out, under what is live at the end
  double other = 0;  // change of other text's NLL in %
  std::vector<LearningReport> reports;
  Json json() const;
};

struct Trial {
  uint64_t seed = 0;
  double base_rate = 0;
  Arm taught, control;
};

Json Arm::json() const {
  Json out{{"answers", n_told},     {"shown", n_shown},       {"published", n_published},
           {"held_out_rate", rate}, {"other_percent", other}, {"reports", Json::array()}};
  for (const LearningReport& report : reports) {
    out["reports"].push_back({{"accepted", report.accepted},
                              {"reason", report.reason},
                              {"gain", report.nll_before - report.nll_after},
                              {"gain_lower_bound", report.gain_lower_bound},
                              {"canary_kl", report.canary_kl},
                              {"canary_rise", report.canary_rise},
                              {"train_tokens", report.n_train_tokens},
                              {"held_out_tokens", report.n_held_out_tokens}});
  }
  return out;
}

class QualityEval {
 public:
  QualityEval(const ExperimentOptions& common, const TrialOptions& own)
      : common_(common), own_(own), gates_(common.json) {}

  Result<int> run();

 private:
  Result<Trial> one(SonaTrial& trial, uint64_t seed);
  Result<Arm> teach(SonaTrial& trial, uint64_t seed, bool permuted);
  Result<double> rate(SonaTrial& trial, uint64_t seed, const Scope& scope, std::optional<uint64_t> adapter);
  void judge();
  size_t n_held_out() const {
    return own_.n_attempts > 0 ? static_cast<size_t>(own_.n_attempts) : kHeldOutPrompts;
  }
  // The last of the seed's order, so that more of one kind never moves the other.
  std::vector<std::string> prompts(uint64_t seed, bool held_out) const;

  const ExperimentOptions& common_;
  const TrialOptions& own_;
  Gates gates_;
  std::vector<Window> other_;
  std::vector<double> base_other_;
  std::vector<double> changes_other_, bases_other_;  // of the taught arms, all trials' windows
  std::vector<Trial> trials_;
};

std::vector<std::string> QualityEval::prompts(uint64_t seed, bool held_out) const {
  std::vector<std::string> all = story_prompts(SIZE_MAX, seed);
  const auto cut = static_cast<ptrdiff_t>(all.size() - std::min(n_held_out(), all.size() / 2));
  return held_out ? std::vector(all.begin() + cut, all.end()) : std::vector(all.begin(), all.begin() + cut);
}

Result<double> QualityEval::rate(SonaTrial& trial, uint64_t seed, const Scope& scope,
                                 std::optional<uint64_t> adapter) {
  const auto held_out = prompts(seed, true);
  const StoryOptions options{.scope = scope, .adapter = adapter, .n_tokens = kAnswerTokens, .record = false};
  ASSIGN_OR_RETURN(const auto answers, tell_stories(trial.model(), held_out, seed << 32, options));
  const auto n = static_cast<double>(std::count_if(answers.begin(), answers.end(), has_speech));
  return n / static_cast<double>(answers.size());
}

Result<Arm> QualityEval::teach(SonaTrial& trial, uint64_t seed, bool permuted) {
  Arm arm;
  const Scope scope{.tenant = fmt::format("{}-{}", permuted ? "control" : "taught", seed), .session = {}};
  const auto asked = prompts(seed, false);
  std::mt19937_64 random(seed);
  const size_t n_answers = static_cast<size_t>(own_.n_tokens) / kAnswerTokens;
  while (arm.n_told < n_answers) {
    const size_t n = std::min(kBatch, n_answers - arm.n_told);
    std::vector<std::string> batch;
    for (size_t i = 0; i < n; ++i) batch.push_back(asked[(arm.n_told + i) % asked.size()]);
    // Told under what is live by now, as a user would see it.
    ASSIGN_OR_RETURN(const auto answers,
                     tell_stories(trial.model(), batch, (seed << 32) + (1u << 20) + arm.n_told,
                                  {.scope = scope, .n_tokens = kAnswerTokens}));
    std::vector<double> qualities;
    for (const Generation& answer : answers) qualities.push_back(has_speech(answer) ? 1 : 0);
    arm.n_told += n;
    for (const double quality : qualities) arm.n_shown += quality > 0 ? 1 : 0;
    if (permuted) {
      for (size_t i = n; i > 1; --i) std::swap(qualities[i - 1], qualities[random() % i]);
    }
    for (size_t i = 0; i < n; ++i)
      RETURN_IF_ERROR(trial.sona().feedback(answers[i].id, {.quality = qualities[i]}, scope));
    ASSIGN_OR_RETURN(const LearningReport report, trial.sona().learn(scope));
    arm.n_published += report.accepted ? 1 : 0;
    arm.reports.push_back(report);
  }
  ASSIGN_OR_RETURN(arm.rate, rate(trial, seed, scope, {}));
  ASSIGN_OR_RETURN(const auto other, trial.nll(other_, scope));
  arm.other = 100 * (mean_of(other) / mean_of(base_other_) - 1);
  for (size_t w = 0; w < other.size() && !permuted; ++w) {
    changes_other_.push_back(other[w] - base_other_[w]);
    bases_other_.push_back(base_other_[w]);
  }
  return arm;
}

Result<Trial> QualityEval::one(SonaTrial& trial, uint64_t seed) {
  Trial out;
  out.seed = seed;
  ASSIGN_OR_RETURN(out.base_rate, rate(trial, seed, {}, 0));
  ASSIGN_OR_RETURN(out.taught, teach(trial, seed, false));
  ASSIGN_OR_RETURN(out.control, teach(trial, seed, true));
  if (!common_.json) {
    print("{:>5} {:>7.3f} {:>7.3f} {:>+7.3f} {:>10} {:>8.2f}   {:>7.3f} {:>+7.3f} {:>10}\n", seed,
          out.base_rate, out.taught.rate, out.taught.rate - out.base_rate, out.taught.n_published,
          out.taught.other, out.control.rate, out.control.rate - out.base_rate, out.control.n_published);
  }
  return out;
}

void QualityEval::judge() {
  std::vector<double> rises, control;
  size_t n_control = 0;
  for (const Trial& trial : trials_) {
    rises.push_back(trial.taught.rate - trial.base_rate);
    control.push_back(trial.control.rate - trial.base_rate);
    n_control += trial.control.n_published;
  }
  const MeanInterval rise = t_interval(rises), same = t_interval(control);
  const auto spoken = [](const MeanInterval& i) {
    return fmt::format("{:+.3f} [{:+.3f}, {:+.3f}]", i.mean, i.low, i.high);
  };
  gates_.add("what was praised is shown more often, held out", trials_.size() > 1 && rise.low > 0,
             spoken(rise));
  gates_.add("the same praise dealt out at random changes nothing",
             n_control == 0 || (same.low <= 0 && same.high >= 0),
             fmt::format("{}, {} generations", spoken(same), n_control));
  const RelativeChange other = bootstrap_change(changes_other_, bases_other_, common_.seed);
  gates_.add("other text: NLL at most +0.5 %", other.high <= kMaxHarmPercent,
             fmt::format("{:+.2f} % [{:+.2f}, {:+.2f}]", other.percent, other.low, other.high));
}

Result<int> QualityEval::run() {
  ASSIGN_OR_RETURN(const std::string other, read_text_file(own_.other, kMaxTextBytes));
  ASSIGN_OR_RETURN(SonaTrial trial, SonaTrial::open(common_));
  ASSIGN_OR_RETURN(other_, trial.windows(other, 0, kOtherWindows));
  ASSIGN_OR_RETURN(base_other_, trial.nll(other_, std::nullopt));
  if (!common_.json) {
    print("{}: direct speech in the first {} tokens of a story, {} held-out requests\n", trial.label(),
          kAnswerTokens, n_held_out());
    print("{:>5} {:>7} {:>7} {:>7} {:>10} {:>8}   {:>7} {:>7} {:>10}\n", "seed", "base", "taught", "rise",
          "published", "other, %", "control", "rise", "published");
  }
  for (int i = 0; i < own_.n_seeds; ++i) {
    ASSIGN_OR_RETURN(Trial out, one(trial, common_.seed + static_cast<uint64_t>(i)));
    trials_.push_back(std::move(out));
  }
  judge();
  Json raw = Json::array();
  for (const Trial& t : trials_)
    raw.push_back({{"seed", t.seed},
                   {"base_rate", t.base_rate},
                   {"taught", t.taught.json()},
                   {"control", t.control.json()}});
  const std::string command =
      fmt::format("ruvltra eval sona-quality --seed {} --trials {} --taught {} --attempts {}", common_.seed,
                  own_.n_seeds, own_.n_tokens, n_held_out());
  return gates_.finish("sona-quality", command, trial.label(), common_.seed, std::move(raw));
}

}  // namespace

Experiment sona_quality_experiment() { return trial_experiment<QualityEval>("sona-quality"); }

}  // namespace ruvltra

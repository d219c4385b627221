// `eval sona-boundary`: does a learner notice by itself that another task has begun, how soon, and how often
// does it where none has?
//
// A model is taught one author and publishes. The author goes on with text it has not seen: every boundary
// found there is a false alarm. Then the second author begins, without a word: how many blocks of 64 tokens
// until it is noticed? Nothing is published after the first time: it is the watch that is measured, not what
// follows from it.
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
constexpr size_t kBlock = 64;         // tokens, as in the watch
constexpr size_t kStreamBlocks = 16;  // told at a time while nothing should be found
constexpr size_t kBlocks = 1000;      // of the first author, and seed
constexpr size_t kMaxDelay = 32, kMostDelay = 4 * kMaxDelay;
constexpr double kMaxFalseAlarms = 1.0 / 5000;  // per block
constexpr double kFrozenSeconds = 1e8;

struct Outcome {
  uint64_t seed = 0;
  bool published = false;
  size_t n_blocks = 0, n_false = 0;
  std::optional<size_t> delay;  // blocks; absent: not found
};

class BoundaryEval {
 public:
  BoundaryEval(const ExperimentOptions& common, const TrialOptions& own)
      : common_(common), own_(own), gates_(common.json) {}
  Result<int> run();

 private:
  Result<void> one(SonaTrial& trial, uint64_t seed);
  // Waits until all that was taught is worked off.
  Result<uint64_t> boundaries_found(SonaTrial& trial);
  size_t n_blocks() const { return own_.n_attempts > 0 ? static_cast<size_t>(own_.n_attempts) : kBlocks; }
  void judge();

  const ExperimentOptions& common_;
  const TrialOptions& own_;
  Gates gates_;
  std::vector<TokenId> first_, second_;
  std::vector<Outcome> outcomes_;
};

Result<uint64_t> BoundaryEval::boundaries_found(SonaTrial& trial) {
  // Of a tenant that has nothing, it only drains the queue.
  RETURN_IF_ERROR(trial.sona().learn({.tenant = "nobody", .session = {}}));
  auto counters = trial.sona().status().adapters.counters;
  return counters["boundaries_found"];
}

Result<void> BoundaryEval::one(SonaTrial& trial, uint64_t seed) {
  Outcome out;
  out.seed = seed;
  Sona& sona = trial.sona();
  const Scope scope{.tenant = fmt::format("trial-{}", seed), .session = {}};
  const double u = std::fmod(0.618033988749895 * static_cast<double>(seed), 1.0);
  auto at = static_cast<size_t>(u * static_cast<double>(first_.size()));
  // The next n tokens of a text, which begins again where it ends.
  const auto tell = [&](const std::vector<TokenId>& text, size_t& from, size_t n) -> Result<void> {
    std::vector<TokenId> part;
    for (size_t i = 0; i < n; ++i) part.push_back(text[(from + i) % text.size()]);
    from += n;
    ASSIGN_OR_RETURN(const std::string words, trial.model().detokenize(part));
    return sona.teach(words, scope).map([](size_t) {});
  };
  RETURN_IF_ERROR(tell(first_, at, static_cast<size_t>(own_.n_tokens)));
  ASSIGN_OR_RETURN(const LearningReport learned, sona.learn(scope));
  out.published = learned.accepted;
  RETURN_IF_ERROR(sona.freeze(scope, kFrozenSeconds));
  ASSIGN_OR_RETURN(const uint64_t before, boundaries_found(trial));
  for (; out.n_blocks < n_blocks(); out.n_blocks += kStreamBlocks) {
    if (stop_requested())
      return fail(ErrorKind::kCancelled, "eval.cancelled", "evaluation: stopped on request");
    RETURN_IF_ERROR(tell(first_, at, kStreamBlocks * kBlock));
  }
  ASSIGN_OR_RETURN(const uint64_t after, boundaries_found(trial));
  out.n_false = after - before;
  auto second_at = static_cast<size_t>(u * static_cast<double>(second_.size()));
  for (size_t n = 1; n <= kMostDelay && !out.delay; ++n) {
    RETURN_IF_ERROR(tell(second_, second_at, kBlock));
    ASSIGN_OR_RETURN(const uint64_t now, boundaries_found(trial));
    if (now > after) out.delay = n;
  }
  if (!common_.json) {
    print("{:>5} {:>10} {:>8} {:>13} {:>14}\n", seed, out.published ? "yes" : learned.reason, out.n_blocks,
          out.n_false, out.delay ? fmt::format("{}", *out.delay) : "not found");
  }
  outcomes_.push_back(std::move(out));
  return {};
}

void BoundaryEval::judge() {
  size_t n_blocks = 0, n_false = 0, n_published = 0, n_in_time = 0, slowest = 0;
  for (const Outcome& out : outcomes_) {
    n_blocks += out.n_blocks;
    n_false += out.n_false;
    n_published += out.published;
    n_in_time += out.delay && *out.delay <= kMaxDelay;
    slowest = std::max(slowest, out.delay.value_or(kMostDelay));
  }
  gates_.add("the first author was published", n_published == outcomes_.size(),
             fmt::format("{} of {}", n_published, outcomes_.size()));
  gates_.add("a new task is found within 32 blocks", n_in_time == outcomes_.size(),
             fmt::format("{} of {}, the slowest after {}", n_in_time, outcomes_.size(), slowest));
  // Fewer blocks than 5,000 allow none.
  const auto most = static_cast<size_t>(kMaxFalseAlarms * static_cast<double>(n_blocks));
  gates_.add("at most one false alarm in 5,000 blocks", n_false <= most,
             fmt::format("{} in {}", n_false, n_blocks));
}

Result<int> BoundaryEval::run() {
  ASSIGN_OR_RETURN(const std::string first, read_text_file(own_.author, kMaxTextBytes));
  ASSIGN_OR_RETURN(const std::string second, read_text_file(own_.second, kMaxTextBytes));
  ASSIGN_OR_RETURN(SonaTrial trial, SonaTrial::open(common_));
  ASSIGN_OR_RETURN(first_, trial.model().tokenize(first));
  ASSIGN_OR_RETURN(second_, trial.model().tokenize(rewritten(second)));
  if (first_.size() < static_cast<size_t>(own_.n_tokens) || second_.size() < kMostDelay * kBlock)
    return fail("eval.text", "texts: expected at least {} and {} tokens, found {} and {}", own_.n_tokens,
                kMostDelay * kBlock, first_.size(), second_.size());
  if (!common_.json) {
    print("{}\n{:>5} {:>10} {:>8} {:>13} {:>14}\n", trial.label(), "seed", "published", "blocks",
          "false alarms", "found after");
  }
  for (int i = 0; i < own_.n_seeds; ++i) RETURN_IF_ERROR(one(trial, common_.seed + static_cast<uint64_t>(i)));
  judge();
  Json raw = Json::array();
  for (const Outcome& out : outcomes_) {
    raw.push_back({{"seed", out.seed},
                   {"published", out.published},
                   {"blocks", out.n_blocks},
                   {"false_alarms", out.n_false},
                   {"delay_blocks", out.delay ? Json(*out.delay) : Json(nullptr)}});
  }
  const std::string command = fmt::format(
      "ruvltra eval sona-boundary --seed {} --trials {} --taught {} --attempts {} --author {} "
      "--second-author {}",
      common_.seed, own_.n_seeds, own_.n_tokens, n_blocks(), own_.author, own_.second);
  return gates_.finish("sona-boundary", command, trial.label(), common_.seed, std::move(raw));
}

}  // namespace

Experiment sona_boundary_experiment() { return trial_experiment<BoundaryEval>("sona-boundary"); }

}  // namespace ruvltra

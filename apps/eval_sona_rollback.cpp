// `eval sona-rollback`: does going back bring back the same bits, at once and always? Jumps between published
// generations of a serving model, publishers who race for the same number, and processes that are killed
// while they publish.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "base/fail.h"
#include "base/file.h"
#include "console.h"
#include "publish_faults.h"
#include "sona_trial.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{64} << 20;
constexpr size_t kJumps = 500;
constexpr size_t kGenerations = 6, kReducedGenerations = 3;  // and the model as it is
constexpr size_t kFewJumps = 100;                            // need fewer generations
constexpr size_t kPassages = 48;  // of a portion; fewer than the learner waits for before it tries by itself
constexpr int kMaxPortions = 24;
// Far more than there are generations: with the usual 16, jumps that happen to name few of them would let go
// of the others.
constexpr int kKeep = 256;
constexpr size_t kWindows = 2;
constexpr uint64_t kJumpsOfRound = 10, kPublishers = 8;  // one round of races to so many jumps
constexpr int kRaceThreads = 4, kRaceCalls = 25;         // through the public API
constexpr double kMaxJumpSeconds = 1;

struct RollbackOptions {
  std::shared_ptr<const TrialOptions> trial;
  uint64_t n_kills = 100;
};

// A folder that goes away, whatever happens.
class WorkFolder {
 public:
  WorkFolder()
      : path_(std::filesystem::temp_directory_path() / fmt::format("ruvltra-sona-rollback-{}", getpid())) {}
  ~WorkFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class RollbackEval {
 public:
  RollbackEval(const ExperimentOptions& common, const RollbackOptions& own)
      : common_(common), own_(own), gates_(common.json) {}

  Result<int> run();

 private:
  Result<void> kills();
  Result<void> races();
  Result<void> publish(SonaTrial& trial, const std::string& text);
  Result<void> jumps(SonaTrial& trial);
  Result<void> public_races(SonaTrial& trial);
  size_t n_generations() const { return n_jumps() < kFewJumps ? kReducedGenerations : kGenerations; }
  size_t n_jumps() const {
    return own_.trial->n_attempts > 0 ? static_cast<size_t>(own_.trial->n_attempts) : kJumps;
  }

  const ExperimentOptions& common_;
  const RollbackOptions& own_;
  Gates gates_;
  WorkFolder folder_;
  Json raw_;
  const Scope scope_{.tenant = "jumper", .session = {}};
  std::vector<Window> windows_;
  std::map<std::string, std::string> bits_;  // by content, when it was published
};

// First of all: nothing else may run when a process forks.
Result<void> RollbackEval::kills() {
  if (own_.n_kills == 0) return {};
  ProgressBar bar("kills", ProgressBar::Unit::kItems, !common_.model.no_progress);
  CrashOptions options;
  options.seed = common_.seed;
  options.n = own_.n_kills;
  options.folder = folder_.path() / "kills";
  options.progress = bar.callback();
  ASSIGN_OR_RETURN(const CrashReport report, run_publish_kills(options));
  if (report.stopped) return fail(ErrorKind::kCancelled, "eval.cancelled", "evaluation: stopped on request");
  raw_["kills"] = {{"n", report.n},
                   {"acknowledged", report.n_acknowledged},
                   {"lost", report.n_lost},
                   {"mixed", report.n_half},
                   {"refused", report.n_refused},
                   {"slowest_open_ms", report.worst_open_ms},
                   {"failures", report.failures}};
  gates_.add("killed while publishing: the old one or the new one, whole",
             report.good() && report.n_acknowledged > 0,
             fmt::format("{} kills, {} acknowledged, {} lost, {} mixed, {} did not open", report.n,
                         report.n_acknowledged, report.n_lost, report.n_half, report.n_refused));
  for (const std::string& failure : report.failures) print_note(failure);
  return {};
}

Result<void> RollbackEval::races() {
  ASSIGN_OR_RETURN(const RaceReport report,
                   run_publish_races(folder_.path() / "races", common_.seed,
                                     std::max<uint64_t>(n_jumps() / kJumpsOfRound, 3), kPublishers));
  raw_["races"] = {{"rounds", report.n_rounds},
                   {"publishers", report.n_publishers},
                   {"one_winner", report.n_one_winner},
                   {"same_after_reopening", report.n_same_after}};
  gates_.add("publishers who expect the same number: exactly one wins",
             report.n_one_winner == report.n_rounds && report.n_same_after > 0,
             fmt::format("{} of {} rounds of {}", report.n_one_winner, report.n_rounds, report.n_publishers));
  return {};
}

// Adapters of different texts, made by the whole pipeline for tenants of their own, then taken over as files.
Result<void> RollbackEval::publish(SonaTrial& trial, const std::string& text) {
  const auto file = folder_.path() / "portion.rvc1";
  const size_t share = text.size() / kMaxPortions;
  size_t n_published = 0;
  for (int i = 0; i < kMaxPortions && n_published < n_generations(); ++i) {
    const Scope taught{.tenant = fmt::format("portion-{}", i), .session = {}};
    RETURN_IF_ERROR(teach_passages(trial, text, static_cast<size_t>(i) * share, kPassages, taught));
    ASSIGN_OR_RETURN(const LearningReport report, trial.sona().learn(taught));
    if (!report.accepted) continue;
    RETURN_IF_ERROR(trial.sona().export_adapter(file, taught));
    ASSIGN_OR_RETURN(const GenerationInfo live, trial.sona().import_adapter(file, scope_));
    ASSIGN_OR_RETURN(bits_[live.hash], trial.bits(windows_, scope_));
    ++n_published;
  }
  if (n_published < n_generations()) {
    return fail("eval.generations",
                "sona-rollback: expected {} portions that were learned from, found {} of {}", n_generations(),
                n_published, kMaxPortions);
  }
  ASSIGN_OR_RETURN(const GenerationInfo reset, trial.sona().reset(scope_));
  ASSIGN_OR_RETURN(bits_[reset.hash], trial.bits(windows_, std::nullopt));
  return {};
}

Result<void> RollbackEval::jumps(SonaTrial& trial) {
  ProgressBar bar("jumps", ProgressBar::Unit::kItems, !common_.model.no_progress);
  std::mt19937_64 random(common_.seed);
  size_t n_same = 0, n_named = 0;
  std::vector<double> seconds;
  for (size_t i = 0; i < n_jumps(); ++i) {
    const auto& [hash, bits] = *std::next(bits_.begin(), static_cast<ptrdiff_t>(random() % bits_.size()));
    // Any kept generation with this content.
    std::vector<uint64_t> numbers;
    for (const GenerationInfo& info : trial.sona().history(scope_))
      if (info.hash == hash) numbers.push_back(info.number);
    if (numbers.empty())
      return fail("eval.generations", "sona-rollback: generation {} is no longer kept", hash);
    const uint64_t to = numbers[random() % numbers.size()];
    const auto begin = std::chrono::steady_clock::now();
    ASSIGN_OR_RETURN(const GenerationInfo live, trial.sona().rollback(scope_, to));
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    ASSIGN_OR_RETURN(const std::string found, trial.bits(windows_, scope_));
    n_same += found == bits ? 1 : 0;
    n_named += live.hash == hash && trial.sona().live(scope_).hash == hash ? 1 : 0;
    if (!bar.update(i + 1, n_jumps()))
      return fail(ErrorKind::kCancelled, "eval.cancelled", "evaluation: stopped on request");
  }
  std::set<std::string> distinct;
  for (const auto& [hash, bits] : bits_) distinct.insert(bits);
  std::sort(seconds.begin(), seconds.end());
  raw_["jumps"] = {{"n", seconds.size()},
                   {"generations", distinct.size()},
                   {"same_bits", n_same},
                   {"slowest_seconds", seconds.back()},
                   {"median_seconds", seconds[seconds.size() / 2]}};
  gates_.add("generations that answer differently, the model as it is among them",
             distinct.size() == bits_.size() && distinct.size() == n_generations() + 1,
             fmt::format("{}", distinct.size()));
  gates_.add("each jump brings back the bits of its generation",
             n_same == seconds.size() && n_named == n_same, fmt::format("{} of {}", n_same, seconds.size()));
  gates_.add("each jump within a second", seconds.back() <= kMaxJumpSeconds,
             fmt::format("median {:.1f} ms, slowest {:.1f} ms", 1000 * seconds[seconds.size() / 2],
                         1000 * seconds.back()));
  return {};
}

// Operators who roll back and import at the same time. Each takes whatever number is live when it looks, so
// more than one may succeed; no number is given twice, and nobody fails for another reason.
Result<void> RollbackEval::public_races(SonaTrial& trial) {
  const auto file = folder_.path() / "portion.rvc1";  // the last portion's
  const auto before = trial.sona().history(scope_);
  std::vector<std::vector<uint64_t>> numbers(kRaceThreads);
  std::vector<size_t> n_conflicts(kRaceThreads), n_other(kRaceThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kRaceThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRaceCalls; ++i) {
        const auto result =
            t % 2 == 0 ? trial.sona().rollback(scope_, before[(t + static_cast<size_t>(i)) % 4].number)
                       : trial.sona().import_adapter(file, scope_);
        if (result) {
          numbers[t].push_back(result->number);
        } else {
          ++(result.error().id == "store.conflict" ? n_conflicts[t] : n_other[t]);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<uint64_t> distinct;
  size_t n_won = 0, n_lost = 0, n_failed = 0;
  for (size_t t = 0; t < kRaceThreads; ++t) {
    distinct.insert(numbers[t].begin(), numbers[t].end());
    n_won += numbers[t].size();
    n_lost += n_conflicts[t];
    n_failed += n_other[t];
  }
  const uint64_t last = trial.sona().live(scope_).number;
  raw_["public_races"] = {{"succeeded", n_won}, {"conflicts", n_lost}, {"failed", n_failed}};
  gates_.add("rollbacks and imports at once: every number once",
             distinct.size() == n_won && n_failed == 0 && n_won > 0 && last == before.front().number + n_won,
             fmt::format("{} succeeded, {} conflicts, {} failed otherwise", n_won, n_lost, n_failed));
  return {};
}

Result<int> RollbackEval::run() {
  RETURN_IF_ERROR(kills());
  RETURN_IF_ERROR(races());
  ASSIGN_OR_RETURN(const std::string text, read_text_file(own_.trial->author, kMaxTextBytes));
  ASSIGN_OR_RETURN(const std::string other, read_text_file(own_.trial->other, kMaxTextBytes));
  ASSIGN_OR_RETURN(SonaTrial trial, SonaTrial::open(common_, [](MediumConfig& config) {
                     config.sona_config.keep_generations = kKeep;
                   }));
  ASSIGN_OR_RETURN(windows_, trial.windows(other, 0, kWindows));
  RETURN_IF_ERROR(publish(trial, text));
  RETURN_IF_ERROR(jumps(trial));
  RETURN_IF_ERROR(public_races(trial));
  const std::string command =
      fmt::format("ruvltra eval sona-rollback --seed {} --attempts {} --publish-kills {}", common_.seed,
                  n_jumps(), own_.n_kills);
  return gates_.finish("sona-rollback", command, trial.label(), common_.seed, raw_);
}

}  // namespace

Experiment sona_rollback_experiment() {
  auto own = std::make_shared<RollbackOptions>();
  return {"sona-rollback",
          [own](CLI::App& app) {
            auto names = add_trial_options(app, own->trial);
            app.add_option("--publish-kills", own->n_kills,
                           "sona-rollback: kill -9 of a publishing process, so often")
                ->check(in_range(0, 1'000'000))
                ->type_name("N")
                ->configurable(false);
            names.push_back("--publish-kills");
            return names;
          },
          [own](const ExperimentOptions& common) { return RollbackEval(common, *own).run(); }};
}

}  // namespace ruvltra

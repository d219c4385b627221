// The loops that move weights, and the watch over what they published (docs/learning.md). Everything here
// runs on the learner's thread, one call at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/record_id.h"
#include "base/threads.h"
#include "sona/gates.h"
#include "sona/generation_book.h"
#include "sona/kept_tasks.h"
#include "sona/learning_pace.h"
#include "sona/learning_signal.h"
#include "sona/learning_space.h"
#include "sona/lora_fit.h"
#include "sona/scope_state.h"
#include "sona/teacher_forced.h"

namespace ruvltra {

struct LearnerOptions {
  size_t ring_capacity = 10'000;
  size_t ring_bytes = size_t{64} << 20;
  size_t max_signal_tokens = 8192;
  double ewc_lambda = 1000;
  size_t keep_generations = 16;
  uint64_t max_publishes_an_hour = 60;  // of a tenant, automatic ones
  GateLimits gates;
  int max_steps = 24;  // of a full-batch fit
  // Of a scope: tokens it keeps to fit to and to be judged by. The oldest go first.
  size_t max_train_tokens = 16'384, max_held_out_tokens = 8'192;
  // Scopes in memory; the one used longest ago goes to its file.
  size_t max_loaded_scopes = 8;
  // Off: loops run when they are asked for, never by themselves.
  bool automatic = true;
  bool low_priority = true;  // of the thread: nice 19, SCHED_BATCH. Where nothing is served it may be off
  // The rest of the loops, where there is any: called on the learner's thread after a background loop by
  // itself, and after a deep one.
  std::function<void(const std::string& tenant)> after_background;
  std::function<void()> after_deep;
  // True while a deep loop is due for reasons of its own, asked once a second. May be empty.
  std::function<bool()> deep_is_due;
  // How it gives way to answers; shared with who reads texts for it. Null: it does not.
  std::shared_ptr<LearningPace> pace;
  std::function<int64_t()> clock_us = now_us;

  // Errors (usage): learning.options names the field.
  Result<void> validate() const;
};

enum class LearnLoop : uint8_t { kInstant, kBackground, kDeep };
std::string_view learn_loop_name(LearnLoop loop);

// One attempt: what was measured, never what was intended.
struct LearnReport {
  Scope scope = {};
  LearnLoop loop = LearnLoop::kBackground;
  bool accepted = false;
  std::string reason = {};  // of a refusal: a word for counters, "G1 evidence", "no data", "frozen", ...
  std::string detail = {};  // of a refusal, for people
  uint64_t generation = 0;  // published
  Sha256Digest hash = {};
  double update_norm = 0;                 // |B published - B live|
  double nll_before = 0, nll_after = 0;   // held out; prequential in the instant loop
  double gain_lower_bound = 0;            // 95 %, one-sided
  double canary_kl = 0, canary_rise = 0;  // nat; relative
  double delta_p999 = 0;                  // |delta| / |h|
  double n0 = 0;                          // base anchor chosen
  double t = 0;                           // share of the step that passed
  size_t n_train_tokens = 0, n_held_out_tokens = 0;
  std::vector<TaskForgetting> forgetting = {};  // of the tasks before, by what was published
  int64_t time_us = 0;
  std::string json() const;
};

// *Thread safety*: none. Invariants: 1. Held-out text is never trained on, nor text of one tenant with
// another's. 2. Nothing is published by itself that did not pass G1 to G5. 3. Memory is bounded whatever the
// signals are.
class LearningLoops {
 public:
  using Counters = std::map<std::string, uint64_t>;

  // `folder` keeps the training states; `breathe` is called often during work. Book and options must outlive
  // the object. Errors: memory.exhausted, file.create.
  static Result<std::unique_ptr<LearningLoops>> make(std::shared_ptr<const LearningSpace> space,
                                                     GenerationBook& book, std::filesystem::path folder,
                                                     TeacherForced forward, const LearnerOptions& options,
                                                     std::function<void()> breathe);

  // Records the text of a signal, scores it by what is live, and gives it to its scopes; the instant loop
  // follows where it is due. Signals that teach nothing are counted. Errors: those of the model, of
  // publishing and of files.
  Result<void> absorb(const LearningSignal& signal);
  // What is due by now: instant loops 5 s after their first signal, background loops; a deep one after ten of
  // those, a week, or when deep_is_due says so.
  Result<void> tick();

  // Trains the session's candidate on what waits, and tries to publish it once there is evidence.
  Result<LearnReport> instant(const Scope& scope);
  Result<LearnReport> background(const std::string& tenant);
  // Merges the adapters of the tenant's conversations (docs/learning.md) into a candidate of the tenant.
  Result<LearnReport> deep(const std::string& tenant);
  // Anchors what is live, with the Fisher information of the records so far. An empty task was found, not
  // named.
  Result<void> boundary(const Scope& scope, std::string task);
  Result<void> freeze(const Scope& scope, int64_t until_us);
  // G2 to G4 for an operator's adapter. Errors: learning.gate_rejected.
  Result<void> check_operators(const Adapter& adapter);
  // An operator rolled back with this generation: what was live before it is never published by itself again.
  Result<void> taken_back(const Scope& scope, uint64_t number);

  Result<void> checkpoint();
  Result<void> forget(const std::string& tenant, const std::optional<std::string>& session);

  const Counters& counters() const { return counters_; }
  const std::deque<LearnReport>& reports() const { return reports_; }
  size_t n_loaded() const { return states_.size(); }
  // Scopes that publish nothing by themselves, and until when; of those whose state was looked at since the
  // start.
  std::vector<std::pair<Scope, int64_t>> frozen() const;

 private:
  using Key = std::pair<std::string, std::string>;
  struct Loaded {
    std::unique_ptr<ScopeState> state;
    uint64_t used = 0;
  };
  LearningLoops(std::shared_ptr<const LearningSpace> space, GenerationBook& book,
                std::filesystem::path folder, TeacherForced forward, const LearnerOptions& options);

  Result<void> deep_loops();  // of every tenant
  Result<ScopeState*> state(const Scope& scope);
  Result<void> make_room();
  void set_frozen(ScopeState& state, int64_t until_us);
  Result<void> save(ScopeState& state);
  void prune_session_files();
  Result<std::vector<std::filesystem::path>> state_files() const;
  Result<void> forget_in_tenant(const std::string& tenant, const std::string& session);
  Result<void> clear_scratch();
  std::optional<float> weight_of(ScopeState& tenant, const LearningSignal& signal);
  Result<void> watch(ScopeState& state, const TokenRecords& text);
  // What new text of the scope's task is to be compared with.
  PageHinkley shift_watch(const ScopeState& state, const Adapter& adapter);
  Result<void> watch_quality(ScopeState& tenant, double quality);
  Result<void> roll_back(ScopeState& state, const std::string& why);
  std::shared_ptr<const Adapter> parent_of_live(ScopeState& state);
  void score_block(ScopeState& state, const Batch& block, bool begins_text, std::span<const float> live,
                   std::span<const float> candidate);
  void train_candidate(ScopeState& state, const Adapter& live);
  std::string held_back(const ScopeState& state, ScopeState& tenant) const;
  Result<LearnReport> judge(ScopeState& tenant, uint64_t expected, const Adapter& live,
                            std::span<const float> candidate, LearnReport report);
  std::string evidence_missing(const ScopeState& tenant) const;
  Result<void> try_publish(ScopeState& state, ScopeState& tenant, uint64_t expected, const Adapter& live,
                           Admission admission, LearnReport& report);
  KeptTasks::Nll nll_at(std::span<const float> b);
  LearnReport finish(LearnReport report);
  LearnReport refuse(LearnReport report, std::string reason, std::string detail);
  void measure_fisher(ScopeState& state, std::span<const float> live, size_t n_records);

  std::shared_ptr<const LearningSpace> space_;
  GenerationBook& book_;
  const std::filesystem::path folder_;
  const TeacherForced forward_;
  const LearnerOptions& options_;
  std::function<void()> breathe_;
  ThreadPool pool_{1};
  std::optional<LoraLoss> loss_;
  std::unique_ptr<TokenRecords> scratch_;  // the records of one signal
  std::map<Key, Loaded> states_;
  std::map<Key, int64_t> frozen_until_us_;  // also of states that have gone to their files since
  uint64_t use_ = 0;
  uint64_t n_background_ = 0;  // by themselves, since the last deep loop
  int64_t last_deep_us_ = 0;   // or since the start
  Counters counters_;
  std::deque<LearnReport> reports_;  // newest first
};

}  // namespace ruvltra

// What the learner knows of one scope: records to fit to and to be judged by, the candidate on its way, the
// anchor of earlier tasks, baselines and counters. Kept as an RVC1 training state.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/container.h"
#include "ruvltra/learning.h"
#include "sona/ewc.h"
#include "sona/kept_tasks.h"
#include "sona/learning_space.h"
#include "sona/lora_gradient.h"

namespace ruvltra {

// What training states of a model have in common; a state of another shape is of no use.
struct StateShape {
  Sha256Digest model = {}, basis = {};
  size_t n_features = 0, d = 0, n_rows = 0;  // m, d, V
  size_t top_k = 0;                          // of new records
  size_t canary_k = 0;  // that the model's own text needed: pools have room for twice as many

  static StateShape of(const LearningSpace& space);
};

// Records of whole texts in bounded memory. *Thread safety*: none.
class RecordPool {
 public:
  RecordPool(const TokenRecords::Options& options);

  // A copy of a text's records, all of the same weight. Where they do not fit, the oldest texts go until half
  // of the pool is free. Texts longer than that are cut. `owner` is whose it is: owner_of() its session.
  void add(const TokenRecords& text, float weight, uint64_t owner = 0);
  // The texts of an owner go; how many. *Requires*: owner != 0.
  size_t forget(uint64_t owner);

  const TokenRecords& records() const { return *records_; }
  size_t size() const { return records_->size(); }
  size_t n_texts() const { return weights_.size(); }
  Batch batch() const { return {records_.get(), examples_}; }
  // First record of each text, and the end of the last: sequences of HeldOut.
  std::span<const uint32_t> begins() const { return begins_; }
  // Records before this index have served their purpose: trained on, or used as evidence.
  size_t n_used() const { return n_used_; }
  void use_all() { n_used_ = size(); }
  void use(size_t n) { n_used_ = n; }
  // Records before this index are of tasks that are over.
  size_t n_of_old_tasks() const { return n_old_; }
  void end_task() { n_old_ = size(); }

  struct Columns {
    std::vector<uint32_t> ends;
    std::vector<float> weights;
    std::vector<uint64_t> owners;
  };
  Columns columns() const;
  // After records were read into records_to_fill(). False if the columns do not fit them.
  TokenRecords& records_to_fill() { return *records_; }
  bool restore(const Columns& columns, size_t n_used, size_t n_of_old_tasks);

 private:
  void append(const TokenRecords& from, size_t begin, size_t end, float weight, uint64_t owner);
  void drop_oldest();
  template <class F>
  size_t keep_if(F&& keeps);

  TokenRecords::Options options_;
  std::unique_ptr<TokenRecords> records_;
  std::vector<Example> examples_;       // (size)
  std::vector<uint32_t> begins_ = {0};  // (texts + 1)
  std::vector<float> weights_;          // (texts)
  std::vector<uint64_t> owners_;        // (texts)
  size_t n_used_ = 0, n_old_ = 0;
};

// What a session is called in pools: never 0, which is nobody.
uint64_t owner_of(const std::string& session);

// Mean and deviation of a tenant's outcomes so far: exponential, plain averages while there are few.
struct OutcomeBaseline {
  double n = 0, mean = 0, variance = 0;
  void add(double quality);
};

// For new tasks, over 64-token blocks. Neighbouring blocks of a text have much in common, and what hangs on
// an alarm, the anchor of EWC, is worth waiting for: see `eval sona-boundary`.
PageHinkley new_shift_watch();

// Is the live adapter worse than its parent? x = NLL(live) - NLL(parent) of blocks; Page's CUSUM with a mean
// known to be at most 0 if all is well, and the deviation of the values themselves.
//
//   S <- max(0, S + clip(x / sigma, +-6) - 0.5), alarm at S > 8
class RegressionWatch {
 public:
  bool add(double x);  // true: alarm
  void restart() { *this = RegressionWatch(); }

 private:
  double n_ = 0, mean_ = 0, variance_ = 0, sum_ = 0;
};

// Bytes of a task's name.
inline constexpr size_t kMaxTaskName = 256;

struct ScopeState {
  ScopeState(const Scope& scope, const StateShape& shape, double ewc_lambda, size_t max_train_tokens,
             size_t max_held_out_tokens);

  Scope scope;
  StateShape shape;
  RecordPool train, validation, held_out;
  KeptTasks kept;  // held-out text of tasks that are over
  Ewc ewc;
  double beta = 0.1;  // of the KL anchor

  // Instant loop: the candidate, what it has seen, and how it did on each block before it was trained on it.
  std::vector<float> candidate;      // (m, d); empty: starts from the live one
  Sha256Digest candidate_from = {};  // the live adapter it is compared with
  double n_seen = 0;
  std::vector<double> block_gains, block_live;  // NLL(live) - NLL(candidate), and NLL(live), of fresh blocks
  double gain_tokens = 0, gain_texts = 0;       // in them: tokens, and texts that begin
  uint64_t n_replayed = 0;                      // where replay goes on in the canary

  OutcomeBaseline outcomes;                // of a tenant
  OutcomeBaseline outcomes_since_publish;  // EMA after a publish, to be compared with
  double quality_before = 0;               // the mean before it
  std::deque<int64_t> publishes;           // of a tenant: times of automatic ones in the last hour
  std::deque<Sha256Digest> seen;           // of a tenant: signals, the oldest first
  std::set<Sha256Digest> seen_set;
  std::deque<Sha256Digest> banned;  // rolled back: never published by itself again. The oldest first
  int64_t frozen_until_us = 0;
  int64_t last_background_us = 0;
  uint64_t n_new_signals = 0;  // since the last background loop
  uint64_t tokens_since_boundary = 0;
  std::string task;

  // Not kept in the file: they begin anew after a restart.
  Sha256Digest watched = {};  // the adapter whose gain `shift` watches
  PageHinkley shift = new_shift_watch();
  RegressionWatch regression;
  // The adapter before the live one, read once.
  uint64_t parent_of = 0;
  std::shared_ptr<const Adapter> parent;
  // Of the block at hand, for both watches: NLL under what is live, over that of the model as it is and over
  // that of the parent.
  double block_over_model = 0, block_over_parent = 0;
  size_t block_tokens = 0;
  size_t pending_signals = 0, pending_tokens = 0;
  int64_t first_pending_us = 0;
  bool pending_correction = false;
  bool changed = false;  // since the file was written

  // False if it was seen before; else it is now.
  bool remember(const Sha256Digest& digest);
  void ban(const Sha256Digest& hash);
  bool is_banned(const Sha256Digest& hash) const;
  // What a micro-batch that was not trained on says of the candidate. Beyond a few thousand the oldest go.
  void add_block(double nll_live, double nll_candidate, size_t n_tokens, bool begins_text);
  void clear_blocks();
  // Keeps held-out text of the task that ends, with what `nll` says of it.
  void end_task(const std::string& name, const KeptTasks::Nll& nll);

  Result<void> save(const std::filesystem::path& file) const;
  std::vector<uint8_t> bytes() const;  // of the file
  // Into a new state of the same scope and limits. Errors: those of Container and of reading files;
  // learning.model_mismatch for another basis or scope; records.*, state.values. The state is then to be
  // thrown away.
  Result<void> load(const std::filesystem::path& file);
  Result<void> parse(std::span<const uint8_t> file, std::string_view name);

 private:
  template <class F>
  auto with_writer(F&& f) const;
  Result<void> parse_numbers(const Container& container, std::string_view name,
                             std::vector<uint64_t>& counts);
  Result<void> parse_history(const Container& container, std::string_view name);
  Result<void> parse_kept(const Container& container, std::string_view name);
};

// HASH-HASH.state, of tenant and session: what clients send becomes no file name. state_prefix() is what all
// files of a tenant begin with.
std::string state_prefix(const std::string& tenant);
std::filesystem::path state_file(const std::filesystem::path& folder, const Scope& scope);

}  // namespace ruvltra

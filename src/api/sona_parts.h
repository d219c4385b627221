// What a running learning system consists of, shared by Sona, its banks and routers.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "api/model_parts.h"
#include "ruvltra/sona.h"
#include "sona/background.h"
#include "sona/hidden_embedder.h"
#include "sona/learner.h"
#include "sona/output_head.h"
#include "sona/pattern_bank.h"
#include "sona/reasoning_bank.h"
#include "sona/recorder.h"
#include "sona/router.h"
#include "store/store.h"

namespace ruvltra {

inline constexpr size_t kMaxTrajectorySteps = 1024;

// A folder of this process alone, removed with everything in it.
class TemporaryFolder {
 public:
  // Error: file.create.
  static Result<TemporaryFolder> make();
  TemporaryFolder() = default;
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// An answer that was recorded by itself, and its trajectory.
struct RecordedAnswer {
  std::string tenant;
  TrajectoryId trajectory = {};
  // Prompt and answer as they were computed. Null where no adapter learns, and once there is no room.
  struct Tokens {
    std::vector<TokenId> prompt, output;
  };
  std::shared_ptr<const Tokens> tokens;
};

// The latest ones, in bounded memory. Thread safety: all functions from any thread.
class RecordedAnswers {
 public:
  static constexpr size_t kKept = 4096;
  explicit RecordedAnswers(size_t max_bytes) : max_bytes_(max_bytes) {}
  void add(RequestId id, int choice, RecordedAnswer answer);
  std::optional<RecordedAnswer> find(RequestId id, int choice) const;
  std::optional<RecordedAnswer> find(const TrajectoryId& trajectory) const;
  void forget(const std::string& tenant);

 private:
  using Key = std::pair<RequestId, int>;
  static size_t bytes_of(const RecordedAnswer& answer);
  const size_t max_bytes_;
  mutable std::mutex mutex_;
  std::map<Key, RecordedAnswer> answers_;
  std::deque<Key> order_;        // oldest first
  std::deque<Key> with_tokens_;  // likewise
  size_t n_bytes_ = 0;
};

// Thread safety: the members look after themselves.
struct SonaParts {
  explicit SonaParts(size_t recorded_bytes) : recorded(recorded_bytes) {}

  ModelParts* model = nullptr;
  TemporaryFolder temporary;  // where no data_dir was given
  std::filesystem::path folder;
  bool hooks_explicit = false;
  std::vector<int> hooks_requested, hooks;
  std::unique_ptr<Store> store;
  std::unique_ptr<HiddenEmbedder> embedder;
  std::unique_ptr<Bank> bank;
  std::unique_ptr<PatternUpkeep> upkeep;
  std::unique_ptr<Router> router;

  // Where adapters learn; else null.
  std::unique_ptr<OutputHead> head;
  std::unique_ptr<Learner> learner;
  size_t consolidated_size = 0;  // of the bank, by a deep loop of the learner's own: of its thread alone

  // The latest answers recorded by themselves.
  RecordedAnswers recorded;
  std::mutex feedback_mutex;  // one feedback reads, changes and writes a trajectory at a time
  std::unique_ptr<Background> background;
  std::shared_ptr<Recorder> recorder;  // last: its thread uses all of the above

  // Empty layers: the configured hooks, scaled.
  static Result<std::unique_ptr<SonaParts>> open(
      ModelParts& model, std::span<const int> explicit_layers,
      const std::function<bool(size_t done, size_t total)>& on_text);
  ~SonaParts();

  // Fills a record's common fields, checks it, embeds what has text alone.
  Result<TrajectoryRecord> to_record(Trajectory trajectory, const Scope& scope, std::string provenance);
  // Puts it in the store and, where the model is configured so, makes bank items of it.
  Result<void> keep(const TrajectoryRecord& record, const TrajectoryRecord* before = nullptr);
  Result<void> record_answer(AnsweredRequest& answer);
  // A quality and a correction for a trajectory that is there; saying the same again changes nothing.
  Result<void> apply_feedback(TrajectoryRecord record, const Signal& signal, bool is_new);
  // A decision of the router is a trajectory under the decision's own id; its outcome replaces it. The
  // embedding stays with the decision: no pass of the model. Written meanwhile; one that cannot be is lost,
  // as is its decision, which RouterStatus counts.
  void record_decision(const RoutingDecision& decision, const RouteOptions& options);
  Result<void> record_outcome(const DecisionId& decision, const Scope& scope);

  // Adapters (sona_learner.cpp). start_learner() also lets requests answer with what is live.
  Result<void> start_learner();
  // What feedback says about the text of an answer, as signals.
  Result<void> learn_from(const TrajectoryRecord& record, const Signal& signal);
  AdapterStatus adapter_status() const;
};

}  // namespace ruvltra

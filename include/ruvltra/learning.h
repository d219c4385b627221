// What the learning system keeps and exchanges: declared data (docs/learning.md). Times are microseconds
// since the epoch, UTC. Qualities are in 0..1; one that is unknown is absent, never a default.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

// 16 bytes: the time of its making in microseconds (8, big-endian), then random ones. Ids sort by age.
struct RecordId {
  std::array<uint8_t, 16> bytes = {};
  auto operator<=>(const RecordId&) const = default;
  bool empty() const { return *this == RecordId{}; }
  std::string text() const;  // 32 hexadecimal digits
  // Error: learning.bad_id (usage).
  static Result<RecordId> parse(std::string_view text);
};
using TrajectoryId = RecordId;
using PatternId = RecordId;
using DecisionId = RecordId;

// Whose data it is. Nothing of one tenant is ever seen by another.
struct Scope {
  std::string tenant = "local";  // 1..64 bytes
  std::string session = {};      // a conversation of the tenant, or empty; at most 128 bytes
  static Scope default_tenant() { return {}; }
};

inline constexpr size_t kEmbeddingDim = 256;

// Unit vectors of kEmbeddingDim floats, one for each hook layer, in the space they were made in. Vectors of
// different spaces are never compared.
struct HookState {
  uint64_t space = 0;
  std::vector<int> layers = {};    // ascending
  std::vector<float> values = {};  // (layers, kEmbeddingDim)
};

// What a task had come to. Its text, its hidden states, or both.
struct State {
  std::string text = {};  // at most 64 KiB
  std::optional<HookState> hooks = {};
  int64_t time_us = 0;  // 0: when it is added
};

enum class VerdictKind : uint8_t { kNone, kSuccess, kFailure, kPartial, kRecovered };
std::string_view verdict_name(VerdictKind kind);  // "none", "success", ...
struct Verdict {
  VerdictKind kind = VerdictKind::kNone;
  double completion = 0;  // of kPartial: 0..1
  int attempts = 1;       // of kRecovered: at least 1
  static Verdict success() { return {VerdictKind::kSuccess}; }
  static Verdict failure() { return {VerdictKind::kFailure}; }
  static Verdict partial(double completion) { return {VerdictKind::kPartial, completion}; }
  static Verdict recovered(int attempts) { return {VerdictKind::kRecovered, 0, attempts}; }
  // success 1, failure 0, partial its completion, recovered max(0.7, 0.95 - 0.05 (attempts - 1)).
  std::optional<double> quality() const;
};

// Who says how good it was. Length, latency and the model's own confidence never do.
enum class QualitySource : uint8_t { kNone, kPerson, kTest, kChecker, kCaller, kVerdict, kActions };
std::string_view quality_source_name(QualitySource source);

struct TrajectoryStep {
  enum class Kind : uint8_t { kState, kAction };
  Kind kind = Kind::kState;
  std::string name = {};  // of an action
  std::string text = {};
  std::optional<double> quality = {};   // of an action
  std::optional<HookState> hooks = {};  // of a state
  int64_t time_us = 0;
  int64_t duration_us = 0;  // of an action, 0 = unknown
};

// One task from its first state to its verdict.
//
//   Trajectory t("code-generation");
//   t.add_state({"write a parser for dates"});
//   t.add_action("generate_function", 0.9);
//
// Nothing is checked here; Sona::record_trajectory() refuses what is out of range.
class Trajectory {
 public:
  explicit Trajectory(std::string task_type);

  Trajectory& add_state(State state);
  Trajectory& add_action(std::string name, std::optional<double> quality = {}, std::string text = {});
  Trajectory& set_verdict(Verdict verdict);
  Trajectory& set_quality(double quality, QualitySource source);
  // Reusable text for the bank: what to do again, or what to avoid.
  Trajectory& set_lesson(std::string text);
  Trajectory& set_agent(std::string agent);

  // The explicit quality, else the verdict's, else the mean of the actions'.
  std::optional<double> final_quality() const;
  QualitySource final_source() const;

  std::string task_type = {};
  std::string agent = {};  // who did it, if known
  std::vector<TrajectoryStep> steps = {};
  Verdict verdict;
  std::optional<double> quality = {};
  QualitySource source = QualitySource::kNone;
  std::string lesson = {};
  int64_t created_us = 0;  // when it was begun
};

// How a bank item is meant: do it so, it is said so, or do not do it so.
enum class PatternKind : uint8_t { kStrategy, kCorrection, kAvoid };
std::string_view pattern_kind_name(PatternKind kind);
// Error: learning.pattern_kind (usage).
Result<PatternKind> parse_pattern_kind(std::string_view name);

// A text to keep in the bank. Without reusable text it is invalid.
struct PatternItem {
  PatternKind kind = PatternKind::kStrategy;
  std::string title = {};
  std::string text = {};  // at most 8 KiB and 200 tokens
  double quality = 1;  // of what it was made from: starts its Beta(1 + 2 q, 1 + 2 (1 - q)), swapped for avoid
  std::string when = {};  // the task it belongs to, which its embedding is made of; empty: title and text
  std::string provenance = "caller";
  std::vector<RecordId> origins = {};
  bool pinned = false;  // evicted last
};

struct PatternHit {
  PatternId id = {};
  PatternKind kind = PatternKind::kStrategy;
  std::string title = {}, text = {};
  double similarity = 0;  // cosine with the query
  double lcb = 0;         // 5 % quantile of its Beta
  double score = 0;       // similarity x lcb
  uint32_t uses = 0;
};

struct PatternFilter {
  std::optional<PatternKind> kind = {};
  // The gates of injection: similarity and LCB high enough to be of use. Off: whatever is nearest.
  bool gated = true;
};

// What is put in front of a conversation, chosen once: the same bytes at every turn, so that its pages are
// found in the prefix cache.
struct ContextBlock {
  std::string text = {};  // empty: nothing fitted
  std::vector<PatternId> ids = {};
  size_t n_tokens = 0;
};

struct ConsolidateReport {
  size_t n_before = 0, n_after = 0;
  size_t n_clusters = 0;
  size_t n_merged = 0;  // duplicates
  size_t n_pruned = 0;
  double inertia = 0;                          // mean squared distance to the centroid
  double recall_before = 1, recall_after = 1;  // recall@10 of the index against an exact scan
};

struct BankStatus {
  size_t n_patterns = 0, capacity = 0;
  size_t n_strategies = 0, n_corrections = 0, n_avoid = 0;
  size_t n_clusters = 0;
  size_t n_other_space = 0;      // wait for a new embedding: not found meanwhile
  std::string index_state = {};  // "exact", "ready", "rebuilding"
  size_t index_rows = 0;
  uint64_t n_rebuilds = 0;
  std::string last_rejected = {};  // why the last index file was not taken
};

// Learned weights of a scope: immutable, named by the hash of their content.
struct GenerationInfo {
  Scope scope = {"", ""};  // whose they are; both empty: everybody's
  uint64_t number = 0;     // ascending within a scope; 0: nothing was ever published, the model as it is
  std::string hash = {};   // 64 hexadecimal digits; all zero: the model as it is
  uint64_t parent = 0;     // what rollback() goes back to
  std::string reason =
      {};  // "instant", "background", "deep", "import", "merge", "rollback", "reset", "operator"
  std::string report = {};  // JSON: what was measured before it was published
  int64_t time_us = 0;
};

// What publishing cost a task that is over, on held-out text of it that was kept at its end: NLL now less NLL
// then, per token. Below 0: the task gained.
struct TaskForgetting {
  std::string task = {};  // as begin_task() named it; empty: its end was found, not told
  double nat = 0;
  size_t n_tokens = 0;
};

// One attempt to publish: what was measured, never what was intended. NLL in nat per token.
struct LearningReport {
  Scope scope = {};
  std::string loop = {};  // "instant", "background", "deep"
  bool accepted = false;
  std::string reason = {};  // of a refusal, for counters: "G1 evidence", "no data", "frozen", ...
  std::string detail = {};  // of a refusal, for people
  uint64_t generation = 0;  // published
  std::string hash = {};
  double update_norm = 0;                 // |B published - B live|
  double nll_before = 0, nll_after = 0;   // held out; prequential in the instant loop
  double gain_lower_bound = 0;            // 95 %, one-sided
  double canary_kl = 0, canary_rise = 0;  // nat; relative
  double delta_p999 = 0;                  // 99.9th percentile of |delta| / |h|
  size_t n_train_tokens = 0, n_held_out_tokens = 0;
  std::vector<TaskForgetting> forgetting = {};  // of the last tasks, ten at most; empty unless published
  int64_t time_us = 0;
};

struct AdapterStatus {
  bool learns = false;                            // SonaConfig::learn is on
  std::vector<GenerationInfo> live = {};          // of every scope that has one
  std::map<std::string, uint64_t> counters = {};  // by effect, or reason of a refusal
  std::vector<LearningReport> reports = {};       // the latest, newest first
  size_t n_waiting = 0;                           // signals
  uint64_t n_signals = 0, n_overwritten = 0;
  double enqueue_p50_us = 0, enqueue_p99_us = 0;  // what handing a signal over takes
  size_t n_canary_tokens = 0;
  // Scopes that publish nothing by themselves at present: frozen by hand, or after a rollback by itself. Of
  // those that had a signal or a command since the start.
  std::vector<Scope> frozen = {};
  std::vector<std::string> notes = {};  // what was damaged, or made anew
  std::string last_error = {};
};

struct DeleteReport {
  size_t n_trajectories = 0, n_patterns = 0, n_feedback = 0, n_decisions = 0, n_generations = 0;
};

}  // namespace ruvltra

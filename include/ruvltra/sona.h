// The learning system of a model: what it records, remembers and routes by (docs/learning.md).
//
//   auto config = ruvltra::MediumConfig::agent();
//   config.data_dir = "/var/lib/ruvltra";
//   auto model = ruvltra::MediumModel::load("model.gguf", config);
//   model->enable_sona();
//   ruvltra::AgentRouter router(*model->sona());
//   auto decision = router.route("Implement authentication system");
//   router.feedback(decision->id, {.success = true});
#pragma once

#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/config.h"
#include "ruvltra/error.h"
#include "ruvltra/learning.h"
#include "ruvltra/routing.h"
#include "ruvltra/types.h"

namespace ruvltra {

struct SonaParts;

// How good an answer was, as somebody who knows says. Absent members say nothing.
struct Signal {
  std::optional<double> quality = {};  // 0..1
  std::optional<bool> success = {};    // true is quality 1, false 0
  std::string correction = {};         // the text that should have been the answer
  bool accepted = false;               // the answer was taken as it is: its text is worth learning
  QualitySource source = QualitySource::kPerson;
  std::string feedback_id = {};  // makes it idempotent: the same again is nothing new
};

// Texts worth having again, and what became of using them.
//
// Thread safety: all functions from any thread.
class ReasoningBank {
 public:
  // Errors: learning.pattern (no text, too long), learning.quality, store.*.
  Result<PatternId> store(const PatternItem& item, const Scope& scope = {});
  // The k best for `text` among the tenant's own, best first.
  Result<std::vector<PatternHit>> search(std::string_view text, int k, const Scope& scope = {},
                                         PatternFilter filter = {}) const;
  // At most 3 items and 512 tokens of what passes the gates, as a block of text for a system message. To be
  // chosen once per conversation; empty if nothing is near enough.
  Result<ContextBlock> context_for(std::string_view task, const Scope& scope = {}) const;
  // How well it went with these items in the prompt: moves their Beta. Error: learning.not_found.
  Result<void> outcome(std::span<const PatternId> ids, double quality, const Scope& scope = {});
  size_t size() const;
  size_t capacity() const;
  BankStatus status() const;

 private:
  friend class Sona;
  explicit ReasoningBank(SonaParts& parts) : parts_(&parts) {}
  SonaParts* parts_;
};

// The bank's upkeep: clusters, duplicates, size.
//
// Thread safety: all functions from any thread.
class PatternBank {
 public:
  // k-means++ over the bank's embeddings, duplicates merged, pruned to capacity.
  Result<ConsolidateReport> consolidate();
  // The nearest centroid; empty before the first consolidate().
  std::optional<int> cluster_of(std::span<const float> embedding) const;
  // Down to n items, the weakest go; the number removed.
  Result<size_t> prune_to(size_t n);

 private:
  friend class Sona;
  explicit PatternBank(SonaParts& parts) : parts_(&parts) {}
  SonaParts* parts_;
};

struct SonaStatus {
  LearnMode mode = LearnMode::kOff;
  std::vector<int> hooks_requested = {}, hooks_effective = {};
  bool hooks_scaled = false;
  uint64_t space = 0;       // of embeddings
  size_t n_directions = 0;  // their dimensions that are not zero
  int embed_layer = 0;
  std::string model_sha256;
  std::filesystem::path folder = {};

  size_t n_trajectories = 0, n_feedback = 0, n_decisions = 0;
  uint64_t n_recorded = 0, n_overwritten = 0, n_record_failures = 0;  // answers, by themselves
  std::string last_record_error = {};
  uint64_t n_commits = 0, n_quarantined = 0;
  bool writable = true;
  std::string why_not = {};
  uint64_t n_cache_hits = 0, n_cache_misses = 0;  // of embeddings

  BankStatus bank;
  RouterStatus router;
  AdapterStatus adapters;
};

// What the background and the deep loop did.
struct BackgroundReport {
  HeadReport head;
  LearningReport adapter;
};
struct DeepReport {
  ConsolidateReport bank;
  LearningReport adapter;  // of the sessions' adapters merged
};

struct ImportReport {
  size_t n_records = 0;
  size_t n_agents = 0;
  uint64_t generation = 0;  // of learned weights, if there were any
};

// Thread safety: all functions from any thread.
class Sona {
 public:
  ~Sona();
  Sona(const Sona&) = delete;
  Sona& operator=(const Sona&) = delete;

  // Stores it and, with enable_reasoning_bank, makes bank items of it; returns after the commit. States with
  // text and without hook states are embedded first. Errors: learning.trajectory (names the field),
  // learning.quality, learning.space (hook states of another space or other layers), store.*.
  Result<TrajectoryId> record_trajectory(Trajectory trajectory, const Scope& scope = {});
  // The same without waiting, by a thread of the Sona's own. Also: learning.queue_full (busy).
  std::future<Result<TrajectoryId>> record_trajectory_async(Trajectory trajectory, const Scope& scope = {});
  Result<Trajectory> trajectory(const TrajectoryId& id, const Scope& scope = {}) const;

  // About an answer that was recorded by itself (RequestId of this process, Generation::id), or a trajectory.
  // A correction becomes a bank item. Where adapters learn, they get a correction, an accepted answer and a
  // quality as signals; nothing waits for them. Errors: learning.not_found, learning.quality, learning.signal
  // (nothing said, or success against quality), store.conflict.
  Result<void> feedback(RequestId id, const Signal& signal, const Scope& scope = {}, int choice = 0);
  Result<void> feedback(const TrajectoryId& id, const Signal& signal, const Scope& scope = {});
  // The trajectory an answer was recorded as. Waits for the recorder. Error: learning.not_found.
  Result<TrajectoryId> trajectory_of(RequestId id, const Scope& scope = {}, int choice = 0);

  // The unit vector of a text in the present space, by one pass to the embedding layer or from the cache.
  Result<std::vector<float>> embed(std::string_view text, const Scope& scope = {});
  // At every hook layer.
  Result<HookState> hook_state(std::string_view text);

  // Trains the tenant's router head on the outcomes so far, with EWC++; taken only if held-out outcomes are
  // predicted no worse.
  Result<HeadReport> train_head(const Scope& scope = {});
  // Says that another kind of work begins: what was learned before is anchored.
  Result<void> begin_task(const Scope& scope, std::string name);

  // Text to write like: a signal for adapters, piece by piece. How many tokens. Waits while the queue is
  // full. Errors: learning.disabled (SonaConfig::learn is not on), learning.empty_text.
  Result<size_t> teach(std::string_view text, const Scope& scope = {});
  // Works off what waits, then tries to publish: a session by its instant loop, a tenant by its background
  // loop. A refusal is a report, not an error. Errors: learning.disabled, store.*, file.*.
  Result<LearningReport> learn(const Scope& scope = {});
  // The loops, whatever their triggers say: router head and tenant adapter; bank upkeep and merged sessions.
  Result<BackgroundReport> run_background(const Scope& scope = {});
  Result<DeepReport> run_deep(const Scope& scope = {});

  // Learned weights: session, else tenant, else everybody's. Errors of what follows: learning.disabled,
  // learning.not_found, store.*, file.*.
  GenerationInfo live(const Scope& scope = {}) const;
  std::vector<GenerationInfo> history(const Scope& scope = {}) const;  // of the scope itself, newest first
  // A new number for an older generation, the same bits; absent: the parent of the live one. With `expected`
  // only if that is the live one's number: store.conflict.
  Result<GenerationInfo> rollback(const Scope& scope = {}, std::optional<uint64_t> to = {},
                                  std::optional<uint64_t> expected = {});
  // No automatic publish in this scope for so many seconds; 0 ends it.
  Result<void> freeze(const Scope& scope, double seconds);
  Result<GenerationInfo> reset(const Scope& scope = {});  // the model as it is
  // One RVC1 file, for this model alone. Import passes the gates on drift and norm first
  // (learning.gate_rejected).
  Result<void> export_adapter(const std::filesystem::path& file, const Scope& scope = {}) const;
  Result<GenerationInfo> import_adapter(const std::filesystem::path& file, const Scope& scope = {});
  // The same without a file: what a request gets, learning.not_found if that is the model as it is.
  Result<std::vector<uint8_t>> adapter_bytes(const Scope& scope = {}) const;
  Result<GenerationInfo> import_adapter(std::span<const uint8_t> bytes, const Scope& scope = {});

  // Everything of the tenant goes: rows, index, router, backups. Of one of its sessions: the trajectories and
  // their feedback, and the bank items that came from them alone. Answers still being made are recorded when
  // they end: stop them first.
  Result<DeleteReport> delete_data(const std::string& tenant, const std::optional<std::string>& session = {});

  // manifest.json (with the SHA-256 of the others), bank.jsonl, agents.json, and the tenant's learned weights
  // as adapter.rvc1. Import verifies hashes, model and registry before anything changes; then learned
  // weights, which the gates may refuse, the records in one transaction into the tenant given, and the
  // registry.
  Result<void> export_to(const std::filesystem::path& folder, const std::optional<std::string>& tenant = {});
  Result<ImportReport> import_from(const std::filesystem::path& folder, const Scope& scope = {});

  ReasoningBank& reasoning_bank();
  PatternBank& pattern_bank();

  // Waits until every answer ended before the call is stored.
  void flush();
  SonaStatus status() const;

 private:
  friend class MediumModel;
  friend class AgentRouter;
  explicit Sona(std::unique_ptr<SonaParts> parts);
  std::unique_ptr<SonaParts> parts_;
  ReasoningBank reasoning_bank_;
  PatternBank pattern_bank_;
};

// Which agent a task belongs to, learned from what became of earlier decisions (docs/routing.md). All routers
// of a Sona share registry, decisions and weights.
//
// Thread safety: all functions from any thread. Must not outlive its Sona.
class AgentRouter {
 public:
  explicit AgentRouter(Sona& sona) : parts_(sona.parts_.get()) {}

  // Errors: learning.empty_text, learning.text_too_long, routing.options, store.*.
  Result<RoutingDecision> route(std::string_view task, const RouteOptions& options = {});
  // Errors: learning.not_found, learning.quality, learning.signal, store.conflict, routing.agent.
  Result<void> feedback(const DecisionId& decision, const RouteOutcome& outcome, const Scope& scope = {});

  std::vector<AgentProfile> agents() const;
  // Replaces the registry. Errors: routing.registry, store.*.
  Result<void> set_agents(std::vector<AgentProfile> agents);
  // From the text of agents_json(). Also: json.*.
  Result<void> set_agents_json(std::string_view json);
  // Adds or replaces by id; the number read. PATH: a folder of Markdown files with front matter, or a JSON or
  // TOML file. Errors: routing.registry, routing.front_matter naming file and line.
  Result<size_t> import_agents(const std::filesystem::path& path);
  // Error: routing.agent; routing.registry for the last one.
  Result<void> remove_agent(std::string_view id);
  std::string agents_json() const;  // what import_agents() reads from a .json file

  RouterStatus status(const Scope& scope = {}) const;

 private:
  SonaParts* parts_;
};

}  // namespace ruvltra

#include "ruvltra/sona.h"

#include <algorithm>
#include <utility>

#include "api/sona_parts.h"
#include "base/fail.h"
#include "base/json.h"
#include "base/utf8.h"
#include "sona/agent_import.h"
#include "sona/bank_checks.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxCorrectionBytes = 64 * 1024;
constexpr size_t kMaxFeedbackIdBytes = 128;

tl::unexpected<Error> not_found(std::string_view what) {
  return fail(ErrorKind::kUsage, "learning.not_found", "{}: expected one that is there, found none", what);
}

// Quality as said, success standing for 1 or 0.
std::optional<double> quality_of(const Signal& signal) {
  if (signal.quality) return signal.quality;
  if (signal.success) return *signal.success ? 1.0 : 0.0;
  return std::nullopt;
}

Result<void> check_feedback_id(std::string_view id) {
  if (id.size() <= kMaxFeedbackIdBytes && utf8_is_valid(id)) return {};
  return fail(ErrorKind::kUsage, "learning.signal",
              "feedback_id: expected at most {} bytes of UTF-8, found {}", kMaxFeedbackIdBytes, id.size());
}

Result<void> check_signal(const Signal& signal) {
  const auto quality = quality_of(signal);
  if (!quality && signal.correction.empty() && !signal.accepted) {
    return fail(ErrorKind::kUsage, "learning.signal",
                "feedback: expected a quality, a success, an acceptance or a correction, found none");
  }
  if (quality && !(*quality >= 0 && *quality <= 1))
    return fail(ErrorKind::kUsage, "learning.quality", "quality: expected 0..1, found {}", *quality);
  RETURN_IF_ERROR(check_feedback_id(signal.feedback_id));
  if (signal.success && quality && *signal.success != (*quality >= 0.5)) {
    return fail(ErrorKind::kUsage, "learning.signal",
                "feedback: expected success and quality to agree, found {} and {}", *signal.success,
                *quality);
  }
  if (signal.correction.size() > kMaxCorrectionBytes || !utf8_is_valid(signal.correction)) {
    return fail(ErrorKind::kUsage, "learning.signal",
                "correction: expected at most {} bytes of UTF-8, found {}", kMaxCorrectionBytes,
                signal.correction.size());
  }
  return {};
}

}  // namespace

Sona::Sona(std::unique_ptr<SonaParts> parts)
    : parts_(std::move(parts)), reasoning_bank_(*parts_), pattern_bank_(*parts_) {}
Sona::~Sona() = default;

ReasoningBank& Sona::reasoning_bank() { return reasoning_bank_; }
PatternBank& Sona::pattern_bank() { return pattern_bank_; }

Result<TrajectoryId> Sona::record_trajectory(Trajectory trajectory, const Scope& scope) {
  ASSIGN_OR_RETURN(const TrajectoryRecord record, parts_->to_record(std::move(trajectory), scope, "api"));
  RETURN_IF_ERROR(parts_->keep(record));
  return record.id;
}

std::future<Result<TrajectoryId>> Sona::record_trajectory_async(Trajectory trajectory, const Scope& scope) {
  const auto promise = std::make_shared<std::promise<Result<TrajectoryId>>>();
  auto future = promise->get_future();
  const bool taken =
      parts_->background->post([this, promise, trajectory = std::move(trajectory), scope]() mutable {
        promise->set_value(record_trajectory(std::move(trajectory), scope));
      });
  if (!taken)
    promise->set_value(
        fail(ErrorKind::kBusy, "learning.queue_full", "trajectories: expected room, too many wait"));
  return future;
}

Result<Trajectory> Sona::trajectory(const TrajectoryId& id, const Scope& scope) const {
  ASSIGN_OR_RETURN(TrajectoryRecord record, parts_->store->trajectory(scope.tenant, id));
  return std::move(record.body);
}

void Sona::flush() {
  if (parts_->recorder) parts_->recorder->drain();
}

Result<TrajectoryId> Sona::trajectory_of(RequestId id, const Scope& scope, int choice) {
  if (!parts_->recorder) {
    return fail(ErrorKind::kUsage, "learning.not_found",
                "recorded answer: expected learning to be record, found off; nothing is recorded");
  }
  flush();
  const auto found = parts_->recorded.find(id, choice);
  if (!found || found->tenant != scope.tenant) return not_found("recorded answer");
  return found->trajectory;
}

Result<void> Sona::feedback(RequestId id, const Signal& signal, const Scope& scope, int choice) {
  ASSIGN_OR_RETURN(const TrajectoryId trajectory, trajectory_of(id, scope, choice));
  return feedback(trajectory, signal, scope);
}

Result<void> Sona::feedback(const TrajectoryId& id, const Signal& signal, const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  RETURN_IF_ERROR(check_signal(signal));
  const std::lock_guard lock(parts_->feedback_mutex);
  ASSIGN_OR_RETURN(TrajectoryRecord record, parts_->store->trajectory(scope.tenant, id));
  if (!signal.correction.empty() && record.body.steps.size() >= kMaxTrajectorySteps) {
    return fail(ErrorKind::kUsage, "learning.trajectory", "correction: expected room, found {} steps",
                record.body.steps.size());
  }
  FeedbackRecord feedback;
  feedback.id = new_record_id();
  feedback.tenant = scope.tenant;
  feedback.feedback_id = signal.feedback_id;
  feedback.about = FeedbackRecord::About::kTrajectory;
  feedback.target = id.text();
  feedback.quality = quality_of(signal);
  feedback.success = signal.success;
  feedback.correction = signal.correction;
  feedback.time_us = now_us();
  ASSIGN_OR_RETURN(const bool is_new, parts_->store->put_feedback(feedback));
  RETURN_IF_ERROR(parts_->apply_feedback(record, signal, is_new));
  if (!parts_->learner || !is_new) return {};
  return parts_->learn_from(record, signal);
}

Result<std::vector<float>> Sona::embed(std::string_view text, const Scope& scope) {
  ASSIGN_OR_RETURN(Embedding embedding, parts_->embedder->embed(text, scope.tenant));
  return std::move(embedding.values);
}

Result<HookState> Sona::hook_state(std::string_view text) { return parts_->embedder->embed_hooks(text); }

Result<HeadReport> Sona::train_head(const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  return parts_->router->train_head(scope);
}

Result<void> Sona::begin_task(const Scope& scope, std::string name) {
  RETURN_IF_ERROR(check_scope(scope));
  if (parts_->learner) RETURN_IF_ERROR(parts_->learner->begin_task(scope, name));
  return parts_->router->begin_task(scope, name);
}

Result<DeleteReport> Sona::delete_data(const std::string& tenant, const std::optional<std::string>& session) {
  RETURN_IF_ERROR(check_scope({.tenant = tenant, .session = session.value_or("")}));
  flush();
  parts_->recorded.forget(tenant);
  // Before the rows: files without a row are found by nobody but these.
  if (parts_->learner) RETURN_IF_ERROR(parts_->learner->delete_data(tenant, session));
  RETURN_IF_ERROR(parts_->router->forget(tenant));  // a training that is going on writes nothing any more
  ASSIGN_OR_RETURN(const DeleteReport report, parts_->bank->delete_data(tenant, session));
  RETURN_IF_ERROR(parts_->router->forget(tenant));
  if (session) RETURN_IF_ERROR(parts_->router->train_head({tenant, {}}));  // from what is left
  return report;
}

Result<PatternId> ReasoningBank::store(const PatternItem& item, const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  ASSIGN_OR_RETURN(const PatternId id, parts_->bank->store(item, scope));
  parts_->background->wake();
  return id;
}

Result<std::vector<PatternHit>> ReasoningBank::search(std::string_view text, int k, const Scope& scope,
                                                      PatternFilter filter) const {
  RETURN_IF_ERROR(check_scope(scope));
  if (k < 1) return fail(ErrorKind::kUsage, "bank.k", "k: expected at least 1, found {}", k);
  return parts_->bank->search(text, static_cast<size_t>(k), scope, filter);
}

Result<ContextBlock> ReasoningBank::context_for(std::string_view task, const Scope& scope) const {
  RETURN_IF_ERROR(check_scope(scope));
  return parts_->bank->context_for(task, scope);
}

Result<void> ReasoningBank::outcome(std::span<const PatternId> ids, double quality, const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  ASSIGN_OR_RETURN(const size_t n_updated, parts_->bank->outcome(ids, quality, scope));
  if (n_updated == 0 && !ids.empty()) return not_found("bank item");
  return {};
}

size_t ReasoningBank::size() const { return parts_->bank->size(); }
size_t ReasoningBank::capacity() const { return parts_->bank->capacity(); }
BankStatus ReasoningBank::status() const { return parts_->bank->status(); }

Result<ConsolidateReport> PatternBank::consolidate() {
  ASSIGN_OR_RETURN(const ConsolidateReport report, parts_->upkeep->consolidate());
  parts_->background->wake();
  RETURN_IF_ERROR(parts_->bank->checkpoint());
  return report;
}

std::optional<int> PatternBank::cluster_of(std::span<const float> embedding) const {
  const auto cluster = parts_->upkeep->cluster_of(embedding);
  return cluster ? std::optional<int>(*cluster) : std::nullopt;
}

Result<size_t> PatternBank::prune_to(size_t n) {
  return parts_->upkeep->prune_to(n).map([](const auto& report) { return report.n_before - report.n_after; });
}

Result<RoutingDecision> AgentRouter::route(std::string_view task, const RouteOptions& options) {
  RETURN_IF_ERROR(check_scope(options.scope));
  ASSIGN_OR_RETURN(RoutingDecision decision, parts_->router->route(task, options));
  if (parts_->model->config.enable_agent_routing) parts_->record_decision(decision, options);
  return decision;
}

Result<void> AgentRouter::feedback(const DecisionId& decision, const RouteOutcome& outcome,
                                   const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  RETURN_IF_ERROR(check_feedback_id(outcome.feedback_id));
  RETURN_IF_ERROR(parts_->router->feedback(decision, outcome, scope));
  if (parts_->model->config.enable_agent_routing) RETURN_IF_ERROR(parts_->record_outcome(decision, scope));
  return {};
}

std::vector<AgentProfile> AgentRouter::agents() const { return parts_->router->registry().agents(); }

Result<void> AgentRouter::set_agents(std::vector<AgentProfile> agents) {
  const AgentRegistry now = parts_->router->registry();
  ASSIGN_OR_RETURN(AgentRegistry next, AgentRegistry::create(std::move(agents), now.task_types(), "agents"));
  return parts_->router->set_registry(std::move(next));
}

Result<void> AgentRouter::set_agents_json(std::string_view json) {
  ASSIGN_OR_RETURN(AgentRegistry next, AgentRegistry::parse(json, "agents"));
  return parts_->router->set_registry(std::move(next));
}

Result<size_t> AgentRouter::import_agents(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const auto agents, ruvltra::import_agents(path));
  ASSIGN_OR_RETURN(AgentRegistry next, parts_->router->registry().with(agents, path.string()));
  RETURN_IF_ERROR(parts_->router->set_registry(std::move(next)));
  return agents.size();
}

Result<void> AgentRouter::remove_agent(std::string_view id) {
  ASSIGN_OR_RETURN(AgentRegistry next, parts_->router->registry().without(id));
  return parts_->router->set_registry(std::move(next));
}

std::string AgentRouter::agents_json() const { return to_json(parts_->router->registry().json()) + "\n"; }

RouterStatus AgentRouter::status(const Scope& scope) const { return parts_->router->status(scope); }

SonaStatus Sona::status() const {
  const SonaParts& p = *parts_;
  SonaStatus status;
  status.mode = p.model->config.sona_config.learn;
  status.hooks_requested = p.hooks_requested;
  status.hooks_effective = p.hooks;
  status.hooks_scaled = !p.hooks_explicit && p.hooks != p.hooks_requested;
  status.space = p.embedder->space();
  status.n_directions = p.embedder->basis().n_directions();
  status.embed_layer = p.hooks[p.embedder->embed_at()];
  status.model_sha256 = to_hex(p.model->weights.file_digest);
  status.folder = p.folder;
  const StoreStats store = p.store->stats();
  status.n_trajectories = store.n_trajectories;
  status.n_feedback = store.n_feedback;
  status.n_decisions = store.n_decisions;
  status.n_commits = store.n_commits;
  status.n_quarantined = store.n_quarantined;
  status.writable = store.writable;
  status.why_not = store.why_not;
  if (p.recorder) {
    const Recorder::Stats recorder = p.recorder->stats();
    status.n_recorded = recorder.n_recorded;
    status.n_overwritten = recorder.n_overwritten;
    status.n_record_failures = recorder.n_failed;
    status.last_record_error = recorder.last_error;
  }
  const HiddenEmbedder::Stats cache = p.embedder->stats();
  status.n_cache_hits = cache.n_hits;
  status.n_cache_misses = cache.n_misses;
  status.bank = p.bank->status();
  status.router = p.router->status();
  status.adapters = p.adapter_status();
  return status;
}

}  // namespace ruvltra

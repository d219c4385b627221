#include "server/learning_requests.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/fail.h"
#include "base/learning_json.h"
#include "base/routing_json.h"
#include "server/fields.h"

namespace ruvltra {
namespace {

constexpr int64_t kMaxTaskBytes = 64 << 10;

Scope scope_of(const Caller& caller, std::string session = {}) {
  return {.tenant = caller.tenant, .session = std::move(session)};
}

Result<std::string> required_text(const Json& arguments, std::string_view name) {
  std::string text;
  RETURN_IF_ERROR(read_string(arguments, name, text, kMaxTaskBytes));
  if (text.empty()) return bad_field(name, "expected a text that is not empty");
  return text;
}

Result<void> read_optional(const Json& arguments, std::string_view name, double low, double high,
                           std::optional<double>& out) {
  if (member(arguments, name).is_null()) return {};
  double value = 0;
  RETURN_IF_ERROR(read_number(arguments, name, low, high, value));
  out = value;
  return {};
}

Result<void> read_optional(const Json& arguments, std::string_view name, std::optional<bool>& out) {
  if (member(arguments, name).is_null()) return {};
  bool value = false;
  RETURN_IF_ERROR(read_bool(arguments, name, value));
  out = value;
  return {};
}

// quality 0..1, or rating 1..5.
Result<std::optional<double>> read_quality(const Json& arguments) {
  std::optional<double> quality, rating;
  RETURN_IF_ERROR(read_optional(arguments, "quality", 0, 1, quality));
  RETURN_IF_ERROR(read_optional(arguments, "rating", 1, 5, rating));
  if (quality && rating) return bad_field("rating", "expected either quality or rating");
  if (rating) quality = (*rating - 1) / 4;
  return quality;
}

Result<std::optional<Verdict>> read_verdict(const Json& arguments) {
  const Json& verdict = member(arguments, "verdict");
  if (verdict.is_null()) return std::nullopt;
  const Json& type = verdict.is_string() ? verdict : member(verdict, "type");
  if (type == "success") return Verdict::success();
  if (type == "failure") return Verdict::failure();
  if (type == "partial") {
    double completion = -1;
    RETURN_IF_ERROR(read_number(verdict, "completion", 0, 1, completion));
    if (completion < 0) return bad_field("verdict", "expected a completion beside partial");
    return Verdict::partial(completion);
  }
  if (type == "recovered") {
    int attempts = 1;
    RETURN_IF_ERROR(read_integer(verdict, "attempts", 1, 1'000'000, attempts));
    return Verdict::recovered(attempts);
  }
  return bad_field("verdict", "expected success, failure, partial or recovered, found {}",
                   ruvltra::quoted(to_json(type)));
}

Result<void> read_step(const Json& step, Trajectory& trajectory) {
  std::string name, result;
  RETURN_IF_ERROR(read_string(step, "action", name, 256));
  RETURN_IF_ERROR(read_string(step, "name", name, 256));
  if (name.empty()) return bad_field("steps", "expected an action");
  RETURN_IF_ERROR(read_string(step, "result", result, kMaxTaskBytes));
  std::optional<double> quality;
  RETURN_IF_ERROR(read_optional(step, "quality", 0, 1, quality));
  int64_t duration_ms = 0;
  RETURN_IF_ERROR(read_integer(step, "duration_ms", 0, int64_t{1} << 40, duration_ms));
  trajectory.add_action(name, quality, result);
  trajectory.steps.back().duration_us = 1000 * duration_ms;
  return {};
}

Result<void> read_steps(const Json& arguments, Trajectory& trajectory) {
  const Json& steps = member(arguments, "steps");
  if (steps.is_null()) return {};
  if (!steps.is_array()) return bad_field("steps", "expected an array, found {}", type_of(steps));
  for (const Json& step : steps) RETURN_IF_ERROR(read_step(step, trajectory));
  return {};
}

Json opened(const RecordId& id) { return {{"id", id.text()}, {"durable", false}}; }

Result<Json> store(Service& service, const Caller& caller, OpenTrajectory&& open) {
  ASSIGN_OR_RETURN(const TrajectoryId id, service.sona()->record_trajectory(std::move(open.trajectory),
                                                                            scope_of(caller, open.session)));
  return Json{{"id", id.text()}, {"durable", true}};
}

}  // namespace

Result<Json> route_task(Service& service, const Caller& caller, const Json& arguments) {
  ASSIGN_OR_RETURN(const std::string task, required_text(arguments, "task"));
  RouteOptions how;
  how.scope = scope_of(caller);
  RETURN_IF_ERROR(read_string(arguments, "context", how.context, kMaxTaskBytes));
  RETURN_IF_ERROR(read_integer(arguments, "k", 1, 16, how.k));
  RETURN_IF_ERROR(read_bool(arguments, "preferSpeed", how.prefer_speed));
  RETURN_IF_ERROR(read_bool(arguments, "preferCost", how.prefer_cost));
  ASSIGN_OR_RETURN(const RoutingDecision decision, service.router()->route(task, how));
  service.measures().routed(decision.method, decision.latency_ms / 1000);
  return routing_json(decision);
}

Result<Json> give_feedback(Service& service, const Caller& caller, const Json& arguments) {
  Signal signal;
  ASSIGN_OR_RETURN(signal.quality, read_quality(arguments));
  RETURN_IF_ERROR(read_optional(arguments, "success", signal.success));
  RETURN_IF_ERROR(read_string(arguments, "correction", signal.correction, kMaxTaskBytes));
  RETURN_IF_ERROR(read_bool(arguments, "accepted", signal.accepted));
  RETURN_IF_ERROR(read_string(arguments, "feedback_id", signal.feedback_id, 128));
  std::string request_id, decision_id, trajectory_id, session;
  RETURN_IF_ERROR(read_string(arguments, "request_id", request_id, 128));
  RETURN_IF_ERROR(read_string(arguments, "decision_id", decision_id, 128));
  RETURN_IF_ERROR(read_string(arguments, "trajectory_id", trajectory_id, 128));
  RETURN_IF_ERROR(read_string(arguments, "session_id", session, 128));
  if (!decision_id.empty()) {
    const auto id = DecisionId::parse(decision_id);
    if (!id) return fail(ErrorKind::kUsage, "request.not_found", "decision_id: no such decision");
    RouteOutcome outcome;
    RETURN_IF_ERROR(read_string(arguments, "agent", outcome.agent, 64));
    outcome.success = signal.success;
    outcome.quality = signal.quality;
    outcome.feedback_id = signal.feedback_id;
    RETURN_IF_ERROR(service.router()->feedback(*id, outcome, scope_of(caller)));
  } else if (!trajectory_id.empty()) {
    const auto id = TrajectoryId::parse(trajectory_id);
    if (!id) return fail(ErrorKind::kUsage, "request.not_found", "trajectory_id: no such trajectory");
    RETURN_IF_ERROR(service.sona()->feedback(*id, signal, scope_of(caller)));
  } else if (!request_id.empty()) {
    const RequestId id = service.request_of(request_id);
    if (id == 0) return fail(ErrorKind::kUsage, "request.not_found", "request_id: no such answer");
    if (service.model()->config().sona_config.learn == LearnMode::kOff) {
      return fail(ErrorKind::kUsage, "learning.not_recorded",
                  "request_id: answers are not recorded; start the server with --learn record or --learn on");
    }
    RETURN_IF_ERROR(service.sona()->feedback(id, signal, scope_of(caller, session)));
  } else {
    return bad_field("request_id", "expected one of request_id, decision_id and trajectory_id");
  }
  return Json{{"ok", true}, {"durable", true}};
}

Result<Json> post_trajectory(Service& service, const Caller& caller, const Json& arguments) {
  ASSIGN_OR_RETURN(const std::string task, required_text(arguments, "task"));
  std::string type = "task", agent, session;
  RETURN_IF_ERROR(read_string(arguments, "task_type", type, 64));
  RETURN_IF_ERROR(read_string(arguments, "agent", agent, 64));
  RETURN_IF_ERROR(read_string(arguments, "session_id", session, 128));
  OpenTrajectory open{caller.tenant, session, Trajectory(type), std::chrono::steady_clock::now()};
  open.trajectory.add_state({.text = task});
  if (!agent.empty()) open.trajectory.set_agent(agent);
  RETURN_IF_ERROR(read_steps(arguments, open.trajectory));
  ASSIGN_OR_RETURN(const auto verdict, read_verdict(arguments));
  ASSIGN_OR_RETURN(const auto quality, read_quality(arguments));
  if (verdict) open.trajectory.set_verdict(*verdict);
  if (quality) open.trajectory.set_quality(*quality, QualitySource::kCaller);
  if (verdict || quality) return store(service, caller, std::move(open));
  return opened(service.open_trajectories().open(std::move(open)));
}

Result<Json> add_steps(Service& service, const Caller& caller, const std::string& id, const Json& arguments) {
  Trajectory steps("task");
  if (member(arguments, "steps").is_null()) {
    RETURN_IF_ERROR(read_step(arguments, steps));
  } else {
    RETURN_IF_ERROR(read_steps(arguments, steps));
  }
  RETURN_IF_ERROR(service.open_trajectories().add(id, caller.tenant, std::move(steps.steps)));
  return Json{{"id", id}, {"durable", false}};
}

Result<Json> end_trajectory(Service& service, const Caller& caller, const std::string& id,
                            const Json& arguments) {
  ASSIGN_OR_RETURN(auto verdict, read_verdict(arguments));
  ASSIGN_OR_RETURN(const auto quality, read_quality(arguments));
  std::optional<bool> success;
  RETURN_IF_ERROR(read_optional(arguments, "success", success));
  std::string feedback;
  RETURN_IF_ERROR(read_string(arguments, "feedback", feedback, 8 << 10));
  if (!verdict && success) verdict = *success ? Verdict::success() : Verdict::failure();
  ASSIGN_OR_RETURN(OpenTrajectory open, service.open_trajectories().close(id, caller.tenant));
  if (verdict) open.trajectory.set_verdict(*verdict);
  if (quality) open.trajectory.set_quality(*quality, QualitySource::kCaller);
  if (!feedback.empty()) open.trajectory.set_lesson(feedback);
  return store(service, caller, std::move(open));
}

Result<std::vector<PatternHit>> search_bank(Service& service, const Caller& caller, std::string_view query,
                                            int limit, bool gated) {
  return service.sona()->reasoning_bank().search(query, limit, scope_of(caller),
                                                 {.kind = {}, .gated = gated});
}

namespace {

Json generation_json(const GenerationInfo& generation) {
  Json report = nullptr;
  if (!generation.report.empty())
    if (auto parsed = parse_json(generation.report, "report")) report = std::move(*parsed);
  return {{"generation", generation.number},
          {"hash", generation.hash},
          {"parent", generation.parent},
          {"session_id", generation.scope.session.empty() ? Json() : Json(generation.scope.session)},
          {"reason", generation.reason},
          {"time", generation.time_us / 1'000'000},
          {"report", std::move(report)}};
}

// What became of the learner's candidates, of all tenants.
struct Updates {
  uint64_t n_accepted = 0;
  Json rejected = Json::object();  // by reason
};

Updates updates_of(const AdapterStatus& status) {
  constexpr std::string_view kRefused = "refused: ";
  Updates updates;
  for (const auto& [name, n] : status.counters) {
    if (name == "accepted") updates.n_accepted = n;
    if (name.starts_with(kRefused)) updates.rejected[name.substr(kRefused.size())] = n;
  }
  return updates;
}

bool is_frozen(const AdapterStatus& status, const Caller& caller) {
  return std::any_of(status.frozen.begin(), status.frozen.end(), [&](const Scope& scope) {
    return scope.tenant == caller.tenant && scope.session.empty();
  });
}

}  // namespace

Json sona_summary(Service& service, const Caller& caller) {
  Sona* sona = service.sona();
  if (sona == nullptr) return nullptr;
  const SonaStatus status = sona->status();
  const GenerationInfo live = sona->live(scope_of(caller));
  Updates updates = updates_of(status.adapters);
  return {{"mode", learn_mode_name(status.mode)},
          {"generation", live.number},
          {"hash", live.hash},
          {"accepted", updates.n_accepted},
          {"rejected", std::move(updates.rejected)},
          {"bank_rows", status.bank.n_patterns},
          {"bank_capacity", status.bank.capacity},
          {"trajectories", status.n_trajectories},
          {"signals_waiting", status.adapters.n_waiting},
          {"frozen", is_frozen(status.adapters, caller)}};
}

Json sona_status(Service& service, const Caller& caller) {
  Sona& sona = *service.sona();
  const SonaStatus status = sona.status();
  const GenerationInfo live = sona.live(scope_of(caller));
  Updates updates = updates_of(status.adapters);
  Json counters = Json::object();
  for (const auto& [name, n] : status.adapters.counters) counters[name] = n;
  // What was measured for others is not told.
  Json reports = Json::array(), change = nullptr;
  for (const LearningReport& report : status.adapters.reports) {
    if (report.scope.tenant != caller.tenant) continue;
    if (report.accepted && change.is_null()) change = report.nll_after - report.nll_before;
    reports.push_back(learning_report_json(report));
  }
  return {{"enabled", true},
          {"mode", learn_mode_name(status.mode)},
          {"generation", live.number},
          {"hash", live.hash},
          {"updates", {{"accepted", updates.n_accepted}, {"rejected", std::move(updates.rejected)}}},
          {"counters", std::move(counters)},
          {"delta_nll", std::move(change)},
          {"reports", std::move(reports)},
          {"hooks", status.hooks_effective},
          {"bank",
           {{"rows", status.bank.n_patterns},
            {"capacity", status.bank.capacity},
            {"clusters", status.bank.n_clusters}}},
          {"index", {{"state", status.bank.index_state}, {"rows", status.bank.index_rows}}},
          {"trajectories", status.n_trajectories},
          {"feedback", status.n_feedback},
          {"decisions", status.n_decisions},
          {"signals",
           {{"waiting", status.adapters.n_waiting},
            {"total", status.adapters.n_signals},
            {"overwritten", status.adapters.n_overwritten}}},
          {"frozen", is_frozen(status.adapters, caller)},
          {"jobs", service.jobs_json(caller.tenant)}};
}

Json list_adapters(Service& service, const Caller& caller) {
  const GenerationInfo live = service.sona()->live(scope_of(caller));
  Json data = Json::array();
  const auto add = [&](const Scope& scope) {
    bool is_live = true;  // the newest
    for (const GenerationInfo& generation : service.sona()->history(scope)) {
      data.push_back(generation_json(generation));
      data.back()["live"] = std::exchange(is_live, false);
    }
  };
  add(scope_of(caller));
  for (const GenerationInfo& other : service.sona()->status().adapters.live)
    if (other.scope.tenant == caller.tenant && !other.scope.session.empty()) add(other.scope);
  return {{"scope", caller.tenant},
          {"live", {{"generation", live.number}, {"hash", live.hash}}},
          {"data", std::move(data)}};
}

Result<Json> roll_back(Service& service, const Caller& caller, const Json& arguments) {
  std::optional<uint64_t> to, expected;
  std::string session;
  int64_t number = 0;
  constexpr int64_t kMost = int64_t{1} << 53;
  if (!member(arguments, "to_generation").is_null()) {
    RETURN_IF_ERROR(read_integer(arguments, "to_generation", 0, kMost, number));
    to = static_cast<uint64_t>(number);
  }
  if (!member(arguments, "expected_generation").is_null()) {
    RETURN_IF_ERROR(read_integer(arguments, "expected_generation", 0, kMost, number));
    expected = static_cast<uint64_t>(number);
  }
  RETURN_IF_ERROR(read_string(arguments, "session_id", session, 128));
  ASSIGN_OR_RETURN(const GenerationInfo now,
                   service.sona()->rollback(scope_of(caller, session), to, expected));
  return Json{{"generation", now.number}, {"hash", now.hash}};
}

}  // namespace ruvltra

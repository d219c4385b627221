#include "server/learning_routes.h"

#include <cmath>

#include "base/fail.h"
#include "server/answer.h"
#include "server/fields.h"
#include "server/learning_requests.h"
#include "server/order.h"

namespace ruvltra {
namespace {

// An empty body is an empty object, where every field may be absent.
Result<Json> optional_body(const Call& call) {
  if (call.request().body.empty()) return Json::object();
  return call.body();
}

Handled told(Result<Json> document, int status = 200) {
  if (!document) return tl::unexpected<Error>(std::move(document).error());
  return json_response(*document, status);
}

Scope scope_of(const Call& call, std::string session = {}) {
  return {.tenant = call.caller.tenant, .session = std::move(session)};
}

}  // namespace

Handled route(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  return told(route_task(call.service, call.caller, body));
}

Handled get_agents(Call& call) { return HttpResponse{.body = call.service.router()->agents_json()}; }

Handled put_agents(Call& call) {
  RETURN_IF_ERROR(call.service.router()->set_agents_json(call.request().body));
  return get_agents(call);
}

Handled trajectories(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  return told(post_trajectory(call.service, call.caller, body));
}

Handled trajectory_steps(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  return told(add_steps(call.service, call.caller, call.arguments[0], body));
}

Handled trajectory_end(Call& call) {
  ASSIGN_OR_RETURN(const Json body, optional_body(call));
  return told(end_trajectory(call.service, call.caller, call.arguments[0], body));
}

Handled feedback(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  return told(give_feedback(call.service, call.caller, body));
}

Handled sona_status_route(Call& call) { return json_response(sona_status(call.service, call.caller)); }

Handled sona_metrics(Call& call) {
  const SonaStatus status = call.service.sona()->status();
  const auto accepted = status.adapters.counters.find("accepted");
  return json_response(
      {{"enabled", status.mode != LearnMode::kOff},
       {"adaptationsApplied", accepted == status.adapters.counters.end() ? 0 : accepted->second},
       {"qualityScore", nullptr},
       {"patternsLearned", status.bank.n_patterns}});
}

Handled sona_adapters(Call& call) { return json_response(list_adapters(call.service, call.caller)); }

Handled sona_learn(Call& call) {
  ASSIGN_OR_RETURN(const Json body, optional_body(call));
  std::string conversation;
  RETURN_IF_ERROR(read_string(body, "conversation_id", conversation, 128));
  RETURN_IF_ERROR(read_string(body, "session_id", conversation, 128));
  // The id of an answer stands for whatever it was told under: the tenant's own adapter.
  if (call.service.request_of(conversation) != 0) conversation.clear();
  Sona* sona = call.service.sona();
  if (!sona->status().adapters.learns) {
    return fail(ErrorKind::kUsage, "learning.disabled",
                "learn: adapters do not learn here; start the server with --learn on");
  }
  const Scope scope = scope_of(call, conversation);
  ASSIGN_OR_RETURN(const std::string job,
                   call.service.jobs().queue(call.caller.tenant, "learn", [sona, scope]() -> Result<Json> {
                     ASSIGN_OR_RETURN(const LearningReport report, sona->learn(scope));
                     return Json{{"accepted", report.accepted},
                                 {"reason", report.reason},
                                 {"generation", report.generation},
                                 {"nll_before", report.nll_before},
                                 {"nll_after", report.nll_after}};
                   }));
  return json_response({{"job", job}, {"status", "queued"}}, 202);
}

Handled sona_rollback(Call& call) {
  ASSIGN_OR_RETURN(const Json body, optional_body(call));
  return told(roll_back(call.service, call.caller, body));
}

Handled sona_reset(Call& call) {
  ASSIGN_OR_RETURN(const GenerationInfo now, call.service.sona()->reset(scope_of(call)));
  return json_response({{"generation", now.number}, {"hash", now.hash}});
}

Handled sona_freeze(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  bool frozen = true;
  RETURN_IF_ERROR(read_bool(body, "frozen", frozen));
  RETURN_IF_ERROR(call.service.sona()->freeze(scope_of(call), frozen ? 1e9 : 0));
  return json_response({{"frozen", frozen}});
}

// Learned weights as in adapter.rvc1 of `ruvltra sona export`.
Handled sona_export(Call& call) {
  ASSIGN_OR_RETURN(const Json body, optional_body(call));
  std::string session;
  RETURN_IF_ERROR(read_string(body, "session_id", session, 128));
  ASSIGN_OR_RETURN(const auto bytes, call.service.sona()->adapter_bytes(scope_of(call, std::move(session))));
  return HttpResponse{
      .content_type = "application/octet-stream",
      .body = std::string(bytes.begin(), bytes.end()),
      .headers = {{"Content-Disposition", "attachment; filename=\"adapter.rvc1\""}},
  };
}

Handled sona_import(Call& call) {
  const std::string& body = call.request().body;
  const std::span bytes(reinterpret_cast<const uint8_t*>(body.data()), body.size());
  ASSIGN_OR_RETURN(const GenerationInfo now, call.service.sona()->import_adapter(bytes, scope_of(call)));
  return json_response({{"generation", now.number}, {"hash", now.hash}});
}

Handled sona_tasks(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  std::string name;
  RETURN_IF_ERROR(read_string(body, "name", name, 128));
  if (name.empty()) return bad_field("name", "expected a name");
  RETURN_IF_ERROR(call.service.sona()->begin_task(scope_of(call), name));
  return json_response({{"task", name}});
}

Handled sona_delete_tenant(Call& call) {
  ASSIGN_OR_RETURN(const DeleteReport gone, call.service.sona()->delete_data(call.caller.tenant));
  return json_response({{"tenant", call.caller.tenant},
                        {"trajectories", gone.n_trajectories},
                        {"patterns", gone.n_patterns},
                        {"feedback", gone.n_feedback},
                        {"decisions", gone.n_decisions},
                        {"generations", gone.n_generations}});
}

Handled hnsw_search(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  std::string text;
  int limit = 10;
  RETURN_IF_ERROR(read_string(body, "query", text, 64 << 10));
  if (text.empty()) return bad_field("query", "expected a text that is not empty");
  RETURN_IF_ERROR(read_integer(body, "limit", 1, 100, limit));
  ASSIGN_OR_RETURN(const auto hits, search_bank(call.service, call.caller, text, limit, false));
  Json list = Json::array();
  for (const PatternHit& hit : hits) {
    list.push_back({{"id", hit.id.text()},
                    {"similarity", hit.similarity},
                    {"content", hit.text},
                    {"title", hit.title},
                    {"kind", pattern_kind_name(hit.kind)},
                    {"lcb", hit.lcb},
                    {"uses", hit.uses}});
  }
  return json_response(list);
}

Handled stats(Call& call) {
  const EngineStats engine = call.model().engine().stats();
  const Json latency = call.service.measures().latencies();
  const Sona* sona = call.service.sona();
  const SonaStatus status = sona != nullptr ? sona->status() : SonaStatus();
  return json_response({{"total_queries", engine.n_finished},
                        {"cache_hits", engine.n_cached_tokens},
                        {"avg_latency_ms", 1000 * call.service.measures().mean_answer_seconds()},
                        {"memory_nodes", status.bank.n_patterns},
                        {"router_updates", status.router.n_head_updates}});
}

namespace {

// POST /query: one question, one document (section 2.8 of the design).
class QueryPresenter final : public Presenter {
 public:
  QueryPresenter(Service& service, bool learns) : service_(service), learns_(learns) {}
  void begin(std::span<const Stream> streams) override {
    id_ = service_.response_id("query-", streams[0].id());
  }
  std::string piece(size_t, const Event&) override { return {}; }
  std::string closing(const Usage&) override { return {}; }
  std::string failure(const Error&) override { return {}; }
  Result<HttpResponse> whole(std::span<const Generation> generations, const Usage& usage) override {
    const Generation& generation = generations[0];
    double sum = 0;
    for (const Sampled& sampled : generation.logprobs) sum += sampled.logprob;
    const auto n = static_cast<double>(std::max<size_t>(generation.logprobs.size(), 1));
    Json document = {
        {"id", id_},
        {"model", service_.info().id},
        {"content", generation.text},
        {"text", generation.text},
        {"usage", usage_json(usage)},
        {"confidence", std::exp(sum / n)},
        {"latency_ms", 1000 * (generation.timings.first_token_seconds + generation.timings.generate_seconds)},
        {"done", generation.finish_reason == FinishReason::kStop}};
    if (learns_) document["sona_metrics"] = {{"adaptation_applied", generation.adapter_generation != 0}};
    return json_response(document);
  }

 private:
  Service& service_;
  const bool learns_;
  std::string id_;
};

}  // namespace

Handled query(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  std::string text;
  RETURN_IF_ERROR(read_string(body, "query", text));
  if (text.empty()) return bad_field("query", "expected a text that is not empty");
  ASSIGN_OR_RETURN(Order order, read_order(call, body));
  order.params.n_logprobs = 1;
  if (order.params.n != 1) return bad_field("n", "expected 1, found {}", order.params.n);
  std::vector<ChatMessage> messages;
  constexpr std::string_view kSystem = "[System]: ";
  if (const size_t end = text.find("\n\n"); text.starts_with(kSystem) && end != std::string::npos) {
    messages.push_back({"system", text.substr(kSystem.size(), end - kSystem.size()), {}});
    text.erase(0, end + 2);
  }
  messages.push_back({"user", text, {}});
  Request request;
  ASSIGN_OR_RETURN(request.prompt, call.model().tokenize(messages));
  request.params = order.params;
  request.treatment = order.treatment;
  // This client makes a new session for every question: it remembers nothing, and learns nothing of its own.
  request.treatment.session.clear();
  request.treatment.task = text;
  request.adapter = order.adapter;
  AnswerOrder job{.requests = {std::move(request)},
                  .streamed = false,
                  .with_progress = false,
                  .preview = preview_of(text),
                  .id_prefix = "query-"};
  return answer(call, std::move(job),
                std::make_unique<QueryPresenter>(call.service, call.service.sona() != nullptr));
}

Handled provider_feedback(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  std::string question, response;
  double quality = -1;
  RETURN_IF_ERROR(read_string(body, "query", question, 64 << 10));
  RETURN_IF_ERROR(read_string(body, "response", response, 64 << 10));
  RETURN_IF_ERROR(read_number(body, "quality", 0, 1, quality));
  if (question.empty()) return bad_field("query", "expected a text that is not empty");
  if (quality < 0) return bad_field("quality", "expected a number");
  Trajectory trajectory("query");
  trajectory.add_state({.text = question});
  trajectory.add_action("answer", quality, response);
  trajectory.set_quality(quality, QualitySource::kCaller);
  ASSIGN_OR_RETURN(const TrajectoryId id,
                   call.service.sona()->record_trajectory(std::move(trajectory), scope_of(call)));
  return json_response({{"id", id.text()}, {"durable", true}});
}

}  // namespace ruvltra

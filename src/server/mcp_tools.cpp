#include "server/mcp_tools.h"

#include <algorithm>
#include <chrono>

#include "base/fail.h"
#include "server/answer.h"
#include "server/fields.h"
#include "server/learning_requests.h"
#include "server/messages.h"
#include "server/openai.h"
#include "server/order.h"

namespace ruvltra {
namespace {

Result<std::string> text_argument(const Json& arguments, std::string_view name) {
  std::string text;
  RETURN_IF_ERROR(read_string(arguments, name, text, 64 << 10));
  if (text.empty()) return bad_field(name, "expected a text that is not empty");
  return text;
}

Result<Json> run_route(Service& service, const Caller& caller, const Json& arguments, CancelToken&) {
  return route_task(service, caller, arguments);
}

Result<Json> run_route_feedback(Service& service, const Caller& caller, const Json& arguments, CancelToken&) {
  RETURN_IF_ERROR(text_argument(arguments, "decision_id"));
  return give_feedback(service, caller, arguments);
}

Result<Json> run_classify(Service& service, const Caller& caller, const Json& arguments, CancelToken&) {
  ASSIGN_OR_RETURN(Json decision, route_task(service, caller, arguments));
  return Json{{"task_type", decision["task_type"]},
              {"complexity", decision["modelTier"]["complexity"]},
              {"complexity_level", decision["estimatedMetrics"]["complexity"]},
              {"tier", decision["modelTier"]["model"]},
              {"tier_confidence", decision["modelTier"]["confidence"]},
              {"decision_id", decision["decision_id"]}};
}

Result<Json> run_embed(Service& service, const Caller& caller, const Json& arguments, CancelToken&) {
  ASSIGN_OR_RETURN(const std::string text, text_argument(arguments, "text"));
  ASSIGN_OR_RETURN(const auto vector, service.sona()->embed(text, {.tenant = caller.tenant, .session = {}}));
  return Json{{"embedding", vector}, {"dimensions", vector.size()}};
}

Result<Json> run_trajectory_start(Service& service, const Caller& caller, const Json& arguments,
                                  CancelToken&) {
  ASSIGN_OR_RETURN(const Json begun, post_trajectory(service, caller, arguments));
  return Json{{"trajectoryId", begun["id"]}, {"durable", begun["durable"]}};
}

Result<Json> run_trajectory_step(Service& service, const Caller& caller, const Json& arguments,
                                 CancelToken&) {
  ASSIGN_OR_RETURN(const std::string id, text_argument(arguments, "trajectoryId"));
  ASSIGN_OR_RETURN(const Json added, add_steps(service, caller, id, arguments));
  return Json{{"trajectoryId", added["id"]}, {"durable", added["durable"]}};
}

Result<Json> run_trajectory_end(Service& service, const Caller& caller, const Json& arguments, CancelToken&) {
  ASSIGN_OR_RETURN(const std::string id, text_argument(arguments, "trajectoryId"));
  ASSIGN_OR_RETURN(const Json ended, end_trajectory(service, caller, id, arguments));
  return Json{{"trajectoryId", ended["id"]}, {"durable", ended["durable"]}};
}

Result<Json> run_pattern_store(Service& service, const Caller& caller, const Json& arguments, CancelToken&) {
  PatternItem item;
  std::string type = "strategy";
  ASSIGN_OR_RETURN(item.text, text_argument(arguments, "pattern"));
  RETURN_IF_ERROR(read_string(arguments, "type", type, 32));
  ASSIGN_OR_RETURN(item.kind, parse_pattern_kind(type));
  RETURN_IF_ERROR(read_number(arguments, "confidence", 0, 1, item.quality));
  RETURN_IF_ERROR(read_string(arguments, "task", item.when, 8 << 10));
  item.title = item.text.substr(0, item.text.find('\n'));
  if (item.title.size() > 80) item.title = item.title.substr(0, item.title.rfind(' ', 80));
  item.provenance = "mcp";
  ASSIGN_OR_RETURN(const PatternId id,
                   service.sona()->reasoning_bank().store(item, {.tenant = caller.tenant, .session = {}}));
  return Json{{"id", id.text()}, {"durable", true}};
}

Result<Json> run_pattern_search(Service& service, const Caller& caller, const Json& arguments, CancelToken&) {
  ASSIGN_OR_RETURN(const std::string query, text_argument(arguments, "query"));
  int k = 5;
  double least = 0.3;
  RETURN_IF_ERROR(read_integer(arguments, "topK", 1, 100, k));
  RETURN_IF_ERROR(read_number(arguments, "minConfidence", 0, 1, least));
  ASSIGN_OR_RETURN(const auto hits, search_bank(service, caller, query, k, false));
  Json list = Json::array();
  for (const PatternHit& hit : hits) {
    if (hit.similarity < least) continue;
    list.push_back({{"id", hit.id.text()},
                    {"type", pattern_kind_name(hit.kind)},
                    {"title", hit.title},
                    {"pattern", hit.text},
                    {"similarity", hit.similarity},
                    {"confidence", hit.lcb},
                    {"uses", hit.uses}});
  }
  return Json{{"patterns", std::move(list)}};
}

Result<Json> run_sona_status(Service& service, const Caller& caller, const Json&, CancelToken&) {
  return sona_status(service, caller);
}
Result<Json> run_adapter_list(Service& service, const Caller& caller, const Json&, CancelToken&) {
  return list_adapters(service, caller);
}
Result<Json> run_adapter_rollback(Service& service, const Caller& caller, const Json& arguments,
                                  CancelToken&) {
  if (member(arguments, "to_generation").is_null() || member(arguments, "expected_generation").is_null())
    return bad_field("to_generation", "expected it, and expected_generation beside it");
  return roll_back(service, caller, arguments);
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Result<Json> run_chat(Service& service, const Caller& caller, const Json& arguments, CancelToken& token) {
  MediumModel& model = *service.model();
  Request request;
  ASSIGN_OR_RETURN(static_cast<SamplingParams&>(request.params), profile_sampling(service.options().profile));
  RETURN_IF_ERROR(read_number(arguments, "temperature", 0, 2, request.params.temperature));
  RETURN_IF_ERROR(
      read_integer(arguments, "max_tokens", 1, model.config().context_length, request.params.max_tokens));
  int64_t seed = -1;
  RETURN_IF_ERROR(read_integer(arguments, "seed", INT64_MIN, INT64_MAX, seed));
  if (!member(arguments, "seed").is_null()) request.params.seed = static_cast<uint64_t>(seed);
  std::vector<ChatMessage> messages;
  if (member(arguments, "messages").is_null()) {
    ASSIGN_OR_RETURN(std::string prompt, text_argument(arguments, "prompt"));
    messages.push_back({"user", std::move(prompt), {}});
  } else {
    ASSIGN_OR_RETURN(messages, read_messages(arguments));
  }
  request.treatment.task = messages.back().content;
  request.treatment.tenant = caller.tenant;
  request.treatment.timeout_seconds = service.options().request_seconds;
  const auto running = std::make_shared<Running>();
  running->route = "/mcp";
  running->tenant = caller.tenant;
  running->preview = preview_of(messages.back().content);
  running->begin = std::chrono::steady_clock::now();
  request.prompt = std::move(messages);
  ASSIGN_OR_RETURN(Stream stream, model.engine().stream(std::move(request)));
  const RequestId id = stream.id();
  running->id = service.response_id("mcp-", id);
  running->n_prompt = stream.prompt_progress().n_total;
  running->cancel = [&model, id] { model.engine().cancel(id); };
  service.add(running);
  token.when_cancelled(running->cancel);
  while (const auto event = stream.next()) {
    if (!event->token) continue;
    if (running->n_generated++ == 0) {
      running->n_prompt_done = running->n_prompt.load();
      service.measures().first_token(seconds_since(running->begin));
    }
  }
  token.when_cancelled(nullptr);
  service.remove(running);
  const std::span<const Generation> generations = stream.generations();
  const Generation& generation = generations[0];
  if (generation.finish_reason == FinishReason::kFailed ||
      generation.finish_reason == FinishReason::kCancelled)
    return tl::unexpected<Error>(generation.error.value_or(
        Error{ErrorKind::kCancelled, "request.cancelled", "the call was cancelled"}));
  service.measures().answered(finish_reason_name(generation.finish_reason), seconds_since(running->begin),
                              generation.timings);
  return Json{{"text", generation.text},
              {"finish_reason", generation.finish_reason == FinishReason::kStop ? "stop" : "length"},
              {"request_id", running->id},
              {"seed", static_cast<int64_t>(generation.seed)},
              {"prompt_tokens", generation.n_prompt},
              {"completion_tokens", generation.tokens.size()}};
}

using Needs = Route::Needs;
constexpr McpTool kTools[] = {
    {"route", "Which agent a task belongs to, with alternatives, confidence and evidence",
     R"({"type":"object","properties":{"task":{"type":"string"},"context":{"type":"string"},"k":{"type":"integer","minimum":1,"maximum":16}},"required":["task"]})",
     Needs::kSona, run_route},
    {"route_feedback", "What became of a routing decision: it is learned from",
     R"({"type":"object","properties":{"decision_id":{"type":"string"},"agent":{"type":"string"},"success":{"type":"boolean"},"quality":{"type":"number","minimum":0,"maximum":1}},"required":["decision_id","agent","success"]})",
     Needs::kSona, run_route_feedback},
    {"classify_task", "Kind, complexity and model tier of a task",
     R"({"type":"object","properties":{"task":{"type":"string"}},"required":["task"]})", Needs::kSona,
     run_classify},
    {"embed", "The unit vector of a text, made of the model's hidden states",
     R"({"type":"object","properties":{"text":{"type":"string"}},"required":["text"]})", Needs::kSona,
     run_embed},
    {"trajectory_start", "Begins the record of a task",
     R"({"type":"object","properties":{"task":{"type":"string"},"agent":{"type":"string"}},"required":["task"]})",
     Needs::kSona, run_trajectory_start},
    {"trajectory_step", "Adds an action to a record that was begun",
     R"({"type":"object","properties":{"trajectoryId":{"type":"string"},"action":{"type":"string"},"result":{"type":"string"},"quality":{"type":"number","minimum":0,"maximum":1}},"required":["trajectoryId","action"]})",
     Needs::kSona, run_trajectory_step},
    {"trajectory_end", "Ends a record and stores it; a success or failure becomes patterns",
     R"({"type":"object","properties":{"trajectoryId":{"type":"string"},"success":{"type":"boolean"},"quality":{"type":"number","minimum":0,"maximum":1},"feedback":{"type":"string"}},"required":["trajectoryId"]})",
     Needs::kSona, run_trajectory_end},
    {"pattern_store", "Keeps a text worth having again (type: strategy, correction or avoid)",
     R"({"type":"object","properties":{"pattern":{"type":"string"},"type":{"type":"string","enum":["strategy","correction","avoid"]},"confidence":{"type":"number","minimum":0,"maximum":1},"task":{"type":"string"}},"required":["pattern"]})",
     Needs::kSona, run_pattern_store},
    {"pattern_search", "The kept texts nearest to a query",
     R"({"type":"object","properties":{"query":{"type":"string"},"topK":{"type":"integer","minimum":1,"maximum":100},"minConfidence":{"type":"number","minimum":0,"maximum":1}},"required":["query"]})",
     Needs::kSona, run_pattern_search},
    {"sona_status", "What was learned, as measured", R"({"type":"object","properties":{}})", Needs::kSona,
     run_sona_status},
    {"adapter_list", "Generations of learned weights", R"({"type":"object","properties":{}})", Needs::kSona,
     run_adapter_list},
    {"adapter_rollback", "Back to an older generation, if the expected one is live",
     R"({"type":"object","properties":{"to_generation":{"type":"integer","minimum":0},"expected_generation":{"type":"integer","minimum":0}},"required":["to_generation","expected_generation"]})",
     Needs::kSona, run_adapter_rollback},
    {"chat", "An answer of the local model",
     R"({"type":"object","properties":{"messages":{"type":"array","items":{"type":"object"}},"prompt":{"type":"string"},"max_tokens":{"type":"integer","minimum":1},"temperature":{"type":"number","minimum":0,"maximum":2},"seed":{"type":"integer"}}})",
     Needs::kModel, run_chat},
};

}  // namespace

Json mcp_tools() {
  Json tools = Json::array();
  for (const McpTool& tool : kTools)
    tools.push_back(
        {{"name", tool.name}, {"description", tool.description}, {"inputSchema", Json::parse(tool.schema)}});
  return tools;
}

const McpTool* find_mcp_tool(std::string_view name) {
  const auto found = std::find_if(std::begin(kTools), std::end(kTools),
                                  [&](const McpTool& tool) { return tool.name == name; });
  return found == std::end(kTools) ? nullptr : &*found;
}

Result<Json> run_mcp_tool(const McpTool& tool, Service& service, const Caller& caller, const Json& arguments,
                          CancelToken& token) {
  if (service.model() == nullptr) return fail(ErrorKind::kBusy, "model_loading", "the model is loading");
  if (tool.needs == Needs::kSona && service.sona() == nullptr) {
    const std::string why = service.sona_failure();
    return fail(ErrorKind::kBusy, "learning_loading", "the learning system {}",
                why.empty() ? "is starting" : "did not start: " + why);
  }
  return tool.run(service, caller, arguments, token);
}

}  // namespace ruvltra

// POST /v1/chat/completions
#include <algorithm>
#include <optional>

#include "base/fail.h"
#include "server/answer.h"
#include "server/fields.h"
#include "server/messages.h"
#include "server/openai.h"
#include "server/order.h"
#include "server/tool_calls.h"

namespace ruvltra {
namespace {

struct ChatOrder : Order {
  bool logprobs = false;
  int n_top = 0;
  bool has_tools = false, parallel_calls = true;
  std::vector<PatternId> bank_ids;
};

Json tool_call_json(const ToolCall& call, const std::string& id, std::optional<size_t> index) {
  Json json = Json::object();
  json["id"] = id;
  if (index) json["index"] = *index;
  json["type"] = "function";
  json["function"] = {{"name", call.name}, {"arguments", call.arguments}};
  return json;
}

class ChatPresenter final : public Presenter {
 public:
  ChatPresenter(Service& service, ChatOrder order) : service_(service), order_(std::move(order)) {}

  void begin(std::span<const Stream> streams) override {
    const Generation& first = streams[0].generations()[0];
    id_ = service_.response_id("chatcmpl-", streams[0].id());
    created_ = unix_seconds();
    fingerprint_ = fingerprint(model(), first);
    about_ = {{"adapter_generation", first.adapter_generation},
              {"profile", order_.profile},
              {"seed", static_cast<int64_t>(streams[0].seed())}};
    if (order_.bank) {
      about_["bank"] = Json::array();
      for (const PatternId& id : order_.bank_ids) about_["bank"].push_back(id.text());
    }
    head_ = fmt::format(
        R"({{"id":{},"object":"chat.completion.chunk","created":{},"model":{},"system_fingerprint":{},)",
        json_string(id_), created_, json_string(order_.model), json_string(fingerprint_));
    choices_.resize(static_cast<size_t>(order_.params.n));
  }

  std::string opening() override {
    std::string out;
    for (size_t i = 0; i < choices_.size(); ++i)
      out += chunk(i, R"({"role":"assistant","content":""})", "null", "null");
    return out;
  }

  std::string progress(const PromptProgress& progress) override {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    return sse(fmt::format(R"({}"choices":[{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":null}}],)"
                           R"("prompt_progress":{{"total":{},"cache":0,"processed":{},"time_ms":{}}}}})",
                           head_, progress.n_total, progress.n_done, static_cast<int64_t>(1000 * seconds)));
  }

  std::string piece(size_t choice, const Event& event) override {
    Choice& state = choices_[choice];
    const bool last = event.generation != nullptr;
    ToolCallReader::Piece read = read_piece(state, event.text, last);
    std::string logprobs = "null";
    if (order_.logprobs && event.token && !ends(event))
      logprobs = to_json({{"content", Json::array({chat_logprob(model(), *event.token, order_.n_top)})},
                          {"refusal", nullptr}});
    std::string out;
    if (!read.text.empty() || logprobs != "null")
      out += chunk(choice, fmt::format(R"({{"content":{}}})", json_string(read.text)), logprobs, "null",
                   read.text, order_.return_drafted && event.token && event.token->was_drafted);
    for (const ToolCall& call : read.calls) {
      if (!order_.parallel_calls && state.n_calls > 0) break;
      const std::string id = call_id(choice, state.n_calls);
      const size_t index = state.n_calls++;
      ToolCall named{call.name, ""};
      out += chunk(choice, to_json({{"tool_calls", Json::array({tool_call_json(named, id, index)})}}), "null",
                   "null");
      out += chunk(choice,
                   fmt::format(R"({{"tool_calls":[{{"index":{},"function":{{"arguments":{}}}}}]}})", index,
                               json_string(call.arguments)),
                   "null", "null");
    }
    if (last) out += final_chunk(choice, *event.generation);
    return out;
  }

  std::string closing(const Usage& usage) override {
    std::string out;
    if (order_.include_usage)
      out += sse(head_ + R"("choices":[],"usage":)" + to_json(usage_json(usage)) + "}");
    if (order_.sona_options)
      out +=
          sse(head_ + R"("choices":[],"content":"","done":true,"usage":)" + to_json(usage_json(usage)) + "}");
    return out + "data: [DONE]\n\n";
  }

  std::string failure(const Error& error) override {
    return sse(to_response(error, ErrorShape::kOpenAi).body) + "data: [DONE]\n\n";
  }

  Result<HttpResponse> whole(std::span<const Generation> generations, const Usage& usage) override {
    Json choices = Json::array();
    for (size_t i = 0; i < generations.size(); ++i) {
      const Generation& generation = generations[i];
      Choice state;
      ToolCallReader::Piece read = read_piece(state, generation.text, true);
      if (!order_.parallel_calls && read.calls.size() > 1) read.calls.resize(1);
      Json message = {{"role", "assistant"}, {"content", read.text}, {"refusal", nullptr}};
      if (!read.calls.empty()) {
        if (read.text.empty()) message["content"] = nullptr;
        Json calls = Json::array();
        for (size_t k = 0; k < read.calls.size(); ++k)
          calls.push_back(tool_call_json(read.calls[k], call_id(i, k), std::nullopt));
        message["tool_calls"] = std::move(calls);
      }
      Json logprobs = nullptr;
      if (order_.logprobs) {
        Json content = Json::array();
        for (const Sampled& sampled : generation.logprobs)
          if (!is_end(sampled.token, generation))
            content.push_back(chat_logprob(model(), sampled, order_.n_top));
        logprobs = {{"content", std::move(content)}, {"refusal", nullptr}};
      }
      choices.push_back({{"index", i},
                         {"message", std::move(message)},
                         {"logprobs", std::move(logprobs)},
                         {"finish_reason", read.calls.empty() ? finish_reason(generation) : "tool_calls"}});
    }
    return json_response({{"id", id_},
                          {"object", "chat.completion"},
                          {"created", created_},
                          {"model", order_.model},
                          {"system_fingerprint", fingerprint_},
                          {"choices", std::move(choices)},
                          {"usage", usage_json(usage)},
                          {"timings", timings_json(generations[0])},
                          {"ruvltra", about(generations[0])}});
  }

 private:
  struct Choice {
    ToolCallReader reader;
    size_t n_calls = 0;
  };
  const MediumModel& model() const { return *service_.model(); }
  std::string call_id(size_t choice, size_t index) const {
    return fmt::format("call_{}_{}_{}", id_.substr(id_.find('-') + 1), choice, index);
  }
  // A token that ended the answer is no part of its content.
  bool is_end(TokenId token, const Generation& generation) const {
    return generation.finish_reason == FinishReason::kStop && !generation.tokens.empty() &&
           token == generation.tokens.back() &&
           model().detokenize(std::span(&token, 1)).value_or("x").empty();
  }
  bool ends(const Event& event) const {
    return event.text.empty() && model().detokenize(std::span(&event.token->token, 1)).value_or("x").empty();
  }

  ToolCallReader::Piece read_piece(Choice& state, const std::string& text, bool last) {
    if (!order_.has_tools) return {text, {}};
    ToolCallReader::Piece read = state.reader.push(text);
    if (last) {
      ToolCallReader::Piece rest = state.reader.finish();
      read.text += rest.text;
      read.calls.insert(read.calls.end(), rest.calls.begin(), rest.calls.end());
    }
    return read;
  }

  std::string chunk(size_t choice, std::string_view delta, std::string_view logprobs, std::string_view reason,
                    std::string_view content = {}, bool drafted = false) const {
    std::string document =
        fmt::format(R"({}"choices":[{{"index":{},"delta":{},"logprobs":{},"finish_reason":{}}}])", head_,
                    choice, delta, logprobs, reason);
    if (drafted) document += R"(,"drafted":true)";
    if (order_.sona_options) document += R"(,"content":)" + json_string(content) + R"(,"done":false)";
    if (order_.include_usage) document += R"(,"usage":null)";
    return sse(document + "}");
  }

  std::string final_chunk(size_t choice, const Generation& generation) const {
    const std::string_view reason = choices_[choice].n_calls > 0 ? "tool_calls" : finish_reason(generation);
    std::string document = fmt::format(
        R"({}"choices":[{{"index":{},"delta":{{}},"logprobs":null,"finish_reason":"{}"}}],"timings":{},"ruvltra":{})",
        head_, choice, reason, to_json(timings_json(generation)), to_json(about(generation)));
    if (order_.include_usage) document += R"(,"usage":null)";
    return sse(document + "}");
  }

  Json about(const Generation& generation) const {
    Json about = about_;
    if (generation.finish_reason == FinishReason::kTimeout) about["timeout"] = true;
    return about;
  }

  Service& service_;
  const ChatOrder order_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::string id_, fingerprint_, head_;
  int64_t created_ = 0;
  Json about_;
  std::vector<Choice> choices_;
};

// The bank's block joins the system message.
void add_context(std::vector<ChatMessage>& messages, const ContextBlock& block) {
  if (block.text.empty()) return;
  if (messages.front().role == "system") {
    messages.front().content += "\n\n" + block.text;
  } else {
    messages.insert(messages.begin(), ChatMessage{"system", block.text, {}});
  }
}

}  // namespace

Handled chat_completions(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  ChatOrder order;
  ASSIGN_OR_RETURN(static_cast<Order&>(order), read_order(call, body));
  ASSIGN_OR_RETURN(std::vector<ChatMessage> messages, read_messages(body));
  ASSIGN_OR_RETURN(const Tools tools, read_tools(body));
  order.has_tools = !tools.json.empty();
  order.parallel_calls = tools.parallel;
  RETURN_IF_ERROR(read_bool(body, "logprobs", order.logprobs));
  RETURN_IF_ERROR(read_integer(body, "top_logprobs", 0, 20, order.n_top));
  if (order.n_top > 0 && !order.logprobs)
    return bad_field("top_logprobs", "expected logprobs: true beside it");
  if (order.logprobs) order.params.n_logprobs = std::max(order.n_top, 1);
  ASSIGN_OR_RETURN(const Constraint::Pointer form, read_response_format(body));
  ASSIGN_OR_RETURN(const Constraint::Pointer calls, demanded_call(tools));
  if (form && calls)
    return bad_field("response_format", "expected no tool_choice that demands a call beside it");

  // What the answer is recorded under is what was asked last, not what a tool said.
  const auto asked = std::find_if(messages.rbegin(), messages.rend(),
                                  [](const ChatMessage& message) { return message.role == "user"; });
  const std::string task = asked == messages.rend() ? messages.back().content : asked->content;
  if (order.bank) {
    ASSIGN_OR_RETURN(const ContextBlock block,
                     call.service.context_for(call.caller, order.treatment.session, task));
    add_context(messages, block);
    order.bank_ids = block.ids;
  }
  Request request;
  ASSIGN_OR_RETURN(request.prompt, call.model().tokenize(messages, tools.json));
  request.params = order.params;
  request.treatment = order.treatment;
  request.treatment.task = task;
  request.adapter = order.adapter;
  request.constraint = form ? form : calls;
  AnswerOrder job{.requests = {std::move(request)},
                  .streamed = order.stream,
                  .with_progress = order.stream && order.return_progress,
                  .preview = preview_of(task),
                  .id_prefix = "chatcmpl-"};
  return answer(call, std::move(job), std::make_unique<ChatPresenter>(call.service, std::move(order)));
}

}  // namespace ruvltra

// POST /v1/messages and /v1/messages/count_tokens, in Anthropic's form (section 2.10 of the design).
#include <algorithm>

#include "base/fail.h"
#include "server/answer.h"
#include "server/fields.h"
#include "server/messages.h"
#include "server/openai.h"
#include "server/order.h"
#include "server/other_faces.h"
#include "server/tool_calls.h"

namespace ruvltra {
namespace {

// Some clients begin the system text with a line that changes with every request, which would keep the prompt
// from being found in the cache.
constexpr std::string_view kBillingLine = "x-anthropic-billing-header:";

std::string event(std::string_view name, const Json& data) {
  return fmt::format("event: {}\ndata: {}\n\n", name, to_json(data));
}

std::string without_billing_line(std::string text) {
  if (!text.starts_with(kBillingLine)) return text;
  const size_t end = text.find('\n');
  return end == std::string::npos ? std::string() : text.substr(end + 1);
}

Result<std::string> read_system(const Json& body) {
  const Json& system = member(body, "system");
  if (!system.is_array()) {
    ASSIGN_OR_RETURN(std::string text, read_content(system, "system"));
    return without_billing_line(std::move(text));
  }
  std::string all;
  for (const Json& block : system) {
    ASSIGN_OR_RETURN(std::string text, read_content(Json::array({block}), "system"));
    text = without_billing_line(std::move(text));
    if (!all.empty() && !text.empty()) all += "\n\n";
    all += text;
  }
  return all;
}

// One message of theirs may be several of the template's: tool results are messages of their own.
Result<void> read_message(const Json& message, const std::string& name, std::vector<ChatMessage>& out) {
  std::string role;
  RETURN_IF_ERROR(read_string(message, "role", role, 16));
  if (role != "user" && role != "assistant")
    return bad_field(name + ".role", "expected user or assistant, found {}", ruvltra::quoted(role));
  const Json& content = member(message, "content");
  if (content.is_string()) {
    out.push_back({role, content.get<std::string>(), {}});
    return {};
  }
  if (!content.is_array())
    return bad_field(name + ".content", "expected a string or blocks, found {}", type_of(content));
  ChatMessage plain{role, {}, {}};
  for (const Json& block : content) {
    const Json& type = member(block, "type");
    if (type == "text") {
      if (!member(block, "text").is_string())
        return bad_field(name + ".content", "expected a text block with a text");
      plain.content += member(block, "text").get_ref<const std::string&>();
    } else if (type == "tool_use" && role == "assistant") {
      if (!member(block, "name").is_string())
        return bad_field(name + ".content", "expected tool_use with a name");
      const Json& input = member(block, "input");
      plain.tool_calls.push_back(
          {member(block, "name").get<std::string>(), input.is_object() ? to_json(input) : "{}"});
    } else if (type == "tool_result" && role == "user") {
      ASSIGN_OR_RETURN(std::string text, read_content(member(block, "content"), name + ".content"));
      out.push_back({"tool", std::move(text), {}});
    } else if (type != "thinking" && type != "redacted_thinking") {
      return bad_field(name + ".content", "expected text, tool_use or tool_result, found {}",
                       ruvltra::quoted(to_json(type)));
    }
  }
  if (!plain.content.empty() || !plain.tool_calls.empty()) out.push_back(std::move(plain));
  return {};
}

Result<std::vector<ChatMessage>> read_conversation(const Json& body) {
  std::vector<ChatMessage> messages;
  ASSIGN_OR_RETURN(const std::string system, read_system(body));
  if (!system.empty()) messages.push_back({"system", system, {}});
  const Json& list = member(body, "messages");
  if (!list.is_array() || list.empty())
    return bad_field("messages", "expected an array that is not empty, found {}", type_of(list));
  if (list.size() > 4096) return bad_field("messages", "expected at most 4096, found {}", list.size());
  for (size_t i = 0; i < list.size(); ++i)
    RETURN_IF_ERROR(read_message(list[i], fmt::format("messages[{}]", i), messages));
  if (messages.empty()) return bad_field("messages", "expected a text");
  return messages;
}

// Their tools and tool_choice as OpenAI's, which the template knows.
Result<Tools> read_anthropic_tools(const Json& body) {
  const Json& list = member(body, "tools");
  if (list.is_null()) return Tools();
  if (!list.is_array()) return bad_field("tools", "expected an array, found {}", type_of(list));
  Json tools = Json::array();
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& tool = list[i];
    if (!member(tool, "name").is_string() || !member(tool, "input_schema").is_object())
      return bad_field(fmt::format("tools[{}]", i), "expected {{name, description, input_schema}}");
    Json function = {{"name", member(tool, "name")}};
    if (member(tool, "description").is_string()) function["description"] = member(tool, "description");
    function["parameters"] = member(tool, "input_schema");
    tools.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  Json theirs = {{"tools", std::move(tools)}};
  const Json& choice = member(body, "tool_choice");
  const Json& type = member(choice, "type");
  if (type == "none") {
    theirs["tool_choice"] = "none";
  } else if (type == "any") {
    theirs["tool_choice"] = "required";
  } else if (type == "tool") {
    theirs["tool_choice"] = {{"type", "function"}, {"function", {{"name", member(choice, "name")}}}};
  } else if (!choice.is_null() && type != "auto") {
    return bad_field("tool_choice", "expected {{type}} auto, any, tool or none, found {}",
                     ruvltra::quoted(to_json(choice)));
  }
  bool one_at_a_time = false;
  RETURN_IF_ERROR(read_bool(choice, "disable_parallel_tool_use", one_at_a_time));
  theirs["parallel_tool_calls"] = !one_at_a_time;
  return read_tools(theirs);
}

class MessagePresenter final : public Presenter {
 public:
  MessagePresenter(Service& service, Order order, bool has_tools)
      : service_(service), order_(std::move(order)), has_tools_(has_tools) {}

  void begin(std::span<const Stream> streams) override {
    id_ = service_.response_id("msg_", streams[0].id());
    n_prompt_ = streams[0].generations()[0].n_prompt;
  }

  std::string opening() override {
    Json message = frame();
    message["content"] = Json::array();
    message["stop_reason"] = nullptr;
    message["stop_sequence"] = nullptr;
    message["usage"] = {{"input_tokens", n_prompt_}, {"output_tokens", 0}};
    return event("message_start", {{"type", "message_start"}, {"message", std::move(message)}}) +
           event("ping", {{"type", "ping"}});
  }

  std::string piece(size_t, const Event& next) override {
    ToolCallReader::Piece read{next.text, {}};
    if (has_tools_) {
      read = reader_.push(next.text);
      if (next.generation != nullptr) {
        ToolCallReader::Piece rest = reader_.finish();
        read.text += rest.text;
        read.calls.insert(read.calls.end(), rest.calls.begin(), rest.calls.end());
      }
    }
    std::string out;
    if (!read.text.empty()) {
      if (!in_text_) out += open_block({{"type", "text"}, {"text", ""}});
      in_text_ = true;
      out += event("content_block_delta", {{"type", "content_block_delta"},
                                           {"index", n_blocks_ - 1},
                                           {"delta", {{"type", "text_delta"}, {"text", read.text}}}});
    }
    for (const ToolCall& call : read.calls) {
      out += close_block();
      out += open_block({{"type", "tool_use"},
                         {"id", tool_id(n_calls_++)},
                         {"name", call.name},
                         {"input", Json::object()}});
      out += event("content_block_delta",
                   {{"type", "content_block_delta"},
                    {"index", n_blocks_ - 1},
                    {"delta", {{"type", "input_json_delta"}, {"partial_json", call.arguments}}}});
      out += event("content_block_stop", {{"type", "content_block_stop"}, {"index", n_blocks_ - 1}});
    }
    if (next.generation != nullptr) last_ = *next.generation;
    return out;
  }

  std::string closing(const Usage& usage) override {
    std::string out = close_block();
    out += event(
        "message_delta",
        {{"type", "message_delta"},
         {"delta", {{"stop_reason", stop_reason(last_, n_calls_)}, {"stop_sequence", stop_sequence(last_)}}},
         {"usage", usage_of(usage)}});
    return out + event("message_stop", {{"type", "message_stop"}});
  }

  std::string failure(const Error& error) override {
    return fmt::format("event: error\ndata: {}\n\n", to_response(error, ErrorShape::kAnthropic).body);
  }
  std::string_view ping() const override { return "event: ping\ndata: {\"type\":\"ping\"}\n\n"; }

  Result<HttpResponse> whole(std::span<const Generation> generations, const Usage& usage) override {
    const Generation& generation = generations[0];
    ToolCallReader::Piece read{generation.text, {}};
    if (has_tools_) {
      read = reader_.push(generation.text);
      ToolCallReader::Piece rest = reader_.finish();
      read.text += rest.text;
      read.calls.insert(read.calls.end(), rest.calls.begin(), rest.calls.end());
    }
    Json content = Json::array();
    if (!read.text.empty() || read.calls.empty()) content.push_back({{"type", "text"}, {"text", read.text}});
    for (size_t i = 0; i < read.calls.size(); ++i) {
      auto input = parse_json(read.calls[i].arguments, "arguments");
      content.push_back({{"type", "tool_use"},
                         {"id", tool_id(i)},
                         {"name", read.calls[i].name},
                         {"input", input ? std::move(*input) : Json::object()}});
    }
    Json message = frame();
    message["content"] = std::move(content);
    message["stop_reason"] = stop_reason(generation, read.calls.size());
    message["stop_sequence"] = stop_sequence(generation);
    message["usage"] = usage_of(usage);
    return json_response(message);
  }

 private:
  Json frame() const {
    return {{"id", id_}, {"type", "message"}, {"role", "assistant"}, {"model", order_.model}};
  }
  std::string tool_id(size_t i) const { return fmt::format("toolu_{}_{}", id_.substr(4), i); }

  std::string open_block(Json block) {
    std::string out = close_block();
    out +=
        event("content_block_start",
              {{"type", "content_block_start"}, {"index", n_blocks_}, {"content_block", std::move(block)}});
    ++n_blocks_;
    return out;
  }
  // Of a text; blocks of calls close themselves.
  std::string close_block() {
    if (!in_text_) return {};
    in_text_ = false;
    return event("content_block_stop", {{"type", "content_block_stop"}, {"index", n_blocks_ - 1}});
  }

  // A stop string is never part of the text, but the tokens that made it are among the answer's.
  Json stop_sequence(const Generation& generation) const {
    if (generation.finish_reason != FinishReason::kStop) return nullptr;
    const std::string all = service_.model()->detokenize(generation.tokens).value_or("");
    for (const std::string& stop : order_.params.stop)
      if (all.size() > generation.text.size() && all.compare(generation.text.size(), stop.size(), stop) == 0)
        return stop;
    return nullptr;
  }
  std::string_view stop_reason(const Generation& generation, size_t n_calls) const {
    if (n_calls > 0) return "tool_use";
    if (generation.finish_reason != FinishReason::kStop) return "max_tokens";
    return stop_sequence(generation).is_null() ? "end_turn" : "stop_sequence";
  }
  static Json usage_of(const Usage& usage) {
    return {{"input_tokens", usage.n_prompt - std::min(usage.n_cached, usage.n_prompt)},
            {"cache_creation_input_tokens", nullptr},
            {"cache_read_input_tokens", usage.n_cached},
            {"output_tokens", usage.n_completion}};
  }

  Service& service_;
  const Order order_;
  const bool has_tools_;
  std::string id_;
  size_t n_prompt_ = 0, n_blocks_ = 0, n_calls_ = 0;
  bool in_text_ = false;
  ToolCallReader reader_;
  Generation last_;
};

}  // namespace

Handled anthropic_messages(Call& call) {
  ASSIGN_OR_RETURN(Json body, call.body());
  if (member(body, "max_tokens").is_null()) return bad_field("max_tokens", "expected a number, found none");
  ASSIGN_OR_RETURN(Order order, read_order(call, body));
  // Their names for what others call otherwise.
  ASSIGN_OR_RETURN(order.params.stop, read_stop(body, "stop_sequences"));
  if (order.params.n != 1) return bad_field("n", "expected 1, found {}", order.params.n);
  ASSIGN_OR_RETURN(const auto messages, read_conversation(body));
  ASSIGN_OR_RETURN(const Tools tools, read_anthropic_tools(body));
  Request request;
  ASSIGN_OR_RETURN(request.constraint, demanded_call(tools));
  ASSIGN_OR_RETURN(request.prompt, call.model().tokenize(messages, tools.json));
  request.params = order.params;
  request.treatment = order.treatment;
  request.treatment.task = messages.back().content;
  request.adapter = order.adapter;
  AnswerOrder job{.requests = {std::move(request)},
                  .streamed = order.stream,
                  .with_progress = false,
                  .preview = preview_of(messages.back().content),
                  .id_prefix = "msg_"};
  return answer(call, std::move(job),
                std::make_unique<MessagePresenter>(call.service, std::move(order), !tools.json.empty()));
}

Handled anthropic_count_tokens(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  ASSIGN_OR_RETURN(const auto messages, read_conversation(body));
  ASSIGN_OR_RETURN(const Tools tools, read_anthropic_tools(body));
  ASSIGN_OR_RETURN(const auto tokens, call.model().tokenize(messages, tools.json));
  return json_response({{"input_tokens", tokens.size()}});
}

}  // namespace ruvltra

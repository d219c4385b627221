#include "text/chat_template.h"

#include "base/check.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_parser.h"

namespace ruvltra {

using jinja::Meter;
using jinja::Origin;
using jinja::Value;

struct ChatTemplate::Program {
  jinja::Template tree;
  std::string bos_text, eos_text;
};

namespace {

// The ChatML dialect of Qwen2.5 (docs/chat-template.md): default system text, tools, calls and their
// responses.
constexpr std::string_view kChatmlSource = R"jinja(
{%- set first = messages[0] -%}
{%- if first.role == 'system' -%}
  {%- set system = first.content -%}
{%- else -%}
  {%- set system = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' -%}
{%- endif -%}
{{- '<|im_start|>system\n' + system -}}
{%- if tools -%}
  {{- '\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n' -}}
  {{- 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' -}}
  {%- for tool in tools -%}
    {{- '\n' + (tool | tojson) -}}
  {%- endfor -%}
  {{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments' -}}
  {{- ' within <tool_call></tool_call> XML tags:\n<tool_call>\n' -}}
  {{- '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>' -}}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- for message in messages -%}
  {%- if message.role == 'tool' -%}
    {%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}
      {{- '<|im_start|>user' -}}
    {%- endif -%}
    {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' -}}
    {%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}
      {{- '<|im_end|>\n' -}}
    {%- endif -%}
  {%- elif message.role == 'assistant' and message.tool_calls -%}
    {{- '<|im_start|>assistant' -}}
    {%- if message.content -%}
      {{- '\n' + message.content -}}
    {%- endif -%}
    {%- for call in message.tool_calls -%}
      {{- '\n<tool_call>\n{"name": "' + call.name + '", "arguments": ' + (call.arguments | tojson) + '}\n</tool_call>' -}}
    {%- endfor -%}
    {{- '<|im_end|>\n' -}}
  {%- elif message.role in ['user', 'assistant'] or (message.role == 'system' and not loop.first) -%}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
)jinja";

// Arguments that are JSON reach the template as values, others as the text they are.
Json arguments_json(const std::string& text) {
  if (auto parsed = parse_json(text, "tool call arguments"); parsed && parsed->is_object())
    return *std::move(parsed);
  return text;
}

Json message_json(const ChatMessage& message) {
  Json object = {{"role", message.role}, {"content", message.content}};
  if (message.tool_calls.empty()) return object;
  Json calls = Json::array();
  for (const ToolCall& call : message.tool_calls) {
    const Json arguments = arguments_json(call.arguments);
    calls.push_back({{"type", "function"},
                     {"function", {{"name", call.name}, {"arguments", arguments}}},
                     {"name", call.name},
                     {"arguments", arguments}});
  }
  object["tool_calls"] = std::move(calls);
  return object;
}

std::vector<TextRun> to_runs(const jinja::Text& text) {
  std::vector<TextRun> runs;
  size_t begin = 0;
  for (const auto& [end, origin] : text.spans()) {
    runs.push_back({text.bytes().substr(begin, end - begin),
                    origin == Origin::kTemplate ? Recognise::kAll : Recognise::kUserDefined});
    begin = end;
  }
  return runs;
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<const Program> program) : program_(std::move(program)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::parse(std::string_view source, std::string_view bos_text,
                                         std::string_view eos_text) {
  ASSIGN_OR_RETURN(auto tree, jinja::parse_template(source));
  return ChatTemplate(std::make_unique<const Program>(
      Program{std::move(tree), std::string(bos_text), std::string(eos_text)}));
}

Result<std::optional<ChatTemplate>> ChatTemplate::of_model(const Metadata& metadata,
                                                           const Tokenizer& tokenizer) {
  if (!metadata.contains("tokenizer.chat_template")) return std::nullopt;
  ASSIGN_OR_RETURN(const std::string_view source, metadata.get_string("tokenizer.chat_template"));
  const auto text_of = [&](TokenId id) { return id < 0 ? std::string_view() : tokenizer.bytes(id); };
  return parse(source == "chatml" ? std::string_view(kChatmlSource) : source, text_of(tokenizer.bos()),
               text_of(tokenizer.eos()));
}

const ChatTemplate& ChatTemplate::chatml() {
  static const ChatTemplate instance = [] {
    auto parsed = parse(kChatmlSource);
    CHECK(parsed.has_value());
    return *std::move(parsed);
  }();
  return instance;
}

Result<std::vector<TextRun>> ChatTemplate::render(std::span<const ChatMessage> messages, const Json& tools,
                                                  bool add_generation_prompt) const {
  if (messages.empty())
    return fail("template.messages", "chat template: expected at least one message, found none");
  Meter meter;
  std::vector<Value> list;
  for (const ChatMessage& message : messages) {
    ASSIGN_OR_RETURN(list.emplace_back(), jinja::value_from_json(meter, message_json(message)));
  }
  ASSIGN_OR_RETURN(Value message_list, jinja::make_list(meter, std::move(list)));
  ASSIGN_OR_RETURN(Value tool_list, jinja::value_from_json(meter, tools));
  ASSIGN_OR_RETURN(const jinja::Text text,
                   jinja::render(program_->tree,
                                 {{"messages", std::move(message_list)},
                                  {"tools", std::move(tool_list)},
                                  {"add_generation_prompt", add_generation_prompt},
                                  {"bos_token", jinja::make_text(program_->bos_text, Origin::kTemplate)},
                                  {"eos_token", jinja::make_text(program_->eos_text, Origin::kTemplate)}},
                                 meter));
  return to_runs(text);
}

}  // namespace ruvltra

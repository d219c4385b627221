#include "server/messages.h"

#include <algorithm>

#include "base/fail.h"
#include "server/fields.h"

namespace ruvltra {

Result<std::string> read_content(const Json& content, std::string_view name) {
  if (content.is_null()) return std::string();
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array())
    return bad_field(name, "expected a string or an array of parts, found {}", type_of(content));
  std::string text;
  for (const Json& part : content) {
    const Json& type = member(part, "type");
    if (type != "text" && type != "input_text" && type != "output_text")
      return bad_field(name, "expected parts of type text, found {}", ruvltra::quoted(to_json(type)));
    if (!member(part, "text").is_string()) return bad_field(name, "expected a part with a text");
    text += member(part, "text").get_ref<const std::string&>();
  }
  return text;
}

namespace {

Result<std::vector<ToolCall>> read_calls(const Json& message, const std::string& name) {
  std::vector<ToolCall> calls;
  const Json& list = member(message, "tool_calls");
  if (list.is_null()) return calls;
  if (!list.is_array()) return bad_field(name + ".tool_calls", "expected an array, found {}", type_of(list));
  for (const Json& one : list) {
    const Json& function = member(one, "function");
    const Json& arguments = member(function, "arguments");
    if (!member(function, "name").is_string() ||
        !(arguments.is_string() || arguments.is_object() || arguments.is_null()))
      return bad_field(name + ".tool_calls", "expected {{function: {{name, arguments}}}}");
    ToolCall call{member(function, "name").get<std::string>(), "{}"};
    if (arguments.is_object()) call.arguments = to_json(arguments);
    if (arguments.is_string() && !arguments.get_ref<const std::string&>().empty())
      call.arguments = arguments.get<std::string>();
    const auto parsed = parse_json(call.arguments, "arguments");
    if (!parsed || !parsed->is_object())
      return bad_field(name + ".tool_calls", "expected arguments that are the JSON text of an object");
    calls.push_back(std::move(call));
  }
  return calls;
}

}  // namespace

Result<std::vector<ChatMessage>> read_messages(const Json& body) {
  const Json& list = member(body, "messages");
  if (!list.is_array()) return bad_field("messages", "expected an array, found {}", type_of(list));
  if (list.empty()) return bad_field("messages", "expected at least one, found none");
  if (list.size() > 4096) return bad_field("messages", "expected at most 4096, found {}", list.size());
  std::vector<ChatMessage> messages;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string name = fmt::format("messages[{}]", i);
    const Json& one = list[i];
    if (!one.is_object()) return bad_field(name, "expected an object, found {}", type_of(one));
    ChatMessage message;
    RETURN_IF_ERROR(read_string(one, "role", message.role, 32));
    if (message.role == "developer") message.role = "system";
    constexpr std::string_view kRoles[] = {"system", "user", "assistant", "tool"};
    if (std::find(std::begin(kRoles), std::end(kRoles), message.role) == std::end(kRoles))
      return bad_field(name + ".role", "expected system, user, assistant or tool, found {}",
                       ruvltra::quoted(message.role));
    ASSIGN_OR_RETURN(message.content, read_content(member(one, "content"), name + ".content"));
    ASSIGN_OR_RETURN(message.tool_calls, read_calls(one, name));
    messages.push_back(std::move(message));
  }
  return messages;
}

Result<Tools> read_tools(const Json& body) {
  Tools tools;
  const Json& list = member(body, "tools");
  if (!list.is_null() && !list.is_array())
    return bad_field("tools", "expected an array, found {}", type_of(list));
  if (list.size() > 256) return bad_field("tools", "expected at most 256, found {}", list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& function = member(list[i], "function");
    const Json& parameters = member(function, "parameters");
    if (member(list[i], "type") != "function" || !member(function, "name").is_string() ||
        member(function, "name").get_ref<const std::string&>().empty() ||
        !(parameters.is_object() || parameters.is_null()))
      return bad_field(fmt::format("tools[{}]", i),
                       "expected {{type: function, function: {{name, parameters}}}}");
    tools.functions.push_back(function);
  }
  const Json& choice = member(body, "tool_choice");
  if (choice == "none") {
    tools.choice.kind = ToolChoice::Kind::kNone;
  } else if (choice == "required") {
    tools.choice.kind = ToolChoice::Kind::kRequired;
  } else if (choice.is_object()) {
    tools.choice = {ToolChoice::Kind::kNamed, {}};
    const Json& name = member(member(choice, "function"), "name");
    if (!name.is_string()) return bad_field("tool_choice", "expected {{type: function, function: {{name}}}}");
    tools.choice.name = name.get<std::string>();
    const bool known = std::any_of(tools.functions.begin(), tools.functions.end(),
                                   [&](const Json& function) { return member(function, "name") == name; });
    if (!known)
      return bad_field("tool_choice", "expected a function of tools, found {}",
                       ruvltra::quoted(tools.choice.name));
  } else if (!choice.is_null() && choice != "auto") {
    return bad_field("tool_choice", "expected none, auto, required or a function, found {}",
                     ruvltra::quoted(to_json(choice)));
  }
  if (tools.functions.empty() && (tools.choice.kind == ToolChoice::Kind::kRequired))
    return bad_field("tool_choice", "expected tools beside it");
  RETURN_IF_ERROR(read_bool(body, "parallel_tool_calls", tools.parallel));
  if (!tools.functions.empty() && tools.choice.kind != ToolChoice::Kind::kNone) tools.json = to_json(list);
  return tools;
}

Result<Constraint::Pointer> read_ollama_format(const Json& body) {
  const Json& format = member(body, "format");
  if (format.is_null() || format == "") return Constraint::Pointer();
  if (format == "json") return Constraint::json_object();
  if (format.is_object()) return Constraint::from_json_schema(to_json(format), "format");
  return bad_field("format", "expected json or a schema, found {}", ruvltra::quoted(to_json(format)));
}

Result<Constraint::Pointer> read_response_format(const Json& body) {
  const Json& format = member(body, "response_format");
  const Json& type = member(format, "type");
  if (format.is_null() || type == "text") return Constraint::Pointer();
  if (type == "json_object") return Constraint::json_object();
  const Json& schema = member(member(format, "json_schema"), "schema");
  if (type != "json_schema")
    return bad_field("response_format.type", "expected text, json_object or json_schema, found {}",
                     ruvltra::quoted(to_json(type)));
  if (!schema.is_object())
    return bad_field("response_format.json_schema.schema", "expected an object, found {}", type_of(schema));
  return Constraint::from_json_schema(to_json(schema), "response_format.json_schema.schema");
}

Result<Constraint::Pointer> demanded_call(const Tools& tools) {
  if (tools.choice.kind != ToolChoice::Kind::kRequired && tools.choice.kind != ToolChoice::Kind::kNamed)
    return Constraint::Pointer();
  std::vector<Constraint::Function> functions;
  for (const Json& function : tools.functions) {
    const auto& name = member(function, "name").get_ref<const std::string&>();
    if (tools.choice.kind == ToolChoice::Kind::kNamed && name != tools.choice.name) continue;
    const Json& parameters = member(function, "parameters");
    // OpenAI: a function without parameters takes none.
    constexpr std::string_view kNone = R"({"type":"object","properties":{},"additionalProperties":false})";
    functions.push_back({name, parameters.is_object() ? to_json(parameters) : std::string(kNone)});
  }
  return Constraint::tool_calls(functions,
                                tools.parallel && tools.choice.kind == ToolChoice::Kind::kRequired);
}

}  // namespace ruvltra

// The messages and tools of a chat request, in OpenAI's form.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "ruvltra/constraint.h"
#include "ruvltra/error.h"
#include "ruvltra/types.h"

namespace ruvltra {

// Contents may be a string, null or an array of text parts. Error: request.field, naming messages[i].
Result<std::vector<ChatMessage>> read_messages(const Json& body);
// The text of a content; parts of other types are an error.
Result<std::string> read_content(const Json& content, std::string_view name);

struct ToolChoice {
  enum class Kind { kNone, kAuto, kRequired, kNamed } kind = Kind::kAuto;
  std::string name;
};
// The tools as a JSON array for the template, empty if there are none or tool_choice is none.
struct Tools {
  std::string json;
  std::vector<Json> functions;  // {name, description, parameters}
  ToolChoice choice;
  bool parallel = true;
};
Result<Tools> read_tools(const Json& body);
// What the answer must be: "response_format" of OpenAI, "format" of Ollama, and a call that tool_choice
// demands; null where anything may come. Errors: request.field, schema.*.
Result<Constraint::Pointer> read_response_format(const Json& body);
Result<Constraint::Pointer> read_ollama_format(const Json& body);
Result<Constraint::Pointer> demanded_call(const Tools& tools);

}  // namespace ruvltra

// JSON Schema (draft 2020-12, the part of docs/structured-output.md) and tool calls as grammars.
//
// Never more than the schema allows: a keyword that restricts values and is not known here is an error, and
// of values that can be written in several ways some are left out (members come in the order of the schema).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "grammar/grammar.h"
#include "ruvltra/error.h"

namespace ruvltra {

inline constexpr size_t kMaxSchemaBytes = 64 << 10;

// Errors (kInput; `source` names the text): json.* of the text; schema.unsupported_keyword, schema.invalid (a
// keyword's value), schema.reference, schema.reference_cycle, schema.bound (a number beyond what can be
// bounded), schema.too_complex (time or memory), schema.unsatisfiable.
Result<std::shared_ptr<const Grammar>> compile_json_schema(std::string_view text, std::string_view source);

struct FunctionSchema {
  std::string name;
  std::string parameters;  // JSON Schema of an object; empty: any object
};

// Calls in the form of Qwen's and Hermes' templates (docs/structured-output.md): one, or `several` as well,
// each on lines of its own. Errors: as above, schema.no_function, schema.function_name.
Result<std::shared_ptr<const Grammar>> compile_tool_calls(std::span<const FunctionSchema> functions,
                                                          bool several);

}  // namespace ruvltra

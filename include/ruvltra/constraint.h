// What an answer may be: a JSON document as a schema says, or calls of given functions
// (docs/structured-output.md).
//
//   auto constraint = ruvltra::Constraint::from_json_schema(R"({"type": "integer"})");
//   if (!constraint) return report(constraint.error());
//   request.constraint = *constraint;
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "ruvltra/error.h"

namespace ruvltra {

struct Grammar;

// Tokens that would lead away from it are not drawn, at any temperature and with any other parameter; a token
// that ends the answer is drawn only where it is complete. An answer that max_tokens or the context ends
// before is a beginning of such a text. Belongs to no model, and to as many requests as like.
//
// Thread safety: const.
class Constraint {
 public:
  using Pointer = std::shared_ptr<const Constraint>;

  // JSON Schema, draft 2020-12, within the keywords of docs/structured-output.md, at most 64 KiB. Members
  // come in the order of the schema, with at most one space after "," and ":". `source` names the text in
  // messages. At most 200 ms and 4 MiB. Errors (kInput): json.*, schema.*; schema.unsupported_keyword begins
  // with the keyword behind its place.
  static Result<Pointer> from_json_schema(std::string_view schema, std::string_view source = "schema");

  // Any JSON object.
  static Result<Pointer> json_object();

  struct Function {
    std::string name;
    std::string parameters;  // JSON Schema of an object; empty: any object
  };
  // A call of one of the functions, and with `several` any number of further ones on the lines after it:
  //   <tool_call>
  //   {"name": "f", "arguments": {...}}
  //   </tool_call>
  // Errors: as above; schema.no_function, schema.function_name.
  static Result<Pointer> tool_calls(std::span<const Function> functions, bool several = false);

 private:
  friend class Engine;
  explicit Constraint(std::shared_ptr<const Grammar> grammar) : grammar_(std::move(grammar)) {}
  static Result<Pointer> made_of(Result<std::shared_ptr<const Grammar>> grammar);

  std::shared_ptr<const Grammar> grammar_;
};

}  // namespace ruvltra

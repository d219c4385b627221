#include "grammar/schema.h"

#include <utility>

#include "base/fail.h"
#include "base/utf8.h"
#include "grammar/schema_compiler.h"

namespace ruvltra {
namespace {

using Kind = SequencePart::Kind;

constexpr size_t kMaxFunctionNameBytes = 256;

Result<void> check_satisfiable(const SchemaCompiler& compiler, uint32_t rule, uint32_t depth,
                               std::string_view source) {
  if (compiler.is_satisfiable(rule, depth)) return {};
  return fail(
      "schema.unsatisfiable",
      "{}: expected a schema with values that nest less than {} levels deep, found none that is allowed",
      source, kMaxGrammarDepth - depth);
}

Result<void> check_function(const FunctionSchema& function) {
  const size_t n = function.name.size();
  if (n > 0 && n <= kMaxFunctionNameBytes && utf8_is_valid(function.name)) return {};
  return fail("schema.function_name", "function: expected a name of 1 to {} bytes of UTF-8, found {}",
              kMaxFunctionNameBytes, ruvltra::quoted(function.name));
}

}  // namespace

Result<std::shared_ptr<const Grammar>> compile_json_schema(std::string_view text, std::string_view source) {
  SchemaCompiler compiler;
  ASSIGN_OR_RETURN(const Json* schema, compiler.add_document(text, std::string(source)));
  const uint32_t rule = compiler.rule_for({schema});
  RETURN_IF_ERROR(compiler.compile());
  RETURN_IF_ERROR(check_satisfiable(compiler, rule, 1, source));
  compiler.grammar.sequences.push_back({{Kind::kValue, rule, {}}});
  return std::make_shared<const Grammar>(std::move(compiler.grammar));
}

Result<std::shared_ptr<const Grammar>> compile_tool_calls(std::span<const FunctionSchema> functions,
                                                          bool several) {
  if (functions.empty()) return fail("schema.no_function", "functions: expected at least one, found none");
  SchemaCompiler compiler;
  ASSIGN_OR_RETURN(const Json* object, compiler.add_document(R"({"type": "object"})", "functions"));
  std::vector<std::string> names;
  std::vector<uint32_t> rules;
  for (const FunctionSchema& function : functions) {
    RETURN_IF_ERROR(check_function(function));
    const std::string source = "function " + ruvltra::quoted(function.name) + ": parameters";
    names.push_back(to_json(function.name).substr(1));
    if (function.parameters.empty()) {
      rules.push_back(compiler.rule_for({object}));
      continue;
    }
    ASSIGN_OR_RETURN(const Json* schema, compiler.add_document(function.parameters, source));
    rules.push_back(compiler.rule_for({schema, object}));
  }
  RETURN_IF_ERROR(compiler.compile());
  Grammar& grammar = compiler.grammar;
  const uint32_t names_trie = compiler.add_trie(names);
  const SequencePart open{Kind::kText, compiler.add_text("<tool_call>\n{\"name\": \""), {}};
  const SequencePart arguments{Kind::kText, compiler.add_text(", \"arguments\": "), {}};
  const SequencePart close{Kind::kText, compiler.add_text("}\n</tool_call>"), {}};
  SequencePart choice{Kind::kChoice, names_trie, {}};
  // 0 is the first call, 1 a further one, and the functions' rests follow.
  for (uint32_t i = 0; i < rules.size(); ++i) choice.branches.push_back(2 + i);
  grammar.sequences.push_back({open, choice});
  grammar.sequences.push_back({{Kind::kText, compiler.add_text("\n"), {}}, open, choice});
  for (size_t i = 0; i < rules.size(); ++i) {
    RETURN_IF_ERROR(check_satisfiable(compiler, rules[i], 1,
                                      "function " + ruvltra::quoted(functions[i].name) + ": parameters"));
    grammar.sequences.push_back({arguments, {Kind::kValue, rules[i], {}}, close});
    if (several) grammar.sequences.back().push_back({Kind::kRepeat, 1, {}});
  }
  return std::make_shared<const Grammar>(std::move(grammar));
}

}  // namespace ruvltra

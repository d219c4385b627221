#include "ruvltra/constraint.h"

#include <utility>
#include <vector>

#include "base/fail.h"
#include "grammar/schema.h"

namespace ruvltra {

Result<Constraint::Pointer> Constraint::made_of(Result<std::shared_ptr<const Grammar>> grammar) {
  if (!grammar) return tl::unexpected<Error>(std::move(grammar).error());
  return Pointer(new Constraint(std::move(*grammar)));
}

Result<Constraint::Pointer> Constraint::from_json_schema(std::string_view schema, std::string_view source) {
  return made_of(compile_json_schema(schema, source));
}

Result<Constraint::Pointer> Constraint::json_object() {
  return made_of(compile_json_schema(R"({"type": "object"})", "json_object"));
}

Result<Constraint::Pointer> Constraint::tool_calls(std::span<const Function> functions, bool several) {
  std::vector<FunctionSchema> schemas;
  for (const Function& function : functions) schemas.push_back({function.name, function.parameters});
  return made_of(compile_tool_calls(schemas, several));
}

}  // namespace ruvltra

// The tools behind MCP (section 3 of the design's interfaces).
#pragma once

#include <string_view>

#include "base/json.h"
#include "server/mcp.h"

namespace ruvltra {

struct McpTool {
  std::string_view name, description;
  std::string_view schema;  // of the arguments: JSON text
  Route::Needs needs;
  Result<Json> (*run)(Service& service, const Caller& caller, const Json& arguments, CancelToken& token);
};

const McpTool* find_mcp_tool(std::string_view name);
// Errors: those of the tool; request.field for arguments that are not of its schema.
Result<Json> run_mcp_tool(const McpTool& tool, Service& service, const Caller& caller, const Json& arguments,
                          CancelToken& token);

}  // namespace ruvltra

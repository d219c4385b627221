// Agents from files that people wrote: JSON, TOML, or a folder of Markdown files with front matter.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "ruvltra/routing.h"

namespace ruvltra {

// A folder, or a file by its extension: .json, .toml, .md. Errors: file.*, json.*,
// routing.front_matter, routing.registry (also for another extension). Nothing is kept of a source with an
// error in it.
Result<std::vector<AgentProfile>> import_agents(const std::filesystem::path& path);

// {"agents": [...]} or the list alone.
Result<std::vector<AgentProfile>> import_agents_json(std::string_view text, std::string_view source);
// [[agents]] tables with the fields of JSON.
Result<std::vector<AgentProfile>> import_agents_toml(std::string_view text, std::string_view source);

// Every *.md below the folder that begins with front matter, in order of path; others are passed over. Upper
// case and spaces of a name become lower case and "-". At most 64 KiB a file, 8 folders deep, 10,000 entries,
// kMaxAgents agents. Linked folders are not entered; a linked file must lie within the folder. Errors name
// file and line: routing.registry, routing.front_matter, file.*.
Result<std::vector<AgentProfile>> import_folder(const std::filesystem::path& folder);

}  // namespace ruvltra

#include "sona/agent_import.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <toml.hpp>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "sona/agent_registry.h"
#include "sona/front_matter.h"

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxMarkdownBytes = uint64_t{64} << 10;
constexpr uint64_t kMaxImportBytes = uint64_t{4} << 20;
constexpr int kMaxFolderDepth = 8;
constexpr size_t kMaxFolderEntries = 10'000;
constexpr int kMaxTomlDepth = 16;
constexpr int kMaxTomlDots = 64;

// toml11 descends by recursion: nested brackets and the dots of one key are bounded before it reads them,
// wherever they stand, in texts too.
bool nests_too_deep(std::string_view text) {
  int depth = 0, dots = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && depth > 0) --depth;
    if (std::string_view("[]{}=,\n\"'").find(c) != std::string_view::npos) dots = 0;
    if (c == '.') ++dots;
    if (depth > kMaxTomlDepth || dots > kMaxTomlDots) return true;
  }
  return false;
}

Result<Json> json_of(const toml::value& value, std::string_view source, int depth = 0) {
  if (depth > kMaxTomlDepth) return fail("routing.registry", "{}: nested too deeply", source);
  if (value.is_string()) return Json(value.as_string().str);
  if (value.is_boolean()) return Json(value.as_boolean());
  if (value.is_integer()) return Json(value.as_integer());
  if (value.is_array()) {
    Json out = Json::array();
    for (const toml::value& item : value.as_array()) {
      ASSIGN_OR_RETURN(Json inner, json_of(item, source, depth + 1));
      out.push_back(std::move(inner));
    }
    return out;
  }
  if (value.is_table()) {
    Json out = Json::object();
    for (const auto& [key, item] : value.as_table()) {
      ASSIGN_OR_RETURN(Json inner, json_of(item, source, depth + 1));
      out[key] = std::move(inner);
    }
    return out;
  }
  return fail("routing.registry", "{}: expected texts, lists, tables and true or false", source);
}

Result<std::vector<AgentProfile>> agents_of(const Json& document, std::string_view source) {
  const Json* list = &document;
  if (document.is_object()) {
    const auto it = document.find("agents");
    if (it == document.end()) return fail("routing.registry", "{}: agents: missing", source);
    list = &*it;
  }
  if (!list->is_array()) {
    return fail("routing.registry", "{}: agents: expected a list, found {}", source, list->type_name());
  }
  if (list->size() > kMaxAgents) {
    return fail("routing.registry", "{}: expected at most {} agents, found {}", source, kMaxAgents,
                list->size());
  }
  std::vector<AgentProfile> agents;
  for (const Json& item : *list) {
    ASSIGN_OR_RETURN(AgentProfile agent, agent_from_json(item, source));
    agents.push_back(std::move(agent));
  }
  return agents;
}

// "Load Balancer" is load-balancer. What is no letter, digit, - or _ after that is left for the check.
std::string name_of(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 32);
    if (c == ' ') c = '-';
  }
  return out;
}

// One Markdown file into `agents`; `lines` remembers where each id came from.
Result<void> read_markdown(const fs::path& path, std::vector<AgentProfile>& agents,
                           std::map<std::string, std::string>& places) {
  ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxMarkdownBytes));
  ASSIGN_OR_RETURN(const auto front, parse_front_matter(text, path.string()));
  if (!front) return {};
  AgentProfile agent;
  agent.id = name_of(front->name);
  agent.description = front->description;
  const std::string place = fmt::format("{}:{}", path.string(), front->name_line);
  // The registry's own checks, so that their message names the line.
  auto checked = AgentRegistry::create({agent}, AgentRegistry::defaults().task_types(), place);
  if (!checked) return tl::unexpected<Error>(std::move(checked).error());
  const auto [it, fresh] = places.emplace(agent.id, place);
  if (!fresh)
    return fail("routing.registry", "{}: \"{}\" is the name at {} already", place, agent.id, it->second);
  if (agents.size() >= kMaxAgents) {
    return fail("routing.registry", "{}: expected at most {} agents", place, kMaxAgents);
  }
  agents.push_back(std::move(agent));
  return {};
}

bool lies_within(const fs::path& file, const fs::path& folder) {
  const auto [end, ignored] = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
  return end == folder.end();
}

Result<std::vector<fs::path>> markdown_files(const fs::path& folder) {
  std::error_code error;
  const fs::path root = fs::canonical(folder, error);
  if (error) return fail(ErrorKind::kIo, "file.not_found", "{}: {}", folder.string(), error.message());
  std::vector<fs::path> files;
  size_t n_entries = 0;
  fs::recursive_directory_iterator it(root, error), end;
  while (!error && it != end) {
    if (++n_entries > kMaxFolderEntries) {
      return fail("routing.registry", "{}: expected at most {} files and folders", root.string(),
                  kMaxFolderEntries);
    }
    if (it.depth() >= kMaxFolderDepth) it.disable_recursion_pending();
    const fs::path& path = it->path();
    std::error_code ignored;
    if (path.extension() == ".md" && fs::is_regular_file(path, ignored)) {
      const fs::path real = fs::canonical(path, ignored);
      if (ignored || !lies_within(real, root)) {
        return fail("routing.registry", "{}:1: is a link that leads out of {}", path.string(), root.string());
      }
      files.push_back(path);
    }
    it.increment(error);
  }
  if (error) return fail(ErrorKind::kIo, "file.open", "{}: {}", root.string(), error.message());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

Result<std::vector<AgentProfile>> import_agents_json(std::string_view text, std::string_view source) {
  ASSIGN_OR_RETURN(const Json document, parse_json(text, source));
  return agents_of(document, source);
}

Result<std::vector<AgentProfile>> import_agents_toml(std::string_view text, std::string_view source) {
  if (text.size() > kMaxImportBytes || nests_too_deep(text)) {
    return fail("routing.registry", "{}: expected at most {} bytes and {} nested brackets", source,
                kMaxImportBytes, kMaxTomlDepth);
  }
  toml::value root;
  try {
    std::istringstream stream{std::string(text)};
    root = toml::parse(stream, std::string(source));
  } catch (const std::exception& error) {
    std::string first(error.what());
    std::replace(first.begin(), first.end(), '\n', ' ');
    return fail("routing.registry", "{}: {}", source, ruvltra::quoted(first, 400));
  }
  ASSIGN_OR_RETURN(const Json document, json_of(root, source));
  return agents_of(document, source);
}

Result<std::vector<AgentProfile>> import_folder(const fs::path& folder) {
  ASSIGN_OR_RETURN(const std::vector<fs::path> files, markdown_files(folder));
  std::vector<AgentProfile> agents;
  std::map<std::string, std::string> places;
  for (const fs::path& file : files) RETURN_IF_ERROR(read_markdown(file, agents, places));
  if (agents.empty()) {
    return fail("routing.registry", "{}: expected Markdown files with front matter, found none",
                folder.string());
  }
  return agents;
}

Result<std::vector<AgentProfile>> import_agents(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return import_folder(path);
  const std::string extension = path.extension().string();
  if (extension == ".md") {
    std::vector<AgentProfile> agents;
    std::map<std::string, std::string> places;
    RETURN_IF_ERROR(read_markdown(path, agents, places));
    if (agents.empty()) {
      return fail("routing.front_matter", "{}:1: expected a line \"---\" that begins front matter",
                  path.string());
    }
    return agents;
  }
  if (extension != ".json" && extension != ".toml") {
    return fail(ErrorKind::kUsage, "routing.registry", "{}: expected a folder, or a file .json, .toml or .md",
                path.string());
  }
  ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxImportBytes));
  if (extension == ".json") return import_agents_json(text, path.string());
  return import_agents_toml(text, path.string());
}

}  // namespace ruvltra

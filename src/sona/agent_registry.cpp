#include "sona/agent_registry.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "base/check.h"
#include "base/fail.h"
#include "base/sha256.h"
#include "base/utf8.h"

namespace ruvltra {

namespace embedded {
std::string_view agents_json();  // data/learning/agents.json
}

namespace {

constexpr size_t kMaxNameBytes = 64;

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > kMaxNameBytes) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

Result<void> check_name(std::string_view text, std::string_view what, std::string_view source) {
  if (is_name(text)) return {};
  return fail("routing.registry", "{}: {}: expected 1 to 64 of a-z, 0-9, - and _, found \"{}\"", source, what,
              ruvltra::quoted(text));
}

Result<void> check_text(std::string_view text, std::string_view id, std::string_view what, bool may_be_empty,
                        std::string_view source) {
  if (text.empty() && !may_be_empty) {
    return fail("routing.registry", "{}: {}: {}: expected a text, found an empty one", source, id, what);
  }
  if (text.size() > kMaxAgentTextBytes) {
    return fail("routing.registry", "{}: {}: {}: expected at most {} bytes, found {}", source, id, what,
                kMaxAgentTextBytes, text.size());
  }
  if (!utf8_is_valid(text)) return fail("routing.registry", "{}: {}: {}: expected UTF-8", source, id, what);
  return {};
}

Result<void> check_texts(const std::vector<std::string>& texts, std::string_view id,
                         std::string_view source) {
  if (texts.size() > kMaxAgentExamples) {
    return fail("routing.registry", "{}: {}: examples: expected at most {}, found {}", source, id,
                kMaxAgentExamples, texts.size());
  }
  for (const std::string& text : texts) {
    RETURN_IF_ERROR(check_text(text, id, "examples", false, source));
  }
  return {};
}

Result<std::string> text_field(const Json& value, std::string_view source, std::string_view id,
                               const char* name) {
  const auto it = value.find(name);
  if (it == value.end() || it->is_null()) return std::string();
  if (!it->is_string()) {
    return fail("routing.registry", "{}: {}: {}: expected a text, found {}", source, id, name,
                it->type_name());
  }
  return it->get<std::string>();
}

Result<std::vector<std::string>> list_field(const Json& value, std::string_view source, std::string_view id,
                                            const char* name) {
  std::vector<std::string> out;
  const auto it = value.find(name);
  if (it == value.end() || it->is_null()) return out;
  if (!it->is_array()) {
    return fail("routing.registry", "{}: {}: {}: expected a list of texts, found {}", source, id, name,
                it->type_name());
  }
  for (const Json& item : *it) {
    if (!item.is_string()) {
      return fail("routing.registry", "{}: {}: {}: expected texts, found {}", source, id, name,
                  item.type_name());
    }
    out.push_back(item.get<std::string>());
  }
  return out;
}

Result<TaskType> task_type_from_json(const Json& value, std::string_view source) {
  if (!value.is_object()) {
    return fail("routing.registry", "{}: task_types: expected objects, found {}", source, value.type_name());
  }
  TaskType type;
  ASSIGN_OR_RETURN(type.id, text_field(value, source, "task_types", "id"));
  ASSIGN_OR_RETURN(type.description, text_field(value, source, type.id, "description"));
  ASSIGN_OR_RETURN(type.examples, list_field(value, source, type.id, "examples"));
  return type;
}

uint64_t hash_of(const std::string& text) {
  const Sha256Digest digest = sha256({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  uint64_t value;
  std::memcpy(&value, digest.data(), sizeof value);
  return value;
}

}  // namespace

Result<AgentProfile> agent_from_json(const Json& value, std::string_view source) {
  if (!value.is_object()) {
    return fail("routing.registry", "{}: agents: expected objects, found {}", source, value.type_name());
  }
  AgentProfile agent;
  ASSIGN_OR_RETURN(agent.id, text_field(value, source, "agent", value.contains("id") ? "id" : "name"));
  const std::string label = ruvltra::quoted(agent.id);
  ASSIGN_OR_RETURN(agent.aliases, list_field(value, source, label, "aliases"));
  ASSIGN_OR_RETURN(agent.description, text_field(value, source, label, "description"));
  ASSIGN_OR_RETURN(agent.examples, list_field(value, source, label, "examples"));
  ASSIGN_OR_RETURN(agent.task_types, list_field(value, source, label, "task_types"));
  if (const auto it = value.find("enabled"); it != value.end() && !it->is_null()) {
    if (!it->is_boolean()) {
      return fail("routing.registry", "{}: {}: enabled: expected true or false, found {}", source, label,
                  it->type_name());
    }
    agent.enabled = it->get<bool>();
  }
  return agent;
}

Json agent_to_json(const AgentProfile& agent) {
  return Json{{"id", agent.id},
              {"aliases", agent.aliases},
              {"description", agent.description},
              {"examples", agent.examples},
              {"task_types", agent.task_types},
              {"enabled", agent.enabled}};
}

AgentRegistry AgentRegistry::defaults() {
  auto registry = parse(embedded::agents_json(), "data/learning/agents.json");
  CHECK(registry.has_value());
  return std::move(*registry);
}

Result<AgentRegistry> AgentRegistry::parse(std::string_view json, std::string_view source) {
  ASSIGN_OR_RETURN(const Json document, parse_json(json, source));
  const Json* list = &document;
  std::vector<TaskType> types;
  if (document.is_object()) {
    const auto agents = document.find("agents");
    if (agents == document.end()) return fail("routing.registry", "{}: agents: missing", source);
    list = &*agents;
    if (const auto it = document.find("task_types"); it != document.end()) {
      if (!it->is_array()) {
        return fail("routing.registry", "{}: task_types: expected a list, found {}", source, it->type_name());
      }
      for (const Json& item : *it) {
        ASSIGN_OR_RETURN(TaskType type, task_type_from_json(item, source));
        types.push_back(std::move(type));
      }
    }
  }
  if (!list->is_array()) {
    return fail("routing.registry", "{}: agents: expected a list, found {}", source, list->type_name());
  }
  std::vector<AgentProfile> agents;
  for (const Json& item : *list) {
    ASSIGN_OR_RETURN(AgentProfile agent, agent_from_json(item, source));
    agents.push_back(std::move(agent));
  }
  if (types.empty()) types = defaults().task_types();
  return create(std::move(agents), std::move(types), source);
}

Result<AgentRegistry> AgentRegistry::create(std::vector<AgentProfile> agents,
                                            std::vector<TaskType> task_types, std::string_view source) {
  if (agents.empty() || agents.size() > kMaxAgents) {
    return fail("routing.registry", "{}: expected 1 to {} agents, found {}", source, kMaxAgents,
                agents.size());
  }
  if (task_types.empty() || task_types.size() > kMaxTaskTypes) {
    return fail("routing.registry", "{}: expected 1 to {} task types, found {}", source, kMaxTaskTypes,
                task_types.size());
  }
  std::unordered_set<std::string> type_ids;
  for (const TaskType& type : task_types) {
    RETURN_IF_ERROR(check_name(type.id, "task type", source));
    if (!type_ids.insert(type.id).second) {
      return fail("routing.registry", "{}: task type {} is there twice", source, type.id);
    }
    RETURN_IF_ERROR(check_text(type.description, type.id, "description", false, source));
    RETURN_IF_ERROR(check_texts(type.examples, type.id, source));
  }

  AgentRegistry registry;
  const auto add_name = [&](const std::string& name, size_t place) -> Result<void> {
    if (registry.by_name_.emplace(name, place).second) return {};
    return fail("routing.registry", "{}: \"{}\" names two agents: {} and {}", source, name,
                agents[registry.by_name_[name]].id, agents[place].id);
  };
  for (size_t i = 0; i < agents.size(); ++i) {
    const AgentProfile& agent = agents[i];
    RETURN_IF_ERROR(check_name(agent.id, "agent id", source));
    RETURN_IF_ERROR(add_name(agent.id, i));
    RETURN_IF_ERROR(check_text(agent.description, agent.id, "description", false, source));
    RETURN_IF_ERROR(check_texts(agent.examples, agent.id, source));
    if (agent.aliases.size() > kMaxAgentAliases) {
      return fail("routing.registry", "{}: {}: aliases: expected at most {}, found {}", source, agent.id,
                  kMaxAgentAliases, agent.aliases.size());
    }
    for (const std::string& alias : agent.aliases) {
      RETURN_IF_ERROR(check_name(alias, agent.id + ": alias", source));
      RETURN_IF_ERROR(add_name(alias, i));
    }
    for (const std::string& type : agent.task_types) {
      if (type_ids.count(type) == 0) {
        return fail("routing.registry", "{}: {}: task_types: \"{}\" is none of the {} task types", source,
                    agent.id, ruvltra::quoted(type), type_ids.size());
      }
    }
  }
  if (std::none_of(agents.begin(), agents.end(), [](const AgentProfile& a) { return a.enabled; })) {
    return fail("routing.registry", "{}: expected at least one agent that is enabled", source);
  }
  registry.agents_ = std::move(agents);
  registry.task_types_ = std::move(task_types);
  registry.hash_ = hash_of(to_json(registry.json()));
  return registry;
}

std::optional<size_t> AgentRegistry::find(std::string_view name) const {
  const auto it = by_name_.find(std::string(name));
  if (it == by_name_.end()) return std::nullopt;
  return it->second;
}

Result<AgentRegistry> AgentRegistry::with(const std::vector<AgentProfile>& added,
                                          std::string_view source) const {
  std::vector<AgentProfile> agents = agents_;
  for (const AgentProfile& agent : added) {
    for (AgentProfile& other : agents) {
      if (other.id != agent.id) std::erase(other.aliases, agent.id);
    }
    const auto it = std::find_if(agents.begin(), agents.end(),
                                 [&](const AgentProfile& other) { return other.id == agent.id; });
    if (it == agents.end()) {
      agents.push_back(agent);
    } else {
      *it = agent;
    }
  }
  return create(std::move(agents), task_types_, source);
}

Result<AgentRegistry> AgentRegistry::without(std::string_view id) const {
  std::vector<AgentProfile> agents = agents_;
  const auto n = std::erase_if(agents, [&](const AgentProfile& agent) { return agent.id == id; });
  if (n == 0) {
    return fail(ErrorKind::kUsage, "routing.agent", "no agent has the id \"{}\"", ruvltra::quoted(id));
  }
  return create(std::move(agents), task_types_, "agents");
}

Json AgentRegistry::json() const {
  Json agents = Json::array(), types = Json::array();
  for (const AgentProfile& agent : agents_) agents.push_back(agent_to_json(agent));
  for (const TaskType& type : task_types_) {
    types.push_back(Json{{"id", type.id}, {"description", type.description}, {"examples", type.examples}});
  }
  return Json{{"agents", std::move(agents)}, {"task_types", std::move(types)}};
}

}  // namespace ruvltra

// The agents a task can be routed to. They are data: bundled (data/learning/agents.json), imported,
// persisted; nothing in the code knows one by name (docs/routing.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "ruvltra/routing.h"

namespace ruvltra {

// What kind of work a task is. Texts that tell it, like those of an agent.
struct TaskType {
  std::string id;
  std::string description;
  std::vector<std::string> examples;
};

inline constexpr size_t kMaxAgents = 256;
inline constexpr size_t kMaxTaskTypes = 64;
inline constexpr size_t kMaxAgentAliases = 32;
inline constexpr size_t kMaxAgentExamples = 64;
inline constexpr size_t kMaxAgentTextBytes = 4096;  // a description or an example

// Invariants: 1. ids and aliases are 1..64 of a-z 0-9 - _, and every one names a single agent. 2. At most
// kMaxAgents agents, at least one of them enabled. 3. Every task type an agent names is in task_types().
// 4. Order is that of adding: equal scores are decided by it.
class AgentRegistry {
 public:
  // The bundled agents.
  static AgentRegistry defaults();
  // Error: routing.registry (count, id, duplicate, text, task type), naming `source` and the agent.
  static Result<AgentRegistry> create(std::vector<AgentProfile> agents, std::vector<TaskType> task_types,
                                      std::string_view source);
  // {"agents": [...], "task_types": [...]}, or the array of agents alone; without task types the bundled ones
  // hold. Errors: json.*, and that of create().
  static Result<AgentRegistry> parse(std::string_view json, std::string_view source);

  const std::vector<AgentProfile>& agents() const { return agents_; }
  const std::vector<TaskType>& task_types() const { return task_types_; }
  // Place of the agent with that id or alias.
  std::optional<size_t> find(std::string_view name) const;

  // These agents added, or put in the place of those with the same id. An id takes itself from the aliases of
  // others. This registry is unchanged.
  Result<AgentRegistry> with(const std::vector<AgentProfile>& agents, std::string_view source) const;
  // Errors: routing.agent (usage), routing.registry for the last one.
  Result<AgentRegistry> without(std::string_view id) const;

  // What parse() reads.
  Json json() const;
  // Of everything above: two registries with the same hash route alike.
  uint64_t hash() const { return hash_; }

 private:
  std::vector<AgentProfile> agents_;
  std::vector<TaskType> task_types_;
  std::unordered_map<std::string, size_t> by_name_;
  uint64_t hash_ = 0;
};

// An agent's fields, shared by every form of import: {"id"|"name", "aliases", "description", "examples",
// "task_types", "enabled"}. Error: routing.registry naming `source`, the agent and the field.
Result<AgentProfile> agent_from_json(const Json& value, std::string_view source);
Json agent_to_json(const AgentProfile& agent);

}  // namespace ruvltra

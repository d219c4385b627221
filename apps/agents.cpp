// `agents`: the registry that tasks are routed to.
#include "sona/agent_registry.h"

#include "base/fail.h"
#include "console.h"
#include "learning.h"
#include "sona/agent_import.h"
#include "store/store.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr std::string_view kStoredRegistry = "agents";

struct Options {
  std::string action, argument, data_dir;
  bool json = false;
};

Result<std::unique_ptr<Store>> open_store(const Options& options, bool to_write) {
  ASSIGN_OR_RETURN(const auto folder, resolve_data_dir(options.data_dir));
  std::error_code ignored;
  if (!to_write && !std::filesystem::exists(folder / "learn.db", ignored)) return nullptr;
  Store::Options how;
  how.must_exist = how.read_only = !to_write;  // looking works beside whoever owns the folder
  return Store::open(folder, how);
}

Result<AgentRegistry> registry_of(Store* store) {
  if (store == nullptr) return AgentRegistry::defaults();
  ASSIGN_OR_RETURN(const auto kept, store->value(kStoredRegistry));
  if (!kept || kept->empty()) return AgentRegistry::defaults();
  return AgentRegistry::parse({reinterpret_cast<const char*>(kept->data()), kept->size()}, "stored agents");
}

Result<void> keep(Store& store, const AgentRegistry& registry) {
  const std::string text = to_json(registry.json());
  return store.put_value(kStoredRegistry, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Result<int> list(const Options& options) {
  ASSIGN_OR_RETURN(const auto store, open_store(options, false));
  ASSIGN_OR_RETURN(const AgentRegistry registry, registry_of(store.get()));
  if (options.action == "export") {
    print("{}\n", to_python_json(registry.json(), 1));
    return kExitOk;
  }
  if (options.json) {
    Json agents = Json::array();
    for (const AgentProfile& agent : registry.agents()) agents.push_back(agent_to_json(agent));
    print("{}\n", to_json(Json{{"agents", std::move(agents)}}));
    return kExitOk;
  }
  for (const AgentProfile& agent : registry.agents()) {
    print("{:<22} {}{}\n", agent.id, agent.description, agent.enabled ? "" : "  (not enabled)");
  }
  return kExitOk;
}

Result<int> change(const Options& options) {
  std::vector<AgentProfile> added;
  if (options.action == "import") {
    ASSIGN_OR_RETURN(added, import_agents(options.argument));
  }
  ASSIGN_OR_RETURN(const auto store, open_store(options, true));
  ASSIGN_OR_RETURN(AgentRegistry registry, registry_of(store.get()));
  if (options.action == "import") {
    ASSIGN_OR_RETURN(registry, registry.with(added, options.argument));
  } else {
    ASSIGN_OR_RETURN(registry, registry.without(options.argument));
  }
  RETURN_IF_ERROR(keep(*store, registry));
  const size_t n = registry.agents().size();
  if (options.json) {
    print("{}\n", to_json(Json{{"imported", added.size()}, {"agents", n}}));
  } else if (options.action == "import") {
    print("{} imported, {} agents now\n", added.size(), n);
  } else {
    print("{} removed, {} agents now\n", options.argument, n);
  }
  return kExitOk;
}

Result<int> agents(const Options& options) {
  const bool needs = options.action == "import" || options.action == "remove";
  if (needs == options.argument.empty()) {
    return fail(ErrorKind::kUsage, "agents.argument", "agents {}: expected {}, found {}", options.action,
                !needs                       ? "no further argument"
                : options.action == "import" ? "a folder or file"
                                             : "an id",
                options.argument.empty() ? "none" : ruvltra::quoted(options.argument));
  }
  return needs ? change(options) : list(options);
}

}  // namespace

void add_agents_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb("agents", "The agents that tasks are routed to",
                                   "  ruvltra agents list\n"
                                   "  ruvltra agents import .claude/agents\n"
                                   "  ruvltra agents import my-agents.toml\n"
                                   "  ruvltra agents remove designer\n"
                                   "  ruvltra agents export > agents.json\n",
                                   [options] { return agents(*options); });
  app.add_option("action", options->action,
                 "list; import PATH (folder of Markdown, .json, .toml, .md); export; remove ID")
      ->required()
      ->configurable(false)
      ->check(one_of({"list", "import", "export", "remove"}));
  app.add_option("argument", options->argument, "PATH or ID")->configurable(false);
  add_data_dir_option(app, options->data_dir);
  app.add_flag("--json", options->json, "One JSON document on stdout");
}

}  // namespace ruvltra

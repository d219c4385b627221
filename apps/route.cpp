// `route`: which agent a task belongs to, and what became of it.
#include "base/fail.h"
#include "base/routing_json.h"
#include "console.h"
#include "learning.h"
#include "ruvltra/sona.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  const CLI::App* verb = nullptr;
  std::vector<std::string> words;  // the task, or "feedback ID"
  int k = 3;
  std::string context;
  bool fast = false, cheap = false, explore = false;
  std::string agent, feedback_id;
  double quality = 0;
  bool success = false, failure = false;
  uint32_t output_tokens = 0;
  std::string tenant;
  std::string profile = "base";
  ModelOptions model;
  LearningOptions learning;
  bool json = false;
};

const std::vector<std::string> kOfTasks = {"-k", "--context", "--prefer-speed", "--prefer-cost", "--explore"};
const std::vector<std::string> kOfFeedback = {"--agent",   "--quality",     "--success",
                                              "--failure", "--feedback-id", "--output-tokens"};

Result<void> refuse(const Options& options, const std::vector<std::string>& names, std::string_view where) {
  for (const std::string& name : names) {
    if (options.verb->count(name) == 0) continue;
    return fail(ErrorKind::kUsage, "route.option", "{}: has no effect with {}", name, where);
  }
  return {};
}

Scope scope_of(const Options& options) {
  Scope scope;
  if (!options.tenant.empty()) scope.tenant = options.tenant;
  return scope;
}

Result<int> tell(const Options& options, AgentRouter& router, const DecisionId& id) {
  RouteOutcome outcome;
  outcome.agent = options.agent;
  if (options.success || options.failure) outcome.success = options.success;
  if (options.verb->count("--quality") > 0) outcome.quality = options.quality;
  outcome.feedback_id = options.feedback_id;
  outcome.output_tokens = options.output_tokens;
  RETURN_IF_ERROR(router.feedback(id, outcome, scope_of(options)));
  if (options.json) print("{}\n", to_json(Json{{"decision_id", id.text()}, {"durable", true}}));
  return kExitOk;
}

Result<int> decide(const Options& options, AgentRouter& router, const std::string& task) {
  RouteOptions how;
  how.k = options.k;
  how.context = options.context;
  how.prefer_speed = options.fast;
  how.prefer_cost = options.cheap;
  how.explore = options.explore;
  how.scope = scope_of(options);
  ASSIGN_OR_RETURN(const RoutingDecision decision, router.route(task, how));
  if (options.json) {
    print("{}\n", to_json(routing_json(decision)));
    return kExitOk;
  }
  const auto line = [](const AgentScore& score) {
    print("{:<22} {:.3f}  {}\n", score.id, score.confidence, score.reason);
  };
  line(decision.primary);
  for (const AgentScore& score : decision.alternatives) line(score);
  print_note(fmt::format("decision {}", decision.id.text()));
  return kExitOk;
}

Result<int> route(const Options& options) {
  const bool feedback = options.words.size() == 2 && options.words[0] == "feedback";
  std::string task;
  for (const std::string& word : options.words) task += (task.empty() ? "" : " ") + word;
  DecisionId id;
  if (feedback) {
    RETURN_IF_ERROR(refuse(options, kOfTasks, "feedback"));
    ASSIGN_OR_RETURN(id, RecordId::parse(options.words[1]));
    if (options.success && options.failure) {
      return fail(ErrorKind::kUsage, "route.option", "--success and --failure: expected one of them");
    }
  } else {
    if (task.empty()) return fail(ErrorKind::kUsage, "route.task", "route: expected a task, found none");
    RETURN_IF_ERROR(refuse(options, kOfFeedback, "a task; feedback needs the id of a decision"));
  }
  ASSIGN_OR_RETURN(const LearningModel model,
                   load_learning(options.model, options.learning, options.profile));
  AgentRouter router(*model.sona);
  return feedback ? tell(options, router, id) : decide(options, router, task);
}

}  // namespace

void add_route_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb(
      "route", "Which agent a task belongs to; feedback says what became of it",
      "  ruvltra route Write unit tests for the date parser\n"
      "  ruvltra route --json --context 'a Django shop' 'The checkout is slow'\n"
      "  ruvltra route feedback 0006405c1f2a3b4c5d6e7f8091a2b3c4 --success\n"
      "  ruvltra route feedback 0006405c1f2a3b4c5d6e7f8091a2b3c4 --agent tester --quality 0.9\n",
      [options] { return route(*options); });
  options->verb = &app;
  program.collect_words(app, options->words);
  const auto own = [](CLI::Option* option) { return option->configurable(false); };
  own(app.add_option("-k", options->k, "Agents in the answer"))->check(in_range(1, 16));
  own(app.add_option("--context", options->context, "What else is known about the task"))->type_name("TEXT");
  app.add_flag("--prefer-speed", options->fast,
               "No model pass: words, or an embedding that is there already");
  app.add_flag("--prefer-cost", options->cheap, "The cheaper of two tiers near their border");
  own(app.add_flag("--explore", options->explore, "May try an agent that is not the likeliest"));
  own(app.add_option("--agent", options->agent, "feedback: who did it or, with success, who should"))
      ->type_name("ID");
  own(app.add_option("--quality", options->quality, "feedback: how good it was"))->check(in_range(0.0, 1.0));
  own(app.add_flag("--success", options->success, "feedback: quality 1"));
  own(app.add_flag("--failure", options->failure, "feedback: quality 0"));
  own(app.add_option("--feedback-id", options->feedback_id, "feedback: the same id again changes nothing"))
      ->type_name("NAME");
  own(app.add_option("--output-tokens", options->output_tokens,
                     "feedback: size of the work, in tokens written"));
  add_model_options(app, options->model);
  add_data_dir_option(app, options->learning.data_dir);
  app.add_option("--profile", options->profile, "Hooks and learning settings: base, coder or agent")
      ->check(one_of({"base", "coder", "agent"}))
      ->type_name("NAME");
  app.add_option("--tenant", options->tenant, "Whose outcomes count; default is \"local\"")
      ->type_name("NAME");
  app.add_flag("--json", options->json, "One JSON document on stdout");
}

}  // namespace ruvltra

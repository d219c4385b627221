#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "chat.h"
#include "console.h"
#include "learning.h"
#include "load.h"
#include "options.h"
#include "repl.h"
#include "ruvltra/constraint.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  ModelOptions model;
  SpeculationOptions speculation;
  SamplingOptions sampling;
  LearningOptions learning;
  Conversation::Options chat;
  ReplOptions repl;
  bool interactive = false;
  bool stats = false;
  bool json = false;
  int logprobs = 0;
  std::string json_schema;  // path
  std::vector<std::string> words;
};

// The words of the command line, then a blank line and standard input if both are given. A final newline of
// standard input is not part of the prompt.
Result<std::string> read_prompt(const Options& options) {
  std::string prompt = fmt::format("{}", fmt::join(options.words, " "));
  if (isatty(STDIN_FILENO) != 0 || options.interactive) return prompt;
  ASSIGN_OR_RETURN(std::string input, read_input());
  if (!input.empty() && input.back() == '\n') input.pop_back();
  if (prompt.empty()) return input;
  return input.empty() ? prompt : prompt + "\n\n" + input;
}

Result<void> check_usage(const Options& options) {
  for (const std::string& word : options.words) {
    if (word.ends_with(".gguf")) {
      return fail(ErrorKind::kUsage, "run.model_as_prompt",
                  "run: expected a prompt, found {}; give a model with -m {}", ruvltra::quoted(word), word);
    }
  }
  if (options.chat.parse_special && !options.chat.raw) {
    return fail(ErrorKind::kUsage, "run.parse_special", "--parse-special: expected --raw beside it");
  }
  if (options.sampling.params.max_tokens == 0) {
    return fail(ErrorKind::kUsage, "run.max_tokens", "--max-tokens: expected -1 or at least 1, found 0");
  }
  if (options.learning.bank && options.chat.raw) {
    return fail(ErrorKind::kUsage, "run.bank_raw", "--bank: expected a chat, found --raw");
  }
  if (options.json && options.interactive) {
    return fail(ErrorKind::kUsage, "run.json_interactive",
                "--json: expected a single answer, found --interactive");
  }
  return {};
}

Result<Constraint::Pointer> read_schema(const std::string& path) {
  constexpr uint64_t kMaxBytes = 64 << 10;
  ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxBytes));
  return Constraint::from_json_schema(text, path);
}

Result<int> run_once(const Options& options, const ServedModel& served, Conversation& conversation,
                     const std::string& prompt) {
  const Show show = {.text = !options.json,
                     .progress = !options.model.no_progress,
                     .accepted_in_colour = options.repl.color_accepted};
  ASSIGN_OR_RETURN(const Generation generation, conversation.ask(prompt, options.sampling.params, show));
  if (options.chat.constraint && generation.finish_reason == FinishReason::kLength)
    print_warning("--json-schema: the answer came to its end before the JSON text did; see --max-tokens");
  if (options.json) {
    Json document = generation_json(generation, served);
    if (options.chat.bank) {
      document["bank"] = Json::array();
      for (const PatternId& id : conversation.context().ids) document["bank"].push_back(id.text());
    }
    print("{}\n", to_json(document));
  } else {
    if (!generation.text.ends_with('\n')) write_out("\n");
    if (options.sampling.params.n_logprobs > 0) print_note(logprobs_table(generation, served.model));
  }
  if (options.stats) {
    const MediumConfig& config = served.model.config();
    print_note(fmt::format("loaded {} in {:.2f} s | sha256 {:.12} | {} threads, {}", served.label,
                           served.load_seconds, served.model.sha256(), config.n_threads, config.isa));
    print_note(generation_stats(generation));
    if (options.chat.bank) {
      print_note(fmt::format("bank: {} items, {} tokens in the system message",
                             conversation.context().ids.size(), conversation.context().n_tokens));
    }
  }
  return stop_requested() ? kExitInterrupted : kExitOk;
}

Result<int> run(Options& options) {
  RETURN_IF_ERROR(check_usage(options));
  ASSIGN_OR_RETURN(const std::string prompt, read_prompt(options));
  const bool dialogue = options.interactive || (prompt.empty() && isatty(STDIN_FILENO) != 0);
  if (prompt.empty() && !dialogue) {
    return fail(ErrorKind::kUsage, "run.no_prompt",
                "run: expected a prompt as words or on standard input, found none");
  }
  if (!options.json_schema.empty()) {
    ASSIGN_OR_RETURN(options.chat.constraint, read_schema(options.json_schema));
  }
  const bool learns = options.learning.bank || options.learning.learn != "off";
  ASSIGN_OR_RETURN(
      ServedModel served, load_served(options.model, options.speculation, [&](MediumConfig& config) {
        return learns ? apply_learning(options.learning, options.sampling.profile, config) : Result<void>();
      }));
  if (learns) RETURN_IF_ERROR(start_sona(served.model, !options.model.no_progress));
  options.chat.bank = options.learning.bank;
  ASSIGN_OR_RETURN(options.chat.adapter, parse_adapter(options.learning.adapter, "--adapter"));
  for (const std::string& warning : served.model.warnings()) print_warning(warning);
  GenerateParams& params = options.sampling.params;
  params.n_logprobs = options.logprobs;
  if (params.max_tokens < 0) params.max_tokens = served.model.config().context_length;
  if (has_random_weights(served.model.name())) {
    print_warning(served.label + ": random weights; the text means nothing");
  }
  ASSIGN_OR_RETURN(Conversation conversation, Conversation::make(served, options.chat));
  if (conversation.raw() && !options.chat.raw) {
    print_warning(served.label + ": no chat template; continuing the prompt as plain text (--raw)");
  }
  options.repl.no_progress = options.model.no_progress;
  if (dialogue && prompt.empty()) return run_repl(served, conversation, params, options.repl);
  ASSIGN_OR_RETURN(const int code, run_once(options, served, conversation, prompt));
  if (!options.interactive || termination_requested()) return code;
  clear_stop_request();
  return run_repl(served, conversation, params, options.repl);
}

}  // namespace

void add_run_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app =
      program.add_verb("run", "Chat, or answer one prompt",
                       "  ruvltra run\n"
                       "  ruvltra run \"Tell me a story about a fox and a crow.\"\n"
                       "  ruvltra run -m model.gguf --temp 0 \"What is a B-tree?\" < notes.txt\n"
                       "  ruvltra run --raw -n 64 --seed 7 \"Once upon a time\"\n"
                       "  ruvltra run --json --logprobs 3 \"Hello\"\n"
                       "  ruvltra run --json-schema animal.json \"Describe a fox.\"\n"
                       "  ruvltra run -m model.gguf --draft small.gguf --stats \"Tell me a story.\"\n"
                       "  ruvltra run --spec ngram \"Correct this text:\" < letter.txt\n"
                       "  ruvltra run --learn record --bank \"Write the release notes.\"\n"
                       "  ruvltra run --learn on\n",
                       [options] { return run(*options); });
  options->sampling.params.max_tokens = -1;
  options->repl.settings = &app;
  options->repl.stats = &options->stats;
  program.collect_words(app, options->words);
  add_model_options(app, options->model);
  add_kv_mem_option(app, options->model.kv_mem);
  app.add_option("-s,--system", options->chat.system, "System message")->type_name("TEXT");
  app.add_flag("-i,--interactive", options->interactive, "Go on with a dialogue after the first answer");
  app.add_flag("--raw", options->chat.raw, "Continue the prompt as plain text, without the chat template");
  app.add_flag("--parse-special", options->chat.parse_special,
               "With --raw: strings such as <|im_end|> in the prompt become control tokens");
  app.add_flag("--stats", options->stats, "Speed of prompt and answer, on stderr");
  app.add_flag("--json", options->json, "One JSON document instead of streamed text");
  app.add_option("--logprobs", options->logprobs,
                 "Log-probabilities of each token and its N likeliest alternatives")
      ->check(in_range(0, 20))
      ->type_name("N");
  app.add_option("--json-schema", options->json_schema,
                 "Answers are JSON as this file's JSON Schema says (docs/structured-output.md)")
      ->type_name("FILE");
  app.add_flag("--no-history", options->repl.no_history, "Keep no history of the dialogue's input");
  app.add_flag("--color-accepted", options->repl.color_accepted,
               "On a terminal: tokens that were proposed before they were drawn in another colour");
  add_sampling_options(app, options->sampling);
  add_speculation_options(app, options->speculation);
  add_learning_options(app, options->learning);
}

}  // namespace ruvltra

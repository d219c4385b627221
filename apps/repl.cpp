#include "repl.h"

#include <sys/stat.h>

#include <functional>
#include <map>

#include "base/fail.h"
#include "base/file.h"
#include "console.h"
#include "learning.h"
#include "line_reader.h"
#include "settings.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxConversationBytes = uint64_t{16} << 20;
constexpr std::string_view kBlockMark = "\"\"\"";

// What /set may change while a dialogue runs.
const std::vector<std::string> kSettings = {
    "temp", "top-p",     "top-k", "min-p", "repeat-penalty", "presence-penalty", "frequency-penalty",
    "seed", "max-tokens"};

class Repl {
 public:
  Repl(const ServedModel& served, Conversation& conversation, GenerateParams& params,
       const ReplOptions& options)
      : served_(served),
        conversation_(conversation),
        params_(params),
        options_(options),
        show_({.text = true, .progress = !options.no_progress, .accepted_in_colour = options.color_accepted}),
        reader_(options.no_history ? std::filesystem::path() : default_history_path()) {}

  Result<int> run();

 private:
  struct Command {
    const char* usage;
    const char* help;
    std::function<Result<void>(const std::string& argument)> act;
  };
  std::map<std::string, Command> commands();
  Result<void> act(const std::string& line);

  bool read_message(std::string& message);
  Result<void> finish(const Result<Generation>& generation);
  Result<void> ask(const std::string& text);
  Result<void> retry();
  Result<void> set(const std::string& argument);
  Result<void> set_profile(const std::string& name);
  Result<void> save(const std::string& path);
  Result<void> load(const std::string& path);
  Result<void> judge(bool good);
  Result<void> fix(std::string text);
  Result<Sona*> learner() const;
  Result<void> learn();
  Result<void> rollback();
  Result<void> learned();
  Result<void> set_adapter(const std::string& name);
  void show() const;
  void help();

  const ServedModel& served_;
  Conversation& conversation_;
  GenerateParams& params_;
  const ReplOptions& options_;
  const Show show_;
  LineReader reader_;
  std::string own_file_;  // saved or loaded in this dialogue: may be overwritten
  std::string last_stats_;
  bool done_ = false;
};

// One message: a line, or everything between two """ marks. False at the end of input or on Ctrl+C.
bool Repl::read_message(std::string& message) {
  message.clear();
  std::string line;
  bool in_block = false;
  for (;;) {
    const auto outcome = reader_.read(in_block ? "... " : ">>> ", line);
    if (outcome != LineReader::Outcome::kLine) {
      if (outcome == LineReader::Outcome::kEnd || termination_requested()) done_ = true;
      clear_stop_request();
      return false;
    }
    const bool opens = !in_block && line.starts_with(kBlockMark);
    if (opens) line.erase(0, kBlockMark.size());
    in_block = in_block || opens;
    const bool closes = in_block && line.ends_with(kBlockMark);
    if (closes) line.erase(line.size() - kBlockMark.size());
    if (!(opens && line.empty())) message += line;
    if (!in_block || closes) break;
    if (!(opens && line.empty())) message += '\n';
  }
  if (in_block && message.ends_with('\n')) message.pop_back();
  reader_.remember(message);
  return true;
}

// What follows an answer, whole, stopped or failed.
Result<void> Repl::finish(const Result<Generation>& generation) {
  const bool stopped = stop_requested();
  if (termination_requested()) done_ = true;
  clear_stop_request();
  RETURN_IF_ERROR(generation);
  if (!write_out(generation->text.ends_with('\n') ? "\n" : "\n\n")) done_ = true;
  if (stopped) print_note("(stopped)");
  last_stats_ = generation_stats(*generation);
  if (options_.stats != nullptr && *options_.stats) print_note(last_stats_);
  return {};
}

Result<void> Repl::ask(const std::string& text) { return finish(conversation_.ask(text, params_, show_)); }

Result<void> Repl::retry() {
  GenerateParams params = params_;
  params.seed.reset();
  return finish(conversation_.retry(params, show_));
}

Result<void> Repl::set(const std::string& argument) {
  const size_t space = argument.find_first_of(" =");
  std::string name = argument.substr(0, space);
  std::replace(name.begin(), name.end(), '_', '-');
  const std::string value =
      space == std::string::npos ? "" : argument.substr(argument.find_first_not_of(" =", space));
  if (std::find(kSettings.begin(), kSettings.end(), name) == kSettings.end()) {
    return fail(ErrorKind::kUsage, "repl.setting", "/set: expected one of {}, found {}{}",
                fmt::join(kSettings, ", "), ruvltra::quoted(name), did_you_mean(name, kSettings));
  }
  CLI::Option* option = options_.settings->get_option("--" + name);
  try {
    option->clear();
    option->add_result(value);
    option->run_callback();
  } catch (const CLI::Error& error) {
    return fail(ErrorKind::kUsage, "repl.setting", "/set: {}", error.what());
  }
  if (params_.max_tokens < 0) params_.max_tokens = served_.model.config().context_length;
  return {};
}

Result<void> Repl::set_profile(const std::string& name) {
  const auto presets = profile_presets(name);
  if (presets.empty()) {
    return fail(ErrorKind::kUsage, "repl.profile", "/profile: expected base, coder or agent, found {}",
                ruvltra::quoted(name));
  }
  params_.seed.reset();  // drawn, unless the profile names one
  for (const auto& [option, value] : presets) RETURN_IF_ERROR(set(option.substr(2) + " " + value));
  return {};
}

Result<void> Repl::save(const std::string& path) {
  if (path.empty()) return fail(ErrorKind::kUsage, "repl.file", "/save: expected a file name");
  const mode_t old_mask = umask(077);  // a conversation is private
  auto created = OutputFile::create(path, path == own_file_);
  umask(old_mask);
  if (!created && created.error().id == "file.exists") {
    return fail(ErrorKind::kUsage, "repl.file", "/save: expected a new file name, found {}, which exists",
                path);
  }
  ASSIGN_OR_RETURN(OutputFile file, std::move(created));
  const std::string text = conversation_.to_json().dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  RETURN_IF_ERROR(file.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  RETURN_IF_ERROR(file.commit());
  own_file_ = path;
  print_note("saved " + path);
  return {};
}

Result<void> Repl::load(const std::string& path) {
  if (path.empty()) return fail(ErrorKind::kUsage, "repl.file", "/load: expected a file name");
  ASSIGN_OR_RETURN(const std::string text, read_text_file(path, kMaxConversationBytes));
  ASSIGN_OR_RETURN(const Json document, parse_json(text, path, {.max_bytes = kMaxConversationBytes}));
  RETURN_IF_ERROR(conversation_.load_json(document, path));
  own_file_ = path;
  print_note(fmt::format("loaded {} messages", conversation_.n_messages()));
  return {};
}

Result<void> Repl::judge(bool good) {
  Signal signal;
  signal.success = good;
  signal.accepted = good;
  RETURN_IF_ERROR(conversation_.judge(std::move(signal)));
  print_note(good ? "noted: a good answer" : "noted: not a good answer");
  return {};
}

// The text after the command, or the next message.
Result<void> Repl::fix(std::string text) {
  if (text.empty()) {
    print_note("the answer as it should have been:");
    if (!read_message(text)) return {};
  }
  if (text.find_first_not_of(" \t\n") == std::string::npos)
    return fail(ErrorKind::kUsage, "repl.fix", "/fix: expected the answer as it should have been");
  Signal signal;
  signal.correction = std::move(text);
  RETURN_IF_ERROR(conversation_.judge(std::move(signal)));
  print_note("noted: the answer was corrected");
  return {};
}

Result<Sona*> Repl::learner() const {
  Sona* sona = conversation_.sona();
  if (sona != nullptr && sona->status().adapters.learns) return sona;
  return fail(ErrorKind::kUsage, "learning.disabled", "expected a dialogue with --learn on, found it off");
}

// The dialogue's own loop, then its person's.
Result<void> Repl::learn() {
  ASSIGN_OR_RETURN(Sona* const sona, learner());
  for (const Scope& scope : {conversation_.scope(), Scope()}) {
    ASSIGN_OR_RETURN(const LearningReport report, sona->learn(scope));
    print_note(fmt::format("{}: {}", scope.session.empty() ? "for all dialogues" : "for this dialogue",
                           learning_line(report)));
  }
  return {};
}

// Of the scope that answers.
Result<void> Repl::rollback() {
  ASSIGN_OR_RETURN(Sona* const sona, learner());
  const GenerationInfo live = sona->live(conversation_.scope());
  if (live.number == 0)
    return fail(ErrorKind::kUsage, "repl.rollback", "/rollback: expected something learned, found nothing");
  ASSIGN_OR_RETURN(const GenerationInfo now, sona->rollback(live.scope));
  print_note(fmt::format("generation {} is what {} was", now.number, live.parent));
  return {};
}

Result<void> Repl::learned() {
  ASSIGN_OR_RETURN(Sona* const sona, learner());
  const AdapterStatus status = sona->status().adapters;
  const GenerationInfo live = sona->live(conversation_.scope());
  std::string out = fmt::format("{} signals, {} wait | ", status.n_signals, status.n_waiting);
  if (live.number == 0) {
    out += "nothing learned yet: the model as it is";
  } else {
    out +=
        fmt::format("generation {} ({:.8}) of {}, from {}, {}", live.number, live.hash,
                    live.scope.session.empty() ? "all dialogues" : "this dialogue", live.parent, live.reason);
  }
  for (const LearningReport& report : status.reports)
    out += fmt::format("\n  {}: {}", report.loop, learning_line(report));
  print_note(out);
  return {};
}

Result<void> Repl::set_adapter(const std::string& name) {
  ASSIGN_OR_RETURN(const auto adapter, parse_adapter(name, "/adapter"));
  conversation_.set_adapter(adapter);
  return {};
}

void Repl::show() const {
  const MediumConfig& config = served_.model.config();
  std::string out =
      fmt::format("model {} | context {} of {} tokens | {} threads, {}\n", served_.label,
                  conversation_.n_tokens(), config.context_length, config.n_threads, config.isa);
  if (conversation_.system()) out += fmt::format("system {}\n", *conversation_.system());
  out += fmt::format(
      "temp {} | top-p {} | top-k {} | min-p {} | repeat-penalty {} | presence-penalty {} | "
      "frequency-penalty {}\n",
      params_.temperature, params_.top_p, params_.top_k, params_.min_p, params_.repeat_penalty,
      params_.presence_penalty, params_.frequency_penalty);
  out += fmt::format("max-tokens {} | seed {}", params_.max_tokens,
                     params_.seed ? fmt::format("{}", *params_.seed) : "drawn for each answer");
  print_note(out);
}

std::map<std::string, Repl::Command> Repl::commands() {
  const auto bye = [this](const std::string&) -> Result<void> {
    done_ = true;
    return {};
  };
  return {
      {"/help",
       {"", "this list", [this](const std::string&) -> Result<void> { return help(), Result<void>(); }}},
      {"/bye", {"", "leave; Ctrl+D too", bye}},
      {"/exit", {"", "", bye}},
      {"/quit", {"", "", bye}},
      {"/clear",
       {"", "forget the conversation",
        [this](const std::string&) -> Result<void> { return conversation_.clear(), Result<void>(); }}},
      {"/system",
       {"TEXT", "set the system message",
        [this](const std::string& text) -> Result<void> {
          return conversation_.set_system(text), Result<void>();
        }}},
      {"/set",
       {"NAME VALUE", "change a sampling setting, e.g. /set temp 0.2",
        [this](const auto& a) { return set(a); }}},
      {"/profile",
       {"NAME", "temp, top-p and seed as in base, coder or agent",
        [this](const auto& a) { return set_profile(a); }}},
      {"/show",
       {"", "model and settings",
        [this](const std::string&) -> Result<void> { return show(), Result<void>(); }}},
      {"/good",
       {"", "the last answer was good: more like it", [this](const std::string&) { return judge(true); }}},
      {"/bad", {"", "the last answer was not good", [this](const std::string&) { return judge(false); }}},
      {"/fix",
       {"[TEXT]", "the last answer as it should have been; without TEXT it is asked for",
        [this](const auto& a) { return fix(a); }}},
      {"/learn",
       {"", "learn now from what was judged, instead of in the background",
        [this](const std::string&) { return learn(); }}},
      {"/learned",
       {"", "what was learned, and what was tried", [this](const std::string&) { return learned(); }}},
      {"/adapter",
       {"latest|none|N", "the learned weights that answer",
        [this](const auto& a) { return set_adapter(a); }}},
      {"/rollback",
       {"", "back to what was before the last thing learned",
        [this](const std::string&) { return rollback(); }}},
      {"/retry", {"", "another answer to the last message", [this](const std::string&) { return retry(); }}},
      {"/save", {"FILE", "write the conversation", [this](const auto& a) { return save(a); }}},
      {"/load", {"FILE", "read a conversation", [this](const auto& a) { return load(a); }}},
      {"/stats",
       {"", "speed of the last answer",
        [this](const std::string&) -> Result<void> {
          print_note(last_stats_.empty() ? "no answer yet" : last_stats_);
          return {};
        }}},
  };
}

void Repl::help() {
  std::string out;
  for (const auto& [name, command] : commands()) {
    if (*command.help != '\0')
      out += fmt::format("  {:<20} {}\n", fmt::format("{} {}", name, command.usage), command.help);
  }
  out += "  \"\"\"                  begins and ends a message of several lines\n";
  out += "  Ctrl+C               stops the answer";
  print_note(out);
}

Result<void> Repl::act(const std::string& line) {
  const size_t space = line.find(' ');
  const std::string name = line.substr(0, space);
  const auto all = commands();
  const auto command = all.find(name);
  if (command == all.end()) {
    std::vector<std::string> names;
    for (const auto& [known, ignored] : all) names.push_back(known);
    const std::string hint = did_you_mean(name, names);
    return fail(ErrorKind::kUsage, "repl.command", "unknown command {}{}", ruvltra::quoted(name),
                hint.empty() ? "; /help lists them" : hint);
  }
  const size_t begin = space == std::string::npos ? space : line.find_first_not_of(' ', space);
  return command->second.act(begin == std::string::npos ? "" : line.substr(begin));
}

Result<int> Repl::run() {
  print_note(fmt::format("{}, {} parameters, context {}. /help lists commands, Ctrl+D leaves.", served_.label,
                         format_count(served_.model.n_parameters()), served_.model.config().context_length));
  std::string message;
  while (!done_) {
    if (!read_message(message) || message.find_first_not_of(" \t") == std::string::npos) continue;
    const auto result = message.front() == '/' ? act(message) : ask(message);
    if (!result) print_error(result.error());
  }
  return termination_requested() ? kExitInterrupted : kExitOk;
}

}  // namespace

Result<int> run_repl(const ServedModel& served, Conversation& conversation, GenerateParams& params,
                     const ReplOptions& options) {
  return Repl(served, conversation, params, options).run();
}

}  // namespace ruvltra

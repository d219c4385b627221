#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>

#include "base/fail.h"
#include "settings.h"
#include "verbs.h"

namespace ruvltra {
namespace {

// Words the parser could not place, as a usage error with the nearest known name.
Error unexpected_words(const CLI::App& root, const CLI::App* verb) {
  const std::vector<std::string> words = (verb == nullptr ? root : *verb).remaining();
  const std::string word = words.empty() ? "" : words.front();
  std::vector<std::string> known;
  std::string what;
  if (verb == nullptr && word.rfind('-', 0) != 0) {
    what = "unknown verb";
    for (const CLI::App* each : root.get_subcommands([](const CLI::App*) { return true; }))
      known.push_back(each->get_name());
  } else {
    what = word.rfind('-', 0) == 0 ? "unknown option" : "unexpected argument";
    for (const CLI::Option* option : (verb == nullptr ? root : *verb).get_options()) {
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    }
  }
  const std::string name = word.substr(0, word.find('='));
  const std::string help =
      verb == nullptr ? "ruvltra --help" : fmt::format("ruvltra {} --help", verb->get_name());
  const std::string hint = did_you_mean(name, known);
  return Error{ErrorKind::kUsage, "usage.unknown",
               fmt::format("{} {}{}", what, ruvltra::quoted(name),
                           hint.empty() ? fmt::format("; see {}", help) : hint)};
}

// The parser's own layout with single blank lines.
class HelpLayout : public CLI::Formatter {
 public:
  HelpLayout() {
    column_width(34);
    label("SUBCOMMAND", "VERB");
    label("Subcommands", "Verbs");
    label("Positionals", "Arguments");
  }
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
    for (size_t at = text.find("\n\n\n"); at != std::string::npos; at = text.find("\n\n\n", at))
      text.erase(at, 1);
    return text;
  }
};

// Options of every verb, added after its own.
void add_general_options(Program::Verb& verb) {
  const std::string group = "General";
  verb.app->add_option("--config", verb.config_path, "TOML file with settings")
      ->configurable(false)
      ->type_name("FILE")
      ->group(group);
  verb.app
      ->add_flag("--print-config", verb.print_config,
                 "Print the effective settings with their sources and exit")
      ->configurable(false)
      ->group(group);
  verb.app->set_help_flag("-h,--help", "Print this help")->group(group);
}

}  // namespace

Program::Program()
    : root_("A language model engine for RuvLTRA-Medium and Qwen2.5 files (GGUF).", "ruvltra") {
  root_.set_version_flag("--version", version_line(), "Print the version");
  root_.require_subcommand(0, 1);
  root_.formatter(std::make_shared<HelpLayout>());
  root_.option_defaults()->always_capture_default();
  root_.footer(
      "Each verb explains itself: ruvltra run --help\nExit codes: 0 ok, 1 failure, 2 usage, 130 interrupted");
}

CLI::App& Program::add_verb(std::string name, std::string description, std::string examples, Body body) {
  auto verb = std::make_unique<Verb>();
  verb->app = root_.add_subcommand(std::move(name), std::move(description));
  verb->app->footer("Examples:\n" + examples);
  verb->app->group("Verbs");
  verb->body = std::move(body);
  verbs_.push_back(std::move(verb));
  return *verbs_.back()->app;
}

Result<int> Program::parse_and_run(int argc, const char* const* argv) {
  for (const auto& verb : verbs_) add_general_options(*verb);
  const Verb* chosen = nullptr;
  try {
    root_.parse(argc, argv);
  } catch (const CLI::ExtrasError&) {
    const auto parsed = root_.get_subcommands();
    return tl::unexpected<Error>(unexpected_words(root_, parsed.empty() ? nullptr : parsed.front()));
  } catch (const CLI::CallForVersion&) {
    print("{}\n", version_line());
    return kExitOk;
  } catch (const CLI::CallForHelp&) {
    print("{}", root_.help());
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    return fail(ErrorKind::kUsage, "usage.value", "{}", error.what());
  }
  for (const auto& verb : verbs_) {
    if (verb->app->parsed()) chosen = verb.get();
  }
  if (chosen == nullptr) {
    return fail(ErrorKind::kUsage, "usage.no_verb",
                "expected a verb, found none; try: ruvltra run, or ruvltra --help");
  }
  ASSIGN_OR_RETURN(const ConfigFile config, ConfigFile::find_and_read(chosen->config_path));
  RETURN_IF_ERROR(config.check_keys(root_));
  ASSIGN_OR_RETURN(const Sources sources, resolve_settings(*chosen->app, config));
  if (chosen->print_config) {
    write_out(settings_as_toml(*chosen->app, sources));
    return kExitOk;
  }
  return chosen->body();
}

int Program::main(int argc, const char* const* argv) {
  Result<int> result = kExitOk;
  // llama-bench's spelling of an option; short options of the parser have one letter.
  std::vector<const char*> words(argv, argv + argc);
  std::replace_if(
      words.begin(), words.end(), [](std::string_view word) { return word == "-pg"; }, "--pg");
  try {
    result = parse_and_run(argc, words.data());
  } catch (const std::bad_alloc&) {
    result = fail(ErrorKind::kMemory, "memory.exhausted", "memory: the system gave no more");
  } catch (const std::exception& error) {
    result = fail(ErrorKind::kIo, "program.exception", "{}", error.what());
  }
  if (!result) {
    if (result.error().kind != ErrorKind::kCancelled) print_error(result.error());
    return exit_code(result.error());
  }
  return output_complete() ? *result : static_cast<int>(kExitFailure);
}

CLI::Validator in_range(double low, double high) {
  return CLI::Validator(
      [low, high](std::string& text) -> std::string {
        char* end = nullptr;
        const double value = std::strtod(text.c_str(), &end);
        if (!text.empty() && *end == '\0' && value >= low && value <= high) return {};
        return fmt::format("expected a number in {}..{}, found {}", low, high, ruvltra::quoted(text));
      },
      "");
}

CLI::Validator in_range(int64_t low, int64_t high) {
  return CLI::Validator(
      [low, high](std::string& text) -> std::string {
        int64_t value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error == std::errc() && end == text.data() + text.size() && value >= low && value <= high)
          return {};
        return fmt::format("expected an integer in {}..{}, found {}", low, high, ruvltra::quoted(text));
      },
      "");
}

CLI::Validator one_of(std::vector<std::string> names) {
  return CLI::Validator(
      [names = std::move(names)](std::string& text) -> std::string {
        if (std::find(names.begin(), names.end(), text) != names.end()) return {};
        return fmt::format("expected one of {}, found {}{}", fmt::join(names, ", "), ruvltra::quoted(text),
                           did_you_mean(text, names));
      },
      "");
}

}  // namespace ruvltra

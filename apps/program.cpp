#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>

#include "base/fail.h"
#include "settings.h"
#include "verbs.h"

namespace ruvltra {
namespace {

// Begins the name of a validator that one_of() made.
constexpr std::string_view kChoices = "one of: ";

// A word the parser could not place, as a usage error with the nearest known name.
Error unexpected_word(const CLI::App& root, const CLI::App* verb, const std::string& word) {
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
  std::string make_usage(const CLI::App* app, std::string name) const override {
    std::string text = CLI::Formatter::make_usage(app, std::move(name));
    if (app->get_allow_extras()) text.insert(text.find_last_not_of('\n') + 1, " [TEXT...]");
    return text;
  }
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
    for (size_t at = text.find("\n\n\n"); at != std::string::npos; at = text.find("\n\n\n", at))
      text.erase(at, 1);
    return text;
  }
};

// The parser ends a verb at "++" and drops it: as a word of a prompt it goes by another name.
constexpr const char* kHiddenPlus = "\x01++";

void hide_plus_words(const CLI::App& verb, std::vector<std::string>& words) {
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i] != "++") continue;
    const CLI::Option* before = verb.get_option_no_throw(words[i - 1]);
    const bool is_value = before != nullptr && before->get_items_expected_min() > 0;
    if (!is_value) words[i] = kHiddenPlus;
  }
}

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

void Program::collect_words(CLI::App& app, std::vector<std::string>& words) {
  app.allow_extras();
  const auto verb =
      std::find_if(verbs_.begin(), verbs_.end(), [&](const auto& each) { return each->app == &app; });
  (*verb)->words = &words;
}

// `words` are the arguments without the program's name.
Result<int> Program::parse_and_run(std::vector<std::string> words) {
  for (const auto& verb : verbs_) add_general_options(*verb);
  const auto first = std::find_if(verbs_.begin(), verbs_.end(), [&](const auto& each) {
    return !words.empty() && each->app->get_name() == words.front();
  });
  std::vector<std::string>* const collected = first == verbs_.end() ? nullptr : (*first)->words;
  std::vector<std::string> trailing;
  if (collected != nullptr) {
    const auto mark = std::find(words.begin(), words.end(), "--");
    if (mark != words.end()) trailing.assign(mark + 1, words.end());
    words.erase(mark, words.end());
    hide_plus_words(*(*first)->app, words);
  }
  const Verb* chosen = nullptr;
  try {
    std::reverse(words.begin(), words.end());  // the parser takes them from the back
    root_.parse(std::move(words));
  } catch (const CLI::ExtrasError&) {
    const auto parsed = root_.get_subcommands();
    const CLI::App* verb = parsed.empty() ? nullptr : parsed.front();
    const auto remaining = (verb == nullptr ? root_ : *verb).remaining();
    return tl::unexpected<Error>(unexpected_word(root_, verb, remaining.empty() ? "" : remaining.front()));
  } catch (const CLI::CallForVersion&) {
    print("{}\n", version_line());
    return kExitOk;
  } catch (const CLI::CallForHelp&) {
    print("{}", root_.help());
    return kExitOk;
  } catch (const CLI::RequiredError& error) {
    // Settings can be printed without saying what the verb should do.
    const bool prints = first != verbs_.end() && (*first)->print_config;
    if (!prints) return fail(ErrorKind::kUsage, "usage.value", "{}", error.what());
    const auto remaining = (*first)->app->remaining();
    if (!remaining.empty())
      return tl::unexpected<Error>(unexpected_word(root_, (*first)->app, remaining.front()));
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
  if (chosen->words != nullptr) {
    *chosen->words = chosen->app->remaining();
    for (std::string& word : *chosen->words) {
      if (word == kHiddenPlus) word = "++";
      if (word.size() > 1 && word[0] == '-')
        return tl::unexpected<Error>(unexpected_word(root_, chosen->app, word));
    }
    chosen->words->insert(chosen->words->end(), trailing.begin(), trailing.end());
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
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  // llama-bench's spelling of an option; short options of the parser have one letter.
  if (!words.empty() && words.front() == "bench") {
    std::replace(words.begin(), words.end(), std::string("-pg"), std::string("--pg"));
  }
  try {
    result = parse_and_run(std::move(words));
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
  const std::string name = fmt::format("{}{}", kChoices, fmt::join(names, " "));
  return CLI::Validator(
             [names = std::move(names)](std::string& text) -> std::string {
               if (std::find(names.begin(), names.end(), text) != names.end()) return {};
               return fmt::format("expected one of {}, found {}{}", fmt::join(names, ", "),
                                  ruvltra::quoted(text), did_you_mean(text, names));
             },
             "")
      .name(name);
}

std::vector<std::string> split_choices(const std::string& validator_name) {
  if (!validator_name.starts_with(kChoices)) return {};
  return CLI::detail::split(validator_name.substr(kChoices.size()), ' ');
}

}  // namespace ruvltra

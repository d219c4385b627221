// `completions`: the parser's own tree of verbs and options as a completion script, so that the two cannot
// differ.
#include <algorithm>

#include "base/fail.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  std::string shell;
};

// What may stand behind an option.
enum class Value { kNone, kText, kFile, kFolder, kChoice };

struct Flag {
  std::string long_name, short_name;  // without dashes; one of them may be empty
  std::string help;
  Value value = Value::kNone;
  std::vector<std::string> choices;
  bool repeats = false;

  std::vector<std::string> spellings() const {
    std::vector<std::string> all;
    if (!short_name.empty()) all.push_back("-" + short_name);
    if (!long_name.empty()) all.push_back("--" + long_name);
    return all;
  }
};

struct VerbShape {
  std::string name, help;
  std::vector<Flag> flags;
  std::vector<std::string> first_words;  // choices of the first word that is no option
};

// The names that one_of() takes, or nothing.
std::vector<std::string> choices_of(CLI::Option& option) {
  try {
    return split_choices(option.get_validator(0)->get_name());
  } catch (const CLI::OptionNotFound&) {
    return {};
  }
}

Flag flag_of(CLI::Option& option) {
  Flag flag;
  if (!option.get_lnames().empty()) flag.long_name = option.get_lnames().front();
  if (!option.get_snames().empty()) flag.short_name = option.get_snames().front();
  flag.help = option.get_description();
  flag.repeats = option.get_items_expected_max() > 1;
  if (option.get_items_expected_max() == 0) return flag;
  flag.choices = choices_of(option);
  const std::string type = option.get_type_name();
  flag.value = !flag.choices.empty()                                         ? Value::kChoice
               : type == "FILE" || type.empty() || flag.long_name == "model" ? Value::kFile
               : type == "DIR"                                               ? Value::kFolder
                                                                             : Value::kText;
  return flag;
}

std::vector<VerbShape> shapes_of(CLI::App& root) {
  std::vector<VerbShape> shapes;
  for (CLI::App* verb : root.get_subcommands([](CLI::App*) { return true; })) {
    VerbShape shape{verb->get_name(), verb->get_description(), {}, {}};
    for (CLI::Option* option : verb->get_options([](CLI::Option*) { return true; })) {
      if (option->get_positional() && shape.first_words.empty()) shape.first_words = choices_of(*option);
      const bool is_hidden = option->get_group().empty();
      if (option->nonpositional() && !is_hidden) shape.flags.push_back(flag_of(*option));
    }
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

std::string joined(const std::vector<std::string>& words, const char* between = " ") {
  return fmt::format("{}", fmt::join(words, between));
}

// Text between single quotes of bash and zsh.
std::string quoted_for_shell(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::string bash_verb(const VerbShape& shape) {
  std::string out = fmt::format("    {})\n      case $prev in\n", shape.name);
  std::vector<std::string> all;
  for (const Flag& flag : shape.flags) {
    const auto spellings = flag.spellings();
    all.insert(all.end(), spellings.begin(), spellings.end());
    const char* kind = flag.value == Value::kFile ? "file" : flag.value == Value::kFolder ? "folder" : "text";
    if (flag.value == Value::kChoice) {
      out +=
          fmt::format("        {}) kind=words words='{}' ;;\n", joined(spellings, "|"), joined(flag.choices));
    } else if (flag.value != Value::kNone) {
      out += fmt::format("        {}) kind={} ;;\n", joined(spellings, "|"), kind);
    }
  }
  return out + fmt::format("      esac\n      options='{}' first='{}' ;;\n", joined(all),
                           joined(shape.first_words));
}

std::string bash_script(const std::vector<VerbShape>& shapes) {
  std::vector<std::string> names = {"--help", "--version"};
  std::string cases;
  for (const VerbShape& shape : shapes) {
    names.push_back(shape.name);
    cases += bash_verb(shape);
  }
  return R"(# bash completion for ruvltra, made by: ruvltra completions bash
_ruvltra() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} kind= words= options= first=
  COMPREPLY=()
  # --name=value comes in three pieces.
  if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W ')" +
         joined(names) + R"(' -- "$cur"))
    return
  fi
  case ${COMP_WORDS[1]} in
)" + cases +
         R"(  esac
  if [[ -z $kind && $cur == -* ]]; then kind=words words=$options; fi
  if [[ -z $kind && $COMP_CWORD -eq 2 && -n $first ]]; then kind=words words=$first; fi
  case $kind in
    words) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
    folder) compopt -o filenames 2> /dev/null; COMPREPLY=($(compgen -d -- "$cur")) ;;
    text) compopt +o default 2> /dev/null ;;
  esac
}
complete -o default -F _ruvltra ruvltra
)";
}

// '(-m --model)'{-m,--model}'[help]:FILE:_files'
std::string zsh_flag(const Flag& flag) {
  const auto spellings = flag.spellings();
  std::string help;
  for (const char c : flag.help) {
    if (c == '[' || c == ']' || c == '\\') help += '\\';
    help += c;
  }
  std::string value;
  if (flag.value == Value::kText) value = ":value: ";
  if (flag.value == Value::kFile) value = ":file:_files";
  if (flag.value == Value::kFolder) value = ":folder:_files -/";
  if (flag.value == Value::kChoice) value = fmt::format(":value:({})", joined(flag.choices));
  const std::string body = quoted_for_shell("[" + help + "]" + value);
  if (flag.repeats) {
    return spellings.size() == 1 ? fmt::format("'*'{}{}", spellings[0], body)
                                 : fmt::format("'*'{{{}}}{}", joined(spellings, ","), body);
  }
  return spellings.size() == 1
             ? spellings[0] + body
             : fmt::format("'({})'{{{}}}{}", joined(spellings), joined(spellings, ","), body);
}

std::string zsh_script(const std::vector<VerbShape>& shapes) {
  std::string out =
      "#compdef ruvltra\n# zsh completion for ruvltra, made by: ruvltra completions zsh\n_ruvltra() {\n"
      "  local -a verbs=(\n";
  for (const VerbShape& shape : shapes) {
    std::string help = shape.help;
    for (size_t at = 0; (at = help.find(':', at)) != std::string::npos; at += 2) help.insert(at, "\\");
    out += fmt::format("    {}\n", quoted_for_shell(shape.name + ":" + help));
  }
  out +=
      "  )\n  if ((CURRENT == 2)); then\n    _describe verb verbs\n    return\n  fi\n"
      "  local verb=$words[2]\n  shift words\n  ((CURRENT--))\n  case $verb in\n";
  for (const VerbShape& shape : shapes) {
    out += fmt::format("    {})\n      _arguments -s \\\n", shape.name);
    for (const Flag& flag : shape.flags) out += fmt::format("        {} \\\n", zsh_flag(flag));
    if (!shape.first_words.empty())
      out += fmt::format("        '1:word:({})' \\\n", joined(shape.first_words));
    out += "        '*:file:_files' ;;\n";
  }
  return out +
         "  esac\n}\nif [[ $funcstack[1] == _ruvltra ]]; then _ruvltra \"$@\"; else compdef _ruvltra "
         "ruvltra; fi\n";
}

// Text between single quotes of fish, which knows two escapes there.
std::string quoted_for_fish(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string fish_script(const std::vector<VerbShape>& shapes) {
  std::string out = R"(# fish completion for ruvltra, made by: ruvltra completions fish
function __ruvltra_verb
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test $words[2] = $argv[1]
end
complete -c ruvltra -n 'test (count (commandline -opc)) -eq 1' -f
complete -c ruvltra -n 'test (count (commandline -opc)) -eq 1' -l help -s h -d 'Print help'
complete -c ruvltra -n 'test (count (commandline -opc)) -eq 1' -l version -d 'Print the version'
)";
  for (const VerbShape& shape : shapes)
    out += fmt::format("complete -c ruvltra -n 'test (count (commandline -opc)) -eq 1' -a {} -d {}\n",
                       shape.name, quoted_for_fish(shape.help));
  for (const VerbShape& shape : shapes) {
    const std::string head = fmt::format("complete -c ruvltra -n '__ruvltra_verb {}'", shape.name);
    for (const Flag& flag : shape.flags) {
      out += head;
      if (!flag.long_name.empty()) out += " -l " + flag.long_name;
      if (!flag.short_name.empty()) out += " -s " + flag.short_name;
      if (flag.value == Value::kText) out += " -x";
      if (flag.value == Value::kFile) out += " -r -F";
      if (flag.value == Value::kFolder) out += " -x -a '(__fish_complete_directories)'";
      if (flag.value == Value::kChoice)
        out += fmt::format(" -x -a {}", quoted_for_fish(joined(flag.choices)));
      out += " -d " + quoted_for_fish(flag.help) + "\n";
    }
    if (!shape.first_words.empty())
      out += fmt::format(
          "complete -c ruvltra -n '__ruvltra_verb {}; and test (count (commandline -opc)) -eq 2' -f -a {}\n",
          shape.name, quoted_for_fish(joined(shape.first_words)));
  }
  return out;
}

Result<int> completions(Program& program, const Options& options) {
  const auto shapes = shapes_of(program.tree());
  write_out(options.shell == "bash"  ? bash_script(shapes)
            : options.shell == "zsh" ? zsh_script(shapes)
                                     : fish_script(shapes));
  return kExitOk;
}

}  // namespace

void add_completions_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb("completions", "A script that completes verbs and options in a shell",
                                   "  source <(ruvltra completions bash)\n"
                                   "  ruvltra completions zsh > ~/.zfunc/_ruvltra\n"
                                   "  ruvltra completions fish > ~/.config/fish/completions/ruvltra.fish\n",
                                   [&program, options] { return completions(program, *options); });
  app.add_option("shell", options->shell, "bash, zsh or fish")
      ->required()
      ->check(one_of({"bash", "zsh", "fish"}))
      ->configurable(false)
      ->type_name("SHELL");
}

}  // namespace ruvltra

#include "settings.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <toml.hpp>

#include "base/fail.h"
#include "base/file.h"
#include "options.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{64} << 10;
constexpr int kMaxConfigDepth = 16;

std::string key_of(const CLI::Option& option) {
  std::string key = option.get_lnames().empty() ? "" : option.get_lnames().front();
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

std::string variable_of(const CLI::Option& option) {
  std::string name = "RUVLTRA_" + key_of(option);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
  return name;
}

std::vector<CLI::Option*> configurable_options(CLI::App& verb) {
  return verb.get_options(
      [](const CLI::Option* o) { return o->get_configurable() && !o->get_lnames().empty(); });
}
std::vector<const CLI::Option*> configurable_options(const CLI::App& verb) {
  return verb.get_options(
      [](const CLI::Option* o) { return o->get_configurable() && !o->get_lnames().empty(); });
}

// The position after a TOML string that begins at `begin`, or where a broken one must end.
size_t end_of_string(std::string_view text, size_t begin) {
  const char quote = text[begin];
  const size_t n_quotes = text.substr(begin, 3) == std::string(3, quote) ? 3 : 1;
  const std::string mark(n_quotes, quote);
  size_t i = begin + n_quotes;
  while (i < text.size() && text.substr(i, n_quotes) != mark) {
    if (n_quotes == 1 && text[i] == '\n') return i;
    i += quote == '"' && text[i] == '\\' ? 2 : 1;
  }
  return std::min(i + n_quotes, text.size());
}

// The TOML parser recurses on nested arrays, nested tables and dotted keys: refuse absurd nesting before it
// starts.
bool nests_too_deep(std::string_view text) {
  int depth = 0;
  int n_dots = 0;  // since the last character that ends a key
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '"' || c == '\'') {
      i = end_of_string(text, i);
      continue;
    }
    if (c == '#') {
      i = std::min(text.find('\n', i), text.size());
      continue;
    }
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (c == '\n' && depth < 0) depth = 0;
    if (std::string_view("[]{}=,\n").find(c) != std::string_view::npos) n_dots = 0;
    if (c == '.') ++n_dots;
    if (depth > kMaxConfigDepth || n_dots > kMaxConfigDepth) return true;
    ++i;
  }
  return false;
}

std::optional<std::string> scalar_text(const toml::value& value) {
  if (value.is_string()) return value.as_string().str;
  if (value.is_integer()) return fmt::format("{}", value.as_integer());
  if (value.is_floating()) return fmt::format("{}", value.as_floating());
  if (value.is_boolean()) return value.as_boolean() ? "true" : "false";
  return std::nullopt;
}

Result<ConfigFile::Values> values_of(const toml::value& value, const std::string& path,
                                     const std::string& key) {
  ConfigFile::Values values;
  if (value.is_array()) {
    for (const toml::value& element : value.as_array()) {
      const auto text = scalar_text(element);
      if (!text)
        return fail(ErrorKind::kUsage, "config.value", "{}: {}: expected an array of plain values", path,
                    key);
      values.push_back(*text);
    }
    return values;
  }
  const auto text = scalar_text(value);
  if (!text) {
    return fail(ErrorKind::kUsage, "config.value",
                "{}: {}: expected a string, number, boolean or array, found another kind", path, key);
  }
  values.push_back(*text);
  return values;
}

std::optional<std::string> environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

// Gives an option its value as if it had been a flag.
Result<void> assign(CLI::Option& option, const ConfigFile::Values& values, const std::string& source) {
  try {
    option.add_result(values);
    option.run_callback();
    return {};
  } catch (const CLI::Error& error) {
    return fail(ErrorKind::kUsage, "config.value", "{}: {}", source, error.what());
  }
}

std::string toml_scalar(const std::string& text) {
  if (text == "true" || text == "false") return text;
  const bool numeric =
      !text.empty() && text.size() < 18 && text.find_first_not_of("0123456789+-.eE") == std::string::npos;
  if (numeric) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    const bool leading_zero =
        text.size() > 1 && text[0] == '0' && std::isdigit(static_cast<unsigned char>(text[1])) != 0;
    const bool plain =
        std::isdigit(static_cast<unsigned char>(text.back())) != 0 && text[0] != '.' && !leading_zero;
    if (*end == '\0' && std::isfinite(value) && plain) return text;
  }
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      out += c;
    }
  }
  return out + '"';
}

// What must not end up in a log or a bug report.
bool is_secret(const CLI::Option& option) { return key_of(option) == "api_key"; }

bool is_list(const CLI::Option& option) { return option.get_items_expected_max() > 1; }

std::string toml_array(const std::vector<std::string>& values) {
  std::string out;
  for (const std::string& value : values) out += (out.empty() ? "" : ", ") + toml_scalar(value);
  return "[" + out + "]";
}

// The parser shows the default of a list as "[1,2]".
std::vector<std::string> elements_of(const std::string& shown) {
  std::vector<std::string> elements;
  std::istringstream stream(shown.substr(1, shown.size() - 2));
  for (std::string element; std::getline(stream, element, ',');) elements.push_back(element);
  return elements;
}

// Letters to insert, delete, replace or swap with a neighbour (optimal string alignment).
size_t typing_distance(std::string_view a, std::string_view b) {
  const size_t width = b.size() + 1;
  std::vector<size_t> cost((a.size() + 1) * width);
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      size_t& here = cost[i * width + j];
      if (i == 0 || j == 0) {
        here = i + j;
        continue;
      }
      const size_t replaced = cost[(i - 1) * width + j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      here = std::min({replaced, cost[(i - 1) * width + j] + 1, cost[i * width + j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        here = std::min(here, cost[(i - 2) * width + j - 2] + 1);
      }
    }
  }
  return cost[a.size() * width + b.size()];
}

}  // namespace

Result<ConfigFile> ConfigFile::find_and_read(const std::string& explicit_path) {
  ConfigFile config;
  std::error_code ignored;
  if (!explicit_path.empty()) {
    config.path = explicit_path;
  } else if (const auto named = environment("RUVLTRA_CONFIG")) {
    config.path = *named;
  } else {
    std::vector<std::string> places;
    if (const auto xdg = environment("XDG_CONFIG_HOME")) {
      places.push_back(*xdg + "/ruvltra/config.toml");
    } else if (const auto home = environment("HOME")) {
      places.push_back(*home + "/.config/ruvltra/config.toml");
    }
    places.push_back("/etc/ruvltra/config.toml");
    const auto found = std::find_if(places.begin(), places.end(), [&](const std::string& place) {
      return std::filesystem::exists(place, ignored);
    });
    if (found == places.end()) return config;
    config.path = *found;
  }

  auto text = read_text_file(config.path, kMaxConfigBytes);
  if (!text) return tl::unexpected<Error>(Error{ErrorKind::kUsage, "config.read", text.error().message});
  if (nests_too_deep(*text)) {
    return fail(ErrorKind::kUsage, "config.depth", "{}: expected at most {} nested brackets or dots in a key",
                config.path, kMaxConfigDepth);
  }
  toml::value root;
  try {
    std::istringstream stream(*text);
    root = toml::parse(stream, config.path);
  } catch (const std::exception& error) {
    return fail(ErrorKind::kUsage, "config.syntax", "{}: {}", config.path, error.what());
  }
  for (const auto& [key, value] : root.as_table()) {
    if (!value.is_table()) {
      ASSIGN_OR_RETURN(config.top_level[key], values_of(value, config.path, key));
      continue;
    }
    auto& table = config.tables[key];
    for (const auto& [inner, inner_value] : value.as_table()) {
      ASSIGN_OR_RETURN(table[inner], values_of(inner_value, config.path, fmt::format("[{}] {}", key, inner)));
    }
  }
  return config;
}

Result<void> ConfigFile::check_keys(const CLI::App& root) const {
  std::vector<std::string> verbs;
  std::vector<std::string> all_keys;
  std::map<std::string, std::vector<std::string>> keys_of_verb;
  for (const CLI::App* verb : root.get_subcommands([](const CLI::App*) { return true; })) {
    verbs.push_back(verb->get_name());
    auto& keys = keys_of_verb[verb->get_name()];
    for (const CLI::Option* option : configurable_options(*verb)) keys.push_back(key_of(*option));
    all_keys.insert(all_keys.end(), keys.begin(), keys.end());
  }
  const auto unknown = [&](const std::string& what, const std::string& name,
                           const std::vector<std::string>& known) {
    return fail(ErrorKind::kUsage, "config.unknown_key", "{}: unknown {} {}{}", path, what,
                ruvltra::quoted(name), did_you_mean(name, known));
  };
  const auto contains = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const auto& [key, values] : top_level) {
    if (!contains(all_keys, key)) return unknown("key", key, all_keys);
  }
  for (const auto& [verb, keys] : tables) {
    if (!contains(verbs, verb)) return unknown("table", verb, verbs);
    for (const auto& [key, values] : keys) {
      if (!contains(keys_of_verb[verb], key)) {
        return unknown(fmt::format("key in [{}]:", verb), key, keys_of_verb[verb]);
      }
    }
  }
  return {};
}

Result<Sources> resolve_settings(CLI::App& verb, const ConfigFile& file) {
  Sources sources;
  const auto table = file.tables.find(verb.get_name());
  const auto options = configurable_options(verb);
  for (CLI::Option* option : options) {
    const std::string key = key_of(*option);
    const std::string variable = variable_of(*option);
    if (option->count() > 0) {
      sources[option] = "flag";
    } else if (auto value = environment(variable)) {
      sources[option] = "environment " + variable;
      if (variable == "RUVLTRA_NO_PROGRESS") *value = *value == "0" || *value == "false" ? "false" : "true";
      RETURN_IF_ERROR(assign(*option, {*value}, sources[option]));
    } else if (table != file.tables.end() && table->second.count(key) != 0) {
      sources[option] = fmt::format("{} [{}]", file.path, verb.get_name());
      RETURN_IF_ERROR(assign(*option, table->second.at(key), sources[option]));
    } else if (file.top_level.count(key) != 0) {
      sources[option] = file.path;
      RETURN_IF_ERROR(assign(*option, file.top_level.at(key), sources[option]));
    }
  }
  const CLI::Option* profile = verb.get_option_no_throw("--profile");
  if (profile == nullptr) return sources;
  const std::string name = profile->as<std::string>();
  for (const auto& [option_name, value] : profile_presets(name)) {
    CLI::Option* option = verb.get_option_no_throw(option_name);
    if (option == nullptr || option->count() > 0) continue;
    sources[option] = "profile " + name;
    RETURN_IF_ERROR(assign(*option, {value}, sources[option]));
  }
  return sources;
}

std::string settings_as_toml(const CLI::App& verb, const Sources& sources) {
  std::string out =
      fmt::format("# Effective settings of \"ruvltra {}\"\n[{}]\n", verb.get_name(), verb.get_name());
  for (const CLI::Option* option : configurable_options(verb)) {
    const auto source = sources.find(option);
    const std::string key = key_of(*option);
    if (source == sources.end()) {
      const std::string value = option->get_default_str();
      const bool is_flag = option->get_items_expected_max() == 0;
      if ((value.empty() || value == "[]") && !is_flag) {
        out += fmt::format("# {}: not set\n", key);
      } else if (is_list(*option)) {
        out += fmt::format("{} = {}  # default\n", key, toml_array(elements_of(value)));
      } else {
        out += fmt::format("{} = {}  # default\n", key, is_flag ? "false" : toml_scalar(value));
      }
      continue;
    }
    if (is_secret(*option)) {
      out += fmt::format("# {}: set, not shown  # {}\n", key, source->second);
      continue;
    }
    const auto& values = option->results();
    const std::string text = is_list(*option) ? toml_array(values)
                             : values.empty() ? "true"
                                              : toml_scalar(values.back());
    out += fmt::format("{} = {}  # {}\n", key, text, source->second);
  }
  return out;
}

std::optional<std::string> nearest(std::string_view name, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  if (name.size() > 64) return best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = typing_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates) {
  const auto best = nearest(name, candidates);
  return best ? fmt::format("; did you mean {}?", *best) : "";
}

}  // namespace ruvltra

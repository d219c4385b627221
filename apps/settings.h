// Where the value of an option comes from: flag, environment, TOML file, profile, built-in default, in this
// order.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

// A parsed TOML file: top-level keys for every verb, tables for one verb. Scalars are kept as text.
struct ConfigFile {
  using Values = std::vector<std::string>;
  std::string path;  // empty: none was found
  std::map<std::string, Values> top_level;
  std::map<std::string, std::map<std::string, Values>> tables;

  // The first that exists of: explicit_path, $RUVLTRA_CONFIG, $XDG_CONFIG_HOME/ruvltra/config.toml,
  // /etc/ruvltra/config.toml. The first two must exist. Errors: config.* (usage).
  static Result<ConfigFile> find_and_read(const std::string& explicit_path);

  // Every key must be an option of some verb, every table a verb. Error: config.unknown_key with the nearest
  // name.
  Result<void> check_keys(const CLI::App& root) const;
};

// Fills every configurable option of `verb` that the command line left open, and remembers each source.
// Errors: config.value, naming the source.
using Sources = std::map<const CLI::Option*, std::string>;
Result<Sources> resolve_settings(CLI::App& verb, const ConfigFile& file);

// The effective settings as TOML, each with its source; of a secret only that it is set.
std::string settings_as_toml(const CLI::App& verb, const Sources& sources);

// The candidate closest to `name`, if it is close enough to be a typing mistake.
std::optional<std::string> nearest(std::string_view name, const std::vector<std::string>& candidates);
// ", did you mean X?" or nothing.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace ruvltra

// The learning system on the command line: where it keeps what it learns, and how it is started.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "load.h"
#include "ruvltra/config.h"
#include "ruvltra/error.h"
#include "ruvltra/sona.h"

namespace ruvltra {

struct LearningOptions {
  std::string data_dir;            // empty = default_data_dir()
  std::string learn = "off";       // off, record, on
  std::string adapter = "latest";  // latest, none, or a generation
  bool bank = false;
};

// --data-dir
void add_data_dir_option(CLI::App& app, std::string& data_dir);
// --data-dir, --learn, --bank, --adapter
void add_learning_options(CLI::App& app, LearningOptions& options);

// $XDG_DATA_HOME/ruvltra, or ~/.local/share/ruvltra. Error: option.data_dir if neither is set.
Result<std::filesystem::path> resolve_data_dir(const std::string& data_dir);

// "published generation 3: NLL 4.012 -> 3.870 on 1,280 held-out tokens ..." or why not.
std::string learning_line(const LearningReport& report);

// Request::adapter from "latest", "none" or a number. Error: option.adapter.
Result<std::optional<uint64_t>> parse_adapter(std::string_view text, std::string_view option);

// Hooks and learning settings of a profile, and the folder.
Result<void> apply_learning(const LearningOptions& options, const std::string& profile, MediumConfig& config);

// MediumModel::enable_sona() with a progress line on stderr while a basis is fitted.
Result<Sona*> start_sona(MediumModel& model, bool show_progress);

// A model loaded for its hidden states, with its learning system: for verbs that answer no requests.
struct LearningModel {
  ServedModel served;
  Sona* sona = nullptr;
};
Result<LearningModel> load_learning(const ModelOptions& options, const LearningOptions& learning,
                                    const std::string& profile);

}  // namespace ruvltra

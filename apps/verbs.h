// The verbs of the program. To add one: write apps/NAME.cpp with
//
//   void add_name_verb(Program& program) {
//     auto options = std::make_shared<Options>();       // plain struct with the built-in defaults
//     CLI::App& app = program.add_verb("name", "One line", "  ruvltra name example\n",
//                                      [options] { return name(*options); });
//     add_model_options(app, options->model);           // options.h, if the verb loads a model
//     app.add_option("--foo-bar", options->foo_bar, "What it does")->check(in_range(1, 64));
//   }
//
// declare it below and call it in add_all_verbs() (verbs.cpp). The body returns an exit code of console.h or
// an Error (kUsage ends with 2, kCancelled with 130, others with 1; the message goes to stderr as one line).
//
// Every long option --foo-bar can also be set by RUVLTRA_FOO_BAR and by the TOML key foo_bar, at top level or
// in the table [name]; ->configurable(false) keeps one to the command line. Order: flag, environment, TOML,
// profile, default.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "console.h"
#include "ruvltra/error.h"

namespace ruvltra {

class Program {
 public:
  using Body = std::function<Result<int>()>;

  Program();
  CLI::App& add_verb(std::string name, std::string description, std::string examples, Body body);
  // Words that are no options of this verb are collected here, unchanged, and so is everything after "--".
  // (The parser's own lists of arguments give brackets and braces a meaning.)
  void collect_words(CLI::App& app, std::vector<std::string>& words);
  // Parses, resolves the settings, runs the verb; returns the exit code.
  int main(int argc, const char* const* argv);
  // The verbs and their options, complete once a verb's body runs.
  CLI::App& tree() { return root_; }

  struct Verb {
    CLI::App* app;
    Body body;
    std::string config_path;  // --config
    bool print_config = false;
    std::vector<std::string>* words = nullptr;
  };

 private:
  Result<int> parse_and_run(std::vector<std::string> words);
  CLI::App root_;
  std::vector<std::unique_ptr<Verb>> verbs_;
};

// Validators that say what was expected and what was found.
CLI::Validator in_range(double low, double high);
CLI::Validator in_range(int64_t low, int64_t high);
inline CLI::Validator in_range(int low, int high) { return in_range(int64_t{low}, int64_t{high}); }
CLI::Validator one_of(std::vector<std::string> names);
// The names that such a validator carries in its own name, for completions; empty of any other.
std::vector<std::string> split_choices(const std::string& validator_name);

void add_run_verb(Program& program);
void add_show_verb(Program& program);
void add_tokenize_verb(Program& program);
void add_bench_verb(Program& program);
void add_version_verb(Program& program);
void add_quantize_verb(Program& program);
void add_synth_verb(Program& program);
void add_eval_verb(Program& program);
void add_doctor_verb(Program& program);
void add_route_verb(Program& program);
void add_agents_verb(Program& program);
void add_sona_verb(Program& program);
void add_serve_verb(Program& program);
void add_mcp_verb(Program& program);
void add_completions_verb(Program& program);

void add_all_verbs(Program& program);

// "ruvltra 0.1.0 (commit)"
std::string version_line();
std::string build_commit();  // empty if the build did not know

}  // namespace ruvltra

// Options shared by several verbs, and what they stand for.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ruvltra/config.h"
#include "ruvltra/error.h"
#include "ruvltra/types.h"

namespace ruvltra {

struct ModelOptions {
  std::string model = "demo";
  int ctx = 0;      // 0 = min(8192, what the file says)
  int threads = 0;  // 0 = physical cores
  std::string kv_type = "f16";
  std::string isa;  // empty = best supported
  bool mmap = false;
  bool tune = true;
  bool pin = false;
  std::string memory_limit;  // empty = what the system has
  std::string kv_mem;        // of the KV cache; empty = one sequence as long as the context
  bool no_progress = false;
};

// Speculative decoding (docs/speculation.md).
struct SpeculationOptions {
  std::string draft;             // path of a draft model; empty: none, or the bundled one beside the demo
  std::string mode;              // off, ngram, draft, auto; empty: auto with a draft, else off
  std::optional<int> lookahead;  // unset: as the measured gain says
  double stop = 0.7;             // a draft's probability below which it stops
};
// --draft, --spec, --lookahead, --draft-stop
void add_speculation_options(CLI::App& app, SpeculationOptions& options);
// File name of the bundled draft, beside the bundled model.
inline constexpr std::string_view kDemoDraft = "pico-q8_0.gguf";

// -m/--model, -c/--ctx, -t/--threads and the load options below.
void add_model_options(CLI::App& app, ModelOptions& options);
// --kv-type, --isa, --mmap, --no-tune, --pin, --memory-limit, --no-progress
void add_load_options(CLI::App& app, ModelOptions& options);
// --kv-mem, for verbs that answer requests.
void add_kv_mem_option(CLI::App& app, std::string& kv_mem);
// -m alone, for verbs that only read a file.
void add_model_path_option(CLI::App& app, std::string& model);
void add_threads_option(CLI::App& app, int& threads);
void add_kv_type_option(CLI::App& app, std::string& kv_type);
void add_isa_option(CLI::App& app, std::string& isa);
void add_progress_option(CLI::App& app, bool& no_progress);

struct SamplingOptions {
  std::string profile = "base";
  GenerateParams params;
};

// --profile, and what it presets: --temp --top-p --top-k --min-p --repeat-penalty --presence-penalty
// --frequency-penalty --seed --stop -n/--max-tokens
void add_sampling_options(CLI::App& app, SamplingOptions& options);
// What a profile sets among those, as (option, value).
std::vector<std::pair<std::string, std::string>> profile_presets(const std::string& profile);

// The file behind -m: a path as given, or the bundled model for "demo", looked for beside the program:
// ../models (build tree) and ../share/ruvltra/models (installed). Error: model.not_found naming what to do.
Result<std::filesystem::path> resolve_model(const std::string& model);

// Threads to use: n, or the physical cores this process may run on for 0.
int resolve_threads(int n);

// Token ids separated by commas or white space, each below n_vocab. Error: option.token_ids of the given
// kind, naming `source`.
Result<std::vector<TokenId>> parse_token_ids(std::string_view text, size_t n_vocab, std::string_view source,
                                             ErrorKind kind);

// GGUF files need a name: their parts are written at positions, which stdout ("-") has not.
Result<void> check_gguf_output(const std::string& path);

// "512M", "1.5GiB", "2000000": decimal units K M G T (KB...), binary units Ki Mi Gi Ti (KiB...).
Result<uint64_t> parse_size(const std::string& text);

}  // namespace ruvltra

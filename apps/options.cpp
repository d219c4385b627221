#include "options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/fail.h"
#include "base/threads.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr const char* kDemoModel = "nano-q8_0.gguf";

}  // namespace

void add_model_path_option(CLI::App& app, std::string& model) {
  app.add_option("-m,--model", model, "Model file (GGUF), or demo for the bundled one")->type_name("FILE");
}
void add_threads_option(CLI::App& app, int& threads) {
  app.add_option("-t,--threads", threads, "Threads; 0 = physical cores")
      ->check(in_range(0, 1024))
      ->type_name("N");
}
void add_isa_option(CLI::App& app, std::string& isa) {
  app.add_option("--isa", isa, "Instruction set: scalar, avx2, ...; default is the best this CPU has")
      ->type_name("NAME");
}
void add_progress_option(CLI::App& app, bool& no_progress) {
  app.add_flag("--no-progress", no_progress, "No progress line on stderr");
}

void add_kv_type_option(CLI::App& app, std::string& kv_type) {
  app.add_option("--kv-type", kv_type, "Number type of the KV cache: f16, or q8_0 in half the memory")
      ->check(one_of({"f16", "q8_0"}))
      ->type_name("TYPE");
}

void add_kv_mem_option(CLI::App& app, std::string& kv_mem) {
  app.add_option("--kv-mem", kv_mem, "Memory of the KV cache, e.g. 512MiB; default is what --ctx needs")
      ->type_name("SIZE");
}

void add_load_options(CLI::App& app, ModelOptions& options) {
  add_kv_type_option(app, options.kv_type);
  add_isa_option(app, options.isa);
  app.add_flag("--mmap", options.mmap,
               "Read the file through a mapping instead of copying it piece by piece");
  app.add_flag("--pin", options.pin, "Bind each worker thread to a CPU of its own");
  app.add_flag("--no-tune{false}", options.tune,
               "Load faster: do not time the kernels' walks on this machine first; changes no result");
  app.add_option("--memory-limit", options.memory_limit, "Refuse to start above this much memory, e.g. 4GiB")
      ->type_name("SIZE");
  add_progress_option(app, options.no_progress);
}

void add_speculation_options(CLI::App& app, SpeculationOptions& options) {
  const std::string group = "Speculative decoding (never changes the text)";
  app.add_option("--draft", options.draft, "Draft model with the same vocabulary")
      ->type_name("FILE")
      ->group(group);
  app.add_option(
         "--spec", options.mode,
         "Where proposals come from: ngram = earlier text, draft = the draft model, auto = the better of "
         "both, off; default is auto with --draft, else off")
      ->check(one_of({"off", "ngram", "draft", "auto"}))
      ->type_name("MODE")
      ->group(group);
  app.add_option("--lookahead", options.lookahead,
                 "Proposals per step; default is what the measured gain says")
      ->check(in_range(1, 8))
      ->type_name("N")
      ->group(group);
  app.add_option(
         "--draft-stop", options.stop,
         "The draft stops below this probability; --spec auto without --lookahead measures it instead")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P")
      ->group(group);
}

void add_model_options(CLI::App& app, ModelOptions& options) {
  add_model_path_option(app, options.model);
  app.add_option("-c,--ctx", options.ctx, "Context in tokens; 0 = min(8192, what the file says)")
      ->check(in_range(0, 1 << 20))
      ->type_name("N");
  add_threads_option(app, options.threads);
  add_load_options(app, options);
}

void add_sampling_options(CLI::App& app, SamplingOptions& options) {
  const std::string group = "Sampling";
  GenerateParams& params = options.params;
  app.add_option("--profile", options.profile, "Presets of the options below: base, coder or agent")
      ->check(one_of({"base", "coder", "agent"}))
      ->type_name("NAME")
      ->group(group);
  const auto add = [&](const char* names, auto& value, const char* help, CLI::Validator check,
                       const char* type) {
    app.add_option(names, value, help)->check(std::move(check))->type_name(type)->group(group);
  };
  add("--temp", params.temperature, "Temperature; 0 = always the likeliest token", in_range(0.0, 2.0), "T");
  add("--top-p", params.top_p, "Keep the likeliest tokens up to this probability", in_range(0.0, 1.0), "P");
  add("--top-k", params.top_k, "Keep the K likeliest tokens; 0 = all", in_range(0, 1 << 20), "K");
  add("--min-p", params.min_p, "Drop tokens below this share of the likeliest one", in_range(0.0, 1.0), "P");
  add("--repeat-penalty", params.repeat_penalty, "Divides logits of tokens seen before; 1 = off",
      in_range(0.01, 10.0), "R");
  add("--presence-penalty", params.presence_penalty, "Subtracted once a token was generated",
      in_range(-2.0, 2.0), "P");
  add("--frequency-penalty", params.frequency_penalty, "Subtracted per generated occurrence",
      in_range(-2.0, 2.0), "P");
  app.add_option("--seed", params.seed, "Seed; without one it is drawn and reported")
      ->type_name("N")
      ->group(group);
  app.add_option("--stop", params.stop, "Stop before this text; may be given several times")
      ->allow_extra_args(false)
      ->type_name("TEXT")
      ->group(group);
  add("-n,--max-tokens", params.max_tokens,
      "Longest answer in tokens; -1 = until the model stops or the context is full", in_range(-1, 1 << 20),
      "N");
}

std::vector<std::pair<std::string, std::string>> profile_presets(const std::string& profile) {
  const auto variant = parse_variant(profile);
  if (!variant) return {};
  const SamplingParams preset = MediumConfig::preset(*variant).sampling;
  std::vector<std::pair<std::string, std::string>> values = {
      {"--temp", fmt::format("{}", preset.temperature)}, {"--top-p", fmt::format("{}", preset.top_p)}};
  if (preset.seed) values.emplace_back("--seed", fmt::format("{}", *preset.seed));
  return values;
}

Result<std::filesystem::path> resolve_model(const std::string& model) {
  if (model != "demo") return std::filesystem::path(model);
  std::error_code error;
  std::vector<std::filesystem::path> folders;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    const auto folder = program.parent_path();
    folders = {folder / "../models", folder / "../share/ruvltra/models"};
  }
  folders.emplace_back("/usr/share/ruvltra/models");  // where a package puts it, in a root without /proc, too
  for (const auto& folder : folders) {
    const auto candidate = (folder / kDemoModel).lexically_normal();
    if (std::filesystem::exists(candidate, error)) return candidate;
  }
  return fail(ErrorKind::kIo, "model.not_found",
              "demo model: {} was not found beside the program (../models, ../share/ruvltra/models) or in "
              "/usr/share/ruvltra/models; give a file with -m",
              kDemoModel);
}

int resolve_threads(int n) { return n > 0 ? n : default_threads(); }

Result<void> check_gguf_output(const std::string& path) {
  if (path != "-") return {};
  return fail(ErrorKind::kUsage, "option.output",
              "output: expected a file name, found -; a GGUF file is not written from beginning to end");
}

Result<uint64_t> parse_size(const std::string& text) {
  const auto wrong = [&] {
    return fail(ErrorKind::kUsage, "option.size",
                "size: expected a number with K, M, G, T, Ki, Mi, Gi or Ti, found {}", ruvltra::quoted(text));
  };
  if (text.empty() || (std::isdigit(static_cast<unsigned char>(text[0])) == 0)) return wrong();
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  std::string unit(end);
  if (!unit.empty() && (unit.back() == 'B' || unit.back() == 'b')) unit.pop_back();
  if (!unit.empty()) {
    const bool binary = unit.size() == 2 && (unit[1] == 'i' || unit[1] == 'I');
    if (unit.size() != 1 && !binary) return wrong();
    const size_t power =
        std::string("KMGT").find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0]))));
    if (power == std::string::npos) return wrong();
    value *= std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power + 1));
  }
  if (!std::isfinite(value) || value < 1 || value > 0x1p62) return wrong();
  return static_cast<uint64_t>(value);
}

Result<std::vector<TokenId>> parse_token_ids(std::string_view text, size_t n_vocab, std::string_view source,
                                             ErrorKind kind) {
  std::vector<TokenId> ids;
  constexpr std::string_view kSeparators = ", \t\r\n";
  for (;;) {
    text.remove_prefix(std::min(text.find_first_not_of(kSeparators), text.size()));
    if (text.empty()) return ids;
    const std::string_view word = text.substr(0, text.find_first_of(kSeparators));
    TokenId id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size() || id < 0 ||
        static_cast<size_t>(id) >= n_vocab) {
      return fail(kind, "option.token_ids", "{}: expected token ids below {}, found {}", source, n_vocab,
                  ruvltra::quoted(word, 16));
    }
    ids.push_back(id);
    text.remove_prefix(word.size());
  }
}

}  // namespace ruvltra

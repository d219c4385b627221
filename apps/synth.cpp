#include "model/synth.h"

#include <chrono>
#include <optional>
#include <string>

#include "base/fail.h"
#include "model/grow.h"
#include "model/quantize.h"
#include "options.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  std::string output;
  std::string arch;  // empty: tiny, or medium to grow to
  std::string type = "Q4_K_M";
  uint64_t seed = 1;
  std::optional<int> layers;  // none: as the architecture says
  std::optional<int> tied;
  std::string vocab_from;
  std::string grow_from;
  int threads = 0;
  bool force = false;
  bool no_progress = false;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Result<int> write_random(const Options& options, const QuantScheme& scheme) {
  SynthOptions wanted;
  if (!options.arch.empty()) wanted.arch = options.arch;
  wanted.scheme = scheme;
  wanted.seed = options.seed;
  if (options.layers) wanted.n_layers = static_cast<size_t>(*options.layers);
  if (options.tied) wanted.tied = *options.tied == 1;
  wanted.vocab_from = options.vocab_from;
  ASSIGN_OR_RETURN(const SynthPlan plan, plan_synth(wanted));
  for (const std::string& warning : plan.warnings) print_warning(warning);

  ThreadPool pool(resolve_threads(options.threads));
  ProgressBar bar("writing random weights", ProgressBar::Unit::kBytes, !options.no_progress);
  const auto begin = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const uint64_t n_bytes,
                   synthesize(plan, options.output, options.force, pool, bar.callback()));
  print("{}: random weights, {} parameters, {}, {}\n", options.output, format_count(plan.n_elements),
        format_bytes(n_bytes), format_seconds(seconds_since(begin)));
  return kExitOk;
}

Result<int> write_grown(const Options& options, const QuantScheme& scheme) {
  GrowOptions wanted;
  wanted.target_name = options.arch.empty() ? "medium" : options.arch;
  ASSIGN_OR_RETURN(wanted.target, architecture_shape(wanted.target_name));
  if (options.layers) wanted.target.n_layers = static_cast<size_t>(*options.layers);
  if (options.tied) wanted.target.tied = *options.tied == 1;
  wanted.seed = options.seed;
  ASSIGN_OR_RETURN(auto source, WeightSource::open(options.grow_from));
  ASSIGN_OR_RETURN(const auto grown, grow(std::move(source), wanted));
  for (const std::string& warning : grown->warnings()) print_warning(warning);
  QuantizeOptions types;
  types.scheme = scheme;
  ASSIGN_OR_RETURN(QuantizePlan plan, plan_quantization(*grown, types));
  for (const std::string& warning : plan.warnings) print_warning(warning);

  ThreadPool pool(resolve_threads(options.threads));
  ProgressBar bar("growing", ProgressBar::Unit::kBytes, !options.no_progress);
  QuantizeRun run;
  run.overwrite = options.force;
  run.progress = bar.callback();
  const auto begin = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const uint64_t n_bytes, quantize(*grown, plan, options.output, run, pool));
  ASSIGN_OR_RETURN(const std::string_view name, plan.metadata.get_string("general.name"));
  print("{}: {}, {} parameters, {}, {}\n", options.output, ruvltra::quoted(name),
        format_count(plan.n_elements), format_bytes(n_bytes), format_seconds(seconds_since(begin)));
  return kExitOk;
}

Result<int> synth(const Options& options) {
  RETURN_IF_ERROR(check_gguf_output(options.output));
  ASSIGN_OR_RETURN(const QuantScheme scheme, find_quant_scheme(options.type));
  return options.grow_from.empty() ? write_random(options, scheme) : write_grown(options, scheme);
}

}  // namespace

void add_synth_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb(
      "synth", "Write a model of true shape for speed tests: random, or grown from a small one",
      "  ruvltra synth medium.gguf --arch medium --type Q4_K_M\n"
      "  ruvltra synth grown.gguf --grow-from models/nano-f16.gguf --arch medium --type Q4_K_M\n",
      [options] { return synth(*options); });
  app.add_option("-o,--output,OUT", options->output, "GGUF file to write")->required()->configurable(false);
  app.add_option("--arch", options->arch, "medium, small or tiny (default: tiny; medium to grow to)")
      ->check(one_of({"medium", "small", "tiny"}));
  app.add_option("--type", options->type, "Weight type, as in quantize");
  app.add_option("--seed", options->seed, "Same seed, same bytes");
  app.add_option("--layers", options->layers, "Number of layers instead of the architecture's")
      ->check(in_range(1, 1024));
  app.add_option("--tied", options->tied, "1: the output matrix is the embedding, 0: its own")
      ->check(in_range(0, 1));
  CLI::Option* vocab =
      app.add_option("--vocab-from", options->vocab_from, "Take the tokenizer of this GGUF file")
          ->configurable(false);
  app.add_option("--grow-from", options->grow_from,
                 "Embed this trained model: the shape and cost of --arch, the answers of FILE")
      ->configurable(false)
      ->excludes(vocab);
  app.add_option("-t,--threads", options->threads, "Worker threads (default: physical cores)")
      ->check(in_range(0, 1024));
  app.add_flag("--force", options->force, "Replace an existing file")->configurable(false);
  add_progress_option(app, options->no_progress);
}

}  // namespace ruvltra

#include "model/synth.h"

#include <chrono>
#include <optional>
#include <string>

#include "base/fail.h"
#include "options.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  std::string output;
  std::string arch = "tiny";
  std::string type = "Q4_K_M";
  uint64_t seed = 1;
  std::optional<int> layers;  // none: as the architecture says
  std::optional<int> tied;
  std::string vocab_from;
  int threads = 0;
  bool force = false;
  bool no_progress = false;
};

Result<int> synth(const Options& options) {
  RETURN_IF_ERROR(check_gguf_output(options.output));
  SynthOptions wanted;
  wanted.arch = options.arch;
  ASSIGN_OR_RETURN(wanted.scheme, find_quant_scheme(options.type));
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
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  print("{}: random weights, {} parameters, {}, {}\n", options.output, format_count(plan.n_elements),
        format_bytes(n_bytes), format_seconds(seconds));
  return kExitOk;
}

}  // namespace

void add_synth_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb("synth", "Write a random-weight model of true shape, for speed tests",
                                   "  ruvltra synth medium.gguf --arch medium --type Q4_K_M\n",
                                   [options] { return synth(*options); });
  app.add_option("-o,--output,OUT", options->output, "GGUF file to write")->required()->configurable(false);
  app.add_option("--arch", options->arch, "medium, small or tiny")
      ->check(one_of({"medium", "small", "tiny"}));
  app.add_option("--type", options->type, "Weight type, as in quantize");
  app.add_option("--seed", options->seed, "Same seed, same bytes");
  app.add_option("--layers", options->layers, "Number of layers instead of the architecture's")
      ->check(in_range(1, 1024));
  app.add_option("--tied", options->tied, "1: the output matrix is the embedding, 0: its own")
      ->check(in_range(0, 1));
  app.add_option("--vocab-from", options->vocab_from, "Take the tokenizer of this GGUF file")
      ->configurable(false);
  app.add_option("-t,--threads", options->threads, "Worker threads (default: physical cores)")
      ->check(in_range(0, 1024));
  app.add_flag("--force", options->force, "Replace an existing file")->configurable(false);
  add_progress_option(app, options->no_progress);
}

}  // namespace ruvltra

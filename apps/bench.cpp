#include <algorithm>
#include <cstdio>
#include <set>
#include <span>

#include "base/fail.h"
#include "bench_attention.h"
#include "bench_hnsw.h"
#include "bench_report.h"
#include "bench_run.h"
#include "bench_sim.h"
#include "bench_sona.h"
#include "bench_spec.h"
#include "console.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  std::set<std::string> given;  // on the command line
  ModelOptions model;
  std::vector<int> prompt = {512};
  std::vector<int> generate = {128};
  std::vector<std::string> both;
  std::vector<int> depth = {0};
  std::vector<int> sequences = {1};
  std::vector<int> per_step = {1};
  std::vector<int> threads = {0};
  int repetitions = 5;
  CLI::Option* repetitions_option = nullptr;
  std::string output = "md";
  bool json = false;
  bool attention = false;
  std::vector<int> attention_lengths = {2048, 8192, 32768};
  std::string attention_method;
  bool sim = false;
  SimOptions load;
  bool speculation = false;
  SpecBenchOptions spec;
  HnswBenchOptions hnsw;
  bool sona = false;
  SonaBenchOptions learning;
};

// What is measured, and which options mean something to it.
enum class Kind { kTests, kSim, kSpec, kHnsw, kSona };
struct OptionUse {
  const char* name;
  std::initializer_list<Kind> kinds;
};
const OptionUse kOptionUses[] = {
    {"-p", {Kind::kTests}},
    {"--pg", {Kind::kTests}},
    {"-d", {Kind::kTests}},
    {"-b", {Kind::kTests}},
    {"--step-tokens", {Kind::kTests}},
    {"--fa", {Kind::kTests}},
    {"-n", {Kind::kTests, Kind::kSpec, Kind::kSona}},
    {"-r", {Kind::kTests, Kind::kSpec}},
    {"--draft", {Kind::kSpec}},
    {"--spec-task", {Kind::kSpec}},
    {"--spec-source", {Kind::kSpec}},
    {"--lookahead", {Kind::kSpec}},
    {"--spec-temp", {Kind::kSpec}},
    {"--draft-stop", {Kind::kSpec}},
    {"--clients", {Kind::kSim}},
    {"--rate", {Kind::kSim}},
    {"--requests", {Kind::kSim, Kind::kSona}},
    {"--prompt-tokens", {Kind::kSim}},
    {"--output-tokens", {Kind::kSim}},
    {"--shared-prefix", {Kind::kSim}},
    {"--shared-share", {Kind::kSim}},
    {"--samples", {Kind::kSim}},
    {"--long-prompt", {Kind::kSim}},
    {"--temp", {Kind::kSim}},
    {"--seed", {Kind::kSim}},
    {"--parallel", {Kind::kSim}},
    {"--kv-mem", {Kind::kSim}},
    {"--no-prefix-cache", {Kind::kSim}},
    {"--ctx", {Kind::kSim, Kind::kSpec}},
    {"--hnsw-data", {Kind::kHnsw}},
    {"--hnsw-m", {Kind::kHnsw}},
    {"--hnsw-efc", {Kind::kHnsw}},
    {"--hnsw-ef", {Kind::kHnsw}},
    {"--hnsw-queries", {Kind::kHnsw}},
    {"--hnsw-deletes", {Kind::kHnsw}},
    {"--hnsw-seed", {Kind::kHnsw}},
    {"--pairs", {Kind::kSona}},
    {"--steps", {Kind::kSona}},
};

// Options of one kind of measurement mean nothing to the others. Only the command line counts: a settings
// file is for all of them.
Result<void> check_options(const std::set<std::string>& given, Kind kind) {
  const auto refuse = [](const char* name, std::string_view expected) {
    return fail(ErrorKind::kUsage, "bench.options", "{}: expected {}", name, expected);
  };
  for (const OptionUse& use : kOptionUses) {
    if (!given.contains(use.name) || std::find(use.kinds.begin(), use.kinds.end(), kind) != use.kinds.end())
      continue;
    const Kind other = *use.kinds.begin();
    return refuse(use.name, other == Kind::kSim    ? "with --sim"
                            : other == Kind::kSpec ? "with --spec"
                            : other == Kind::kHnsw ? "with --hnsw"
                            : other == Kind::kSona ? "with --sona"
                            : kind == Kind::kSona  ? "without --sona"
                            : kind == Kind::kHnsw  ? "without --hnsw"
                            : kind == Kind::kSim   ? "without --sim"
                                                   : "without --spec");
  }
  if (given.contains("--clients") && given.contains("--rate"))
    return refuse("--clients, --rate", "one of them: who asks again at once, or at random times");
  return {};
}

std::set<std::string> given_options(const CLI::App& app) {
  std::set<std::string> given;
  for (const OptionUse& use : kOptionUses) {
    if (app.get_option(use.name)->count() > 0) given.insert(use.name);
  }
  return given;
}

// Tests measured in turn, because one is compared with the other.
using TestGroup = std::vector<BenchTest>;

// Steps of several tokens stand beside the step of one token.
TestGroup decode_tests(const Options& options, const BenchTest& one) {
  TestGroup group = {one};
  for (const int n : options.sequences) {
    if (n == 1) continue;
    group.push_back(one);
    group.back().n_sequences = n;
  }
  for (const int n : options.per_step) {
    if (n == 1) continue;
    group.push_back(one);
    group.back().n_per_step = n;
  }
  return group;
}

Result<std::vector<TestGroup>> plan_tests(const Options& options) {
  std::vector<TestGroup> groups;
  for (const int threads : options.threads) {
    for (const int depth : options.depth) {
      BenchTest base;
      base.n_threads = resolve_threads(threads);
      base.n_depth = depth;
      for (const int n : options.prompt) {
        BenchTest test = base;
        test.n_prompt = n;
        if (n > 0) groups.push_back({test});
      }
      for (const int n : options.generate) {
        BenchTest test = base;
        test.n_generate = n;
        if (n > 0) groups.push_back(decode_tests(options, test));
      }
      for (const std::string& pair : options.both) {
        BenchTest test = base;
        char rest = 0;
        if (std::sscanf(pair.c_str(), "%6d,%6d%c", &test.n_prompt, &test.n_generate, &rest) != 2 ||
            test.n_prompt < 1 || test.n_generate < 1) {
          return fail(ErrorKind::kUsage, "bench.pair", "-pg: expected PROMPT,GENERATED, found {}",
                      ruvltra::quoted(pair));
        }
        groups.push_back({test});
      }
    }
  }
  if (groups.empty())
    return fail(ErrorKind::kUsage, "bench.nothing", "bench: expected a test, found -p 0 -n 0");
  return groups;
}

Result<int> run_simulation(Options& options) {
  if (options.threads.size() > 1)
    return fail(ErrorKind::kUsage, "bench.options",
                "--threads: expected one number with --sim, found a list");
  options.model.threads = options.threads.front();
  options.load.form = options.json ? "json" : options.output;
  return bench_sim(options.load, options.model);
}

Result<int> run_speculation(Options& options) {
  if (options.threads.size() > 1 || options.generate.size() > 1)
    return fail(ErrorKind::kUsage, "bench.options", "-t, -n: expected one number with --spec, found a list");
  options.model.threads = options.threads.front();
  options.spec.model = options.model;
  options.spec.repetitions = options.repetitions;
  options.spec.n_tokens = options.generate.front();
  options.spec.form = options.json ? "json" : options.output;
  return bench_speculation(options.spec);
}

Result<int> run_hnsw(Options& options) {
  if (!options.json && options.output != "md" && options.output != "json")
    return fail(ErrorKind::kUsage, "bench.options", "-o: expected md or json with --hnsw, found {}",
                options.output);
  options.hnsw.isa = options.model.isa;
  options.hnsw.no_progress = options.model.no_progress;
  options.hnsw.form = options.json ? "json" : options.output;
  return bench_hnsw(options.hnsw);
}

Result<int> run_sona(Options& options) {
  if (!options.json && options.output != "md" && options.output != "json")
    return fail(ErrorKind::kUsage, "bench.options", "-o: expected md or json with --sona, found {}",
                options.output);
  options.learning.json = options.json || options.output == "json";
  if (options.given.contains("-n")) options.learning.n_tokens = std::max(2, options.generate.front());
  if (options.given.contains("--requests")) options.learning.n_requests = options.load.n_requests;
  return bench_sona(options.learning, options.model);
}

Result<int> bench(Options& options) {
  const bool hnsw = !options.hnsw.size.empty();
  if (hnsw && (options.sim || options.speculation || options.attention))
    return fail(ErrorKind::kUsage, "bench.options", "--hnsw, --sim, --spec, --fa: expected one of them");
  if (options.sim && options.speculation)
    return fail(ErrorKind::kUsage, "bench.options", "--sim, --spec: expected one of them");
  if (options.sona && (hnsw || options.sim || options.speculation || options.attention))
    return fail(ErrorKind::kUsage, "bench.options", "--sona: expected no other kind of test beside it");
  RETURN_IF_ERROR(check_options(options.given, hnsw                  ? Kind::kHnsw
                                               : options.sona        ? Kind::kSona
                                               : options.sim         ? Kind::kSim
                                               : options.speculation ? Kind::kSpec
                                                                     : Kind::kTests));
  if (hnsw) return run_hnsw(options);
  if (options.sona) return run_sona(options);
  if (options.sim) return run_simulation(options);
  if (options.speculation) return run_speculation(options);
  if (options.attention) {
    const int repetitions = options.repetitions_option->count() > 0 ? options.repetitions : 1;
    return bench_attention({options.attention_lengths, options.attention_method, options.threads.front(),
                            repetitions, options.model.isa, options.json ? "json" : options.output,
                            options.model.no_progress});
  }
  ASSIGN_OR_RETURN(const std::vector<TestGroup> groups, plan_tests(options));
  uint64_t memory_limit = 0;
  if (!options.model.memory_limit.empty()) {
    ASSIGN_OR_RETURN(memory_limit, parse_size(options.model.memory_limit));
  }
  size_t n_tests = 0;
  for (const TestGroup& group : groups) {
    n_tests += group.size();
    for (const BenchTest& test : group) {
      options.model.ctx = std::max(options.model.ctx, static_cast<int>(test.n_positions()));
      options.model.threads = std::max(options.model.threads, test.n_threads);
    }
  }
  ASSIGN_OR_RETURN(const auto model, load_weights(options.model));
  if (has_random_weights(model->file.metadata())) {
    print_warning(model->label() + ": random weights; speed is real, acceptance and perplexity mean nothing");
  }
  BenchReport report(options.json ? "json" : options.output, *model, options.model.mmap);
  report.begin();
  ProgressBar bar("measuring", ProgressBar::Unit::kItems, !options.model.no_progress);
  const auto n_runs = n_tests * static_cast<size_t>(options.repetitions + 1);
  uint64_t n_done = 0;

  std::unique_ptr<ThreadPool> pool;
  for (const TestGroup& group : groups) {
    const int n_threads = group.front().n_threads;
    if (!pool || pool->n_threads() != n_threads)
      pool = std::make_unique<ThreadPool>(n_threads, pinning(options.model));
    ASSIGN_OR_RETURN(const auto measurements,
                     measure_tests(*model, *pool, group, options.repetitions, memory_limit,
                                   [&] { bar.update(++n_done, n_runs); }));
    for (const BenchMeasurement& measurement : measurements) report.add(measurement);
  }
  report.end();
  return kExitOk;
}

void add_sim_options(CLI::App& app, Options& options) {
  const std::string group = "Load (--sim)";
  SimOptions& load = options.load;
  app.add_flag("--sim", options.sim,
               "Clients that ask an engine in this process at the same time: latency, throughput, KV cache")
      ->group(group)
      ->configurable(false);
  const auto add = [&](const char* name, auto& value, const char* help, CLI::Validator check,
                       const char* type) {
    return app.add_option(name, value, help)
        ->check(std::move(check))
        ->type_name(type)
        ->group(group)
        ->configurable(false);
  };
  const auto add_list = [&](const char* name, auto& values, const char* help, CLI::Validator check,
                            const char* type) {
    return add(name, values, help, std::move(check), type)->allow_extra_args(false)->delimiter(',');
  };
  constexpr int kMostTokens = 1 << 20;
  add_list("--clients", load.clients,
           "Clients that ask again when their answer is complete; a row for each number", in_range(1, 64),
           "LIST");
  add_list("--rate", load.rates, "Instead: requests per second that arrive at random times; a row for each",
           in_range(0.001, 1e6), "LIST");
  add("--requests", load.n_requests, "Requests of a row; 0 = 2 per client", in_range(0, 1 << 16), "N");
  add_list("--prompt-tokens", load.prompt_tokens, "Length of the prompts: one, or uniform in MIN,MAX",
           in_range(1, kMostTokens), "MIN[,MAX]");
  add_list("--output-tokens", load.output_tokens, "Length of the answers; tokens that end generation do not",
           in_range(1, kMostTokens), "MIN[,MAX]");
  add("--shared-prefix", load.shared_prefix, "Tokens in front of the prompts that are the same for all",
      in_range(0, kMostTokens), "TOKENS");
  add("--shared-share", load.shared_share, "Share of the requests that begin with them", in_range(0.0, 1.0),
      "P");
  add("--samples", load.n_samples, "Answers to each prompt, which share its pages", in_range(1, 16), "N");
  add("--long-prompt", load.long_prompt,
      "What a prompt of so many tokens does to clients that generate: the time between their tokens before "
      "it "
      "arrives and while it is computed",
      in_range(0, kMostTokens), "TOKENS");
  add("--temp", load.temperature, "Temperature; 0 = always the likeliest token", in_range(0.0, 2.0), "T");
  app.add_option("--seed", load.seed, "Of lengths, tokens and times: the same seed is the same load")
      ->type_name("N")
      ->group(group)
      ->configurable(false);
  add("--parallel", load.parallel, "Sequences computed together; 0 = all of --clients, 8 with --rate",
      in_range(0, 64), "N");
  app.add_option("--kv-mem", load.kv_memory, "KV cache, e.g. 1GiB; default: every sequence at its longest")
      ->type_name("SIZE")
      ->group(group)
      ->configurable(false);
  app.add_flag("--no-prefix-cache{false}", load.prefix_cache, "Prompts do not share pages")
      ->group(group)
      ->configurable(false);
  add("-c,--ctx", options.model.ctx, "Context in tokens; 0 = the longest request", in_range(0, 1 << 20), "N");
}

void add_hnsw_options(CLI::App& app, HnswBenchOptions& options) {
  const std::string group = "Index (--hnsw)";
  const auto own = [&group](CLI::Option* option) { return option->group(group)->configurable(false); };
  own(app.add_option("--hnsw", options.size, "Nearest neighbours among N vectors of DIM values; no model"))
      ->type_name("N,DIM");
  own(app.add_option("--hnsw-data", options.data, "clustered, sorted (by cluster) or uniform"))
      ->check(one_of({"clustered", "sorted", "uniform"}));
  own(app.add_option("--hnsw-m", options.m, "Links per node and layer, twice as many at the lowest"))
      ->check(in_range(4, 64));
  own(app.add_option("--hnsw-efc", options.ef_construction, "Beam of an insertion"))
      ->check(in_range(4, 2000));
  own(app.add_option("--hnsw-ef", options.efs, "Beams of the searches"))
      ->allow_extra_args(false)
      ->delimiter(',')
      ->check(in_range(1, 1024))
      ->type_name("LIST");
  own(app.add_option("--hnsw-queries", options.n_queries, "Number of queries"))
      ->check(in_range(1, 1'000'000));
  own(app.add_option("--hnsw-deletes", options.deletes, "Percent of the vectors erased after the build"))
      ->check(in_range(0, 90));
  own(app.add_option("--hnsw-seed", options.seed, "Of the vectors"));
}

}  // namespace

void add_bench_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb(
      "bench", "Speed of prompt processing and generation",
      "  ruvltra bench\n"
      "  ruvltra bench -m model.gguf -p 512 -n 128 -r 5\n"
      "  ruvltra bench -m model.gguf -p 512 -n 32 -d 0,8192 -t 1,2 -o json\n"
      "  ruvltra bench -m model.gguf -p 0 -n 32 -b 2,4,8 --step-tokens 5\n"
      "  ruvltra bench --fa\n"
      "  ruvltra bench --sim -m model.gguf --clients 1,2,4,8,16 --requests 16\n"
      "  ruvltra bench --sim -m model.gguf --rate 0.5,1 --requests 30 --prompt-tokens 16,512\n"
      "  ruvltra bench --sim -m model.gguf --clients 1 --shared-prefix 2048 --prompt-tokens 16\n"
      "  ruvltra bench --sim -m model.gguf --clients 7 --long-prompt 4096\n"
      "  ruvltra bench --spec -m model.gguf --draft small.gguf -n 128 --spec-source ngram,auto\n"
      "  ruvltra bench --hnsw 10000,256\n"
      "  ruvltra bench --sona -m model.gguf --pairs 40\n",
      [options] { return bench(*options); });
  app.parse_complete_callback([&app, options] { options->given = given_options(app); });
  add_model_path_option(app, options->model.model);
  const auto add_list = [&app](const char* names, std::vector<int>& values, int least, int most,
                               const char* help) {
    app.add_option(names, values, help)
        ->allow_extra_args(false)
        ->delimiter(',')
        ->check(in_range(least, most))
        ->type_name("LIST");
  };
  const auto add_words = [&app](const char* name, std::vector<std::string>& values,
                                std::vector<std::string> known, const char* help) {
    app.add_option(name, values, help)
        ->allow_extra_args(false)
        ->delimiter(',')
        ->check(one_of(std::move(known)))
        ->type_name("LIST");
  };
  const auto add_numbers = [&app](const char* name, std::vector<double>& values, double most,
                                  const char* help) {
    app.add_option(name, values, help)
        ->allow_extra_args(false)
        ->delimiter(',')
        ->check(CLI::Range(0.0, most))
        ->type_name("LIST");
  };
  constexpr int kMostTokens = 1 << 20;
  add_list("-p,--n-prompt", options->prompt, 0, kMostTokens, "Prompt lengths; 0 = none");
  add_list("-n,--n-gen", options->generate, 0, kMostTokens, "Numbers of generated tokens; 0 = none");
  app.add_option("--pg", options->both,
                 "A prompt and generated tokens in one test; may be given several times")
      ->allow_extra_args(false)
      ->type_name("P,N");
  add_list("-d,--n-depth", options->depth, 0, kMostTokens, "Tokens in the cache before a test begins");
  add_list("-b,--batch", options->sequences, 1, static_cast<int>(kPrefillRows),
           "Sequences that generate together; tokens/s of all");
  add_list("--step-tokens", options->per_step, 1, static_cast<int>(kPrefillRows),
           "Tokens of one sequence per step, as when a draft is verified");
  add_list("-t,--threads", options->threads, 0, 1024, "Numbers of threads; 0 = physical cores");
  options->repetitions_option = app.add_option("-r,--repetitions", options->repetitions,
                                               "Measured runs per test, after a short one that is discarded")
                                    ->check(in_range(1, 1000))
                                    ->type_name("N");
  app.add_flag("--fa", options->attention,
               "Attention alone against plainer methods: time and peak memory; -r counts from 1");
  add_list("--fa-tokens", options->attention_lengths, 1, 1 << 17, "Sequence lengths for --fa");
  app.add_option("--fa-method", options->attention_method)->group("")->configurable(false);
  app.add_flag("--spec", options->speculation,
               "Speculative decoding against plain: -n tokens per answer, answers in turn, -r times");
  app.add_option("--draft", options->spec.draft, "Draft model for --spec")->type_name("FILE");
  add_words("--spec-task", options->spec.tasks, {"story", "edit", "noise"}, "Texts for --spec");
  add_words("--spec-source", options->spec.sources, {"ngram", "draft", "auto"}, "Where drafts come from");
  add_list("--lookahead", options->spec.lookaheads, 0, 8, "Proposals per step for --spec; 0 = adaptive");
  add_numbers("--spec-temp", options->spec.temperatures, 2, "Temperatures for --spec");
  add_numbers("--draft-stop", options->spec.cut_offs, 1, "The draft stops below this probability");
  app.add_option("-o,--output", options->output, "md, csv, json or jsonl")
      ->check(one_of({"md", "csv", "json", "jsonl"}))
      ->type_name("FORM");
  app.add_flag("--json", options->json, "Same as -o json");
  add_load_options(app, options->model);
  add_sim_options(app, *options);
  add_hnsw_options(app, options->hnsw);
  app.add_flag(
         "--sona", options->sona,
         "What learning costs: -n tokens per answer, with and without in turn; then generations published "
         "under --requests")
      ->group("Learning (--sona)");
  app.add_option("--pairs", options->learning.n_pairs, "Answers with, and as many without")
      ->check(in_range(2, 100'000))
      ->type_name("N")
      ->group("Learning (--sona)")
      ->configurable(false);
  app.add_option("--steps", options->learning.n_steps,
                 "Before them: decode steps with hooks and learned weights, and as many without; 0 = none")
      ->check(in_range(0, 100'000))
      ->type_name("N")
      ->group("Learning (--sona)")
      ->configurable(false);
}

}  // namespace ruvltra

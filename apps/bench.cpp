#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <numeric>

#include "base/bandwidth.h"
#include "base/fail.h"
#include "base/json.h"
#include "console.h"
#include "load.h"
#include "model/qwen2.h"
#include "verbs.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  ModelOptions model;
  std::vector<int> prompt = {512};
  std::vector<int> generate = {128};
  std::vector<std::string> both;
  std::vector<int> threads = {0};
  int repetitions = 5;
  std::string output = "md";
  bool json = false;
};

struct Test {
  int n_prompt = 0;
  int n_generate = 0;
  int n_threads = 0;

  std::string name() const {
    if (n_generate == 0) return fmt::format("pp{}", n_prompt);
    if (n_prompt == 0) return fmt::format("tg{}", n_generate);
    return fmt::format("pp{}+tg{}", n_prompt, n_generate);
  }
  int n_tokens() const { return n_prompt + n_generate; }
};

struct Measurement {
  Test test;
  std::vector<double> seconds;
  uint64_t peak_bytes = 0;  // of memory, without the meter's buffer
  double bandwidth = 0;     // bytes per second, the best pass beside this test
  std::string time;

  std::vector<double> rates() const {
    std::vector<double> out;
    for (const double s : seconds) out.push_back(test.n_tokens() / s);
    return out;
  }
};

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double centre = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - centre) * (value - centre);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm fields{};
  gmtime_r(&now, &fields);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &fields);
  return text;
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

// Of this program alone: getrusage() also knows what stood in the process before exec().
uint64_t peak_memory() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmHWM:")) return 1024 * std::strtoull(line.c_str() + 6, nullptr, 10);
  }
  return 0;
}

// Tokens without meaning but always the same: what is measured does not depend on them.
std::vector<TokenId> arbitrary_tokens(size_t n, size_t n_vocab) {
  std::vector<TokenId> tokens(n);
  uint32_t state = 1;
  for (TokenId& token : tokens) {
    state = state * 1664525u + 1013904223u;
    token = static_cast<TokenId>((state >> 8) % n_vocab);
  }
  return tokens;
}

// Runs tests on one loaded model with one number of threads.
class Runner {
 public:
  static Result<Runner> make(const LoadedWeights& model, ThreadPool& pool, size_t n_positions) {
    const ModelShape& shape = model.weights.shape;
    ASSIGN_OR_RETURN(KvPool kv, KvPool::make(shape, model.kv_type, KvPool::pages_for(n_positions)));
    const Workspace::Options room = {
        .max_tokens = kPrefillRows, .max_positions = n_positions, .exact = false};
    ASSIGN_OR_RETURN(Workspace workspace, Workspace::make(shape, room, pool.n_threads()));
    ASSIGN_OR_RETURN(auto logits, AlignedBuffer<float>::make(shape.n_vocab));
    return Runner(model, pool, std::move(kv), std::move(workspace), std::move(logits));
  }

  // Seconds for the test on an empty cache; nullopt after Ctrl+C.
  std::optional<double> run(const Test& test, std::span<const TokenId> tokens) {
    sequence_.truncate(0);
    const auto begin = Clock::now();
    size_t done = 0;
    while (done < static_cast<size_t>(test.n_tokens())) {
      if (stop_requested()) return std::nullopt;
      const auto n_prompt = static_cast<size_t>(test.n_prompt);
      const size_t n = done < n_prompt ? std::min(kPrefillRows, n_prompt - done) : 1;
      const bool last = done + n >= n_prompt;
      const StepInput in = sequence_.append(tokens.subspan(done, n),
                                            last ? SingleSequence::Rows::kLast : SingleSequence::Rows::kNone);
      forward(ctx_, model_->weights, kv_, workspace_, in,
              StepOutput{.logits = logits_.span(), .hidden = {}, .taps = {}});
      done += n;
    }
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

 private:
  Runner(const LoadedWeights& model, ThreadPool& pool, KvPool kv, Workspace workspace,
         AlignedBuffer<float> logits)
      : model_(&model),
        ctx_{&pool, model.ctx.kernels},
        kv_(std::move(kv)),
        workspace_(std::move(workspace)),
        logits_(std::move(logits)),
        sequence_(0, kv_.n_pages()) {}
  const LoadedWeights* model_;
  Ctx ctx_;
  KvPool kv_;
  Workspace workspace_;
  AlignedBuffer<float> logits_;
  SingleSequence sequence_;
};

std::string model_type(const LoadedWeights& model) {
  return fmt::format("qwen2 {}L {}", model.weights.shape.n_layers, quantisation_name(model.file));
}

std::optional<double> share_of_bandwidth(const Measurement& m, const LoadedWeights& model) {
  if (m.test.n_prompt != 0 || m.bandwidth <= 0) return std::nullopt;
  return 100 * static_cast<double>(model.weights.bytes_per_token()) * mean(m.rates()) / m.bandwidth;
}

// The fields of llama-bench, then ours. Fields that mean nothing here are null.
Json measurement_json(const Measurement& m, const LoadedWeights& model, bool use_mmap) {
  std::vector<double> nanoseconds;
  for (const double s : m.seconds) nanoseconds.push_back(1e9 * s);
  const auto share = share_of_bandwidth(m, model);
  Json out;
  out["build_commit"] = build_commit().empty() ? Json(nullptr) : Json(build_commit());
  out["build_number"] = nullptr;
  out["cpu_info"] = cpu_name();
  out["gpu_info"] = "";
  out["backends"] = "CPU";
  out["model_filename"] = model.file.path().string();
  out["model_type"] = model_type(model);
  out["model_size"] = model.file.file_bytes();
  out["model_n_params"] = model.weights.shape.n_parameters();
  out["n_batch"] = kPrefillRows;
  out["n_ubatch"] = kPrefillRows;
  out["n_threads"] = m.test.n_threads;
  out["cpu_mask"] = nullptr;
  out["cpu_strict"] = nullptr;
  out["poll"] = nullptr;
  const char* kv_type = model.kv_type == KvType::kF16 ? "f16" : "f32";
  out["type_k"] = kv_type;
  out["type_v"] = kv_type;
  out["n_gpu_layers"] = 0;
  out["split_mode"] = nullptr;
  out["main_gpu"] = nullptr;
  out["no_kv_offload"] = nullptr;
  out["flash_attn"] = true;
  out["tensor_split"] = nullptr;
  out["use_mmap"] = use_mmap;
  out["embeddings"] = false;
  out["n_prompt"] = m.test.n_prompt;
  out["n_gen"] = m.test.n_generate;
  out["test_time"] = m.time;
  out["avg_ns"] = std::llround(mean(nanoseconds));
  out["stddev_ns"] = std::llround(deviation(nanoseconds));
  out["avg_ts"] = mean(m.rates());
  out["stddev_ts"] = deviation(m.rates());
  out["isa"] = model.ctx.kernels->isa;
  out["peak_rss_bytes"] = m.peak_bytes;
  out["read_bw_gbs"] = m.bandwidth / 1e9;
  out["pct_roofline"] = share ? Json(*share) : Json(nullptr);
  out["samples_ts"] = m.rates();
  return out;
}

// Writes measurements as they come.
class Report {
 public:
  Report(std::string form, const LoadedWeights& model, bool use_mmap)
      : form_(std::move(form)), model_(model), use_mmap_(use_mmap) {}

  void begin() {
    if (form_ == "md")
      print(
          "| model | size | params | backend | threads | test | t/s |\n|---|---:|---:|---|---:|---|---:|\n");
    if (form_ == "json") list_ = Json::array();
  }
  void add(const Measurement& m) {
    if (form_ == "md") {
      print("| {} | {} | {} | CPU | {} | {} | {:.2f} ± {:.2f} |\n", model_type(model_),
            format_bytes(model_.file.file_bytes()), format_count(model_.weights.shape.n_parameters()),
            m.test.n_threads, m.test.name(), mean(m.rates()), deviation(m.rates()));
      if (const auto share = share_of_bandwidth(m, model_)) {
        remarks_ += fmt::format(
            "{} on {} threads reads {} of weights per token: {:.0f} % of the {:.1f} GB/s measured beside "
            "it\n",
            m.test.name(), m.test.n_threads, format_bytes(model_.weights.bytes_per_token()), *share,
            m.bandwidth / 1e9);
      }
      return;
    }
    const Json document = measurement_json(m, model_, use_mmap_);
    if (form_ == "json") list_.push_back(document);
    if (form_ == "jsonl") print("{}\n", to_json(document));
    if (form_ == "csv") add_csv(document);
  }
  void end() {
    if (form_ == "md") print("\n{}{} | {}\n", remarks_, version_line(), model_.ctx.kernels->isa);
    if (form_ == "json") print("{}\n", to_json(list_));
  }

 private:
  void add_csv(const Json& document) {
    std::vector<std::string> names;
    std::vector<std::string> values;
    for (const auto& [name, value] : document.items()) {
      names.push_back(name);
      std::string text = value.is_null() ? "" : value.is_string() ? value.get<std::string>() : to_json(value);
      for (size_t i = text.find('"'); i != std::string::npos; i = text.find('"', i + 2))
        text.insert(i, 1, '"');
      values.push_back('"' + text + '"');
    }
    if (!headed_) write_out(fmt::format("{}\n", fmt::join(names, ",")));
    headed_ = true;
    write_out(fmt::format("{}\n", fmt::join(values, ",")));
  }
  const std::string form_;
  const LoadedWeights& model_;
  const bool use_mmap_;
  std::string remarks_;
  Json list_;
  bool headed_ = false;
};

Result<std::vector<Test>> plan_tests(const Options& options) {
  std::vector<Test> tests;
  for (const int threads : options.threads) {
    const int n_threads = resolve_threads(threads);
    for (const int n : options.prompt) tests.push_back({n, 0, n_threads});
    for (const int n : options.generate) tests.push_back({0, n, n_threads});
    for (const std::string& pair : options.both) {
      Test test{0, 0, n_threads};
      char rest = 0;
      if (std::sscanf(pair.c_str(), "%6d,%6d%c", &test.n_prompt, &test.n_generate, &rest) != 2 ||
          test.n_prompt < 1 || test.n_generate < 1) {
        return fail(ErrorKind::kUsage, "bench.pair", "-pg: expected PROMPT,GENERATED, found {}",
                    ruvltra::quoted(pair));
      }
      tests.push_back(test);
    }
  }
  std::erase_if(tests, [](const Test& test) { return test.n_tokens() == 0; });
  if (tests.empty())
    return fail(ErrorKind::kUsage, "bench.nothing", "bench: expected a test, found -p 0 -n 0");
  return tests;
}

Result<int> bench(Options& options) {
  ASSIGN_OR_RETURN(const std::vector<Test> tests, plan_tests(options));
  size_t n_positions = 0;
  for (const Test& test : tests) {
    n_positions = std::max(n_positions, static_cast<size_t>(test.n_tokens()));
    options.model.threads = std::max(options.model.threads, test.n_threads);
  }
  options.model.ctx = static_cast<int>(n_positions);
  ASSIGN_OR_RETURN(const auto model, load_weights(options.model));
  if (has_random_weights(model->file.metadata())) {
    print_warning(model->label() + ": random weights; speed is real, acceptance and perplexity mean nothing");
  }
  const uint64_t load_peak = peak_memory();
  const auto tokens = arbitrary_tokens(n_positions, model->weights.shape.n_vocab);
  Report report(options.json ? "json" : options.output, *model, options.model.mmap);
  report.begin();
  ProgressBar bar("measuring", ProgressBar::Unit::kItems, !options.model.no_progress);
  const auto n_runs = tests.size() * static_cast<size_t>(options.repetitions + 1);
  uint64_t n_done = 0;

  std::unique_ptr<ThreadPool> pool;
  for (const Test& test : tests) {
    if (!pool || pool->n_threads() != test.n_threads) pool = std::make_unique<ThreadPool>(test.n_threads);
    ASSIGN_OR_RETURN(Runner runner, Runner::make(*model, *pool, n_positions));
    ASSIGN_OR_RETURN(BandwidthMeter meter, BandwidthMeter::make(*pool));
    Measurement measurement{test, {}, 0, 0, utc_now()};
    for (int repetition = 0; repetition <= options.repetitions; ++repetition) {
      measurement.bandwidth = std::max(measurement.bandwidth, meter.measure(*pool));
      const auto seconds = runner.run(test, tokens);
      if (!seconds) return fail(ErrorKind::kCancelled, "bench.cancelled", "stopped");
      if (repetition > 0) measurement.seconds.push_back(*seconds);  // the first run warms up
      bar.update(++n_done, n_runs);
    }
    // The meter's buffer is there during every run but not while loading.
    const uint64_t peak = peak_memory();
    measurement.peak_bytes =
        std::max(load_peak, peak - std::min<uint64_t>(peak, BandwidthMeter::kBufferBytes));
    report.add(measurement);
  }
  report.end();
  return kExitOk;
}

}  // namespace

void add_bench_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb("bench", "Speed of prompt processing and generation",
                                   "  ruvltra bench\n"
                                   "  ruvltra bench -m model.gguf -p 512 -n 128 -r 5\n"
                                   "  ruvltra bench -m model.gguf -t 1,2,4 -o json\n",
                                   [options] { return bench(*options); });
  add_model_path_option(app, options->model.model);
  const auto add_list = [&app](const char* names, auto& values, const char* help) {
    return app.add_option(names, values, help)->allow_extra_args(false);
  };
  add_list("-p,--n-prompt", options->prompt, "Prompt lengths; 0 = none")
      ->delimiter(',')
      ->check(in_range(0, 1 << 20))
      ->type_name("LIST");
  add_list("-n,--n-gen", options->generate, "Numbers of generated tokens; 0 = none")
      ->delimiter(',')
      ->check(in_range(0, 1 << 20))
      ->type_name("LIST");
  add_list("--pg", options->both, "A prompt and generated tokens in one test; may be given several times")
      ->type_name("P,N");
  add_list("-t,--threads", options->threads, "Numbers of threads; 0 = physical cores")
      ->delimiter(',')
      ->check(in_range(0, 1024))
      ->type_name("LIST");
  app.add_option("-r,--repetitions", options->repetitions,
                 "Measured runs per test, after one that is discarded")
      ->check(in_range(1, 1000))
      ->type_name("N");
  app.add_option("-o,--output", options->output, "md, csv, json or jsonl")
      ->check(one_of({"md", "csv", "json", "jsonl"}))
      ->type_name("FORM");
  app.add_flag("--json", options->json, "Same as -o json");
  add_load_options(app, options->model);
}

}  // namespace ruvltra

#include "bench_sona.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>
#include <random>
#include <thread>

#include "base/fail.h"
#include "console.h"
#include "sona/micro_lora.h"
#include "sona_trial.h"
#include "verbs.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::string_view kPrompt = "Tell me a story about a fox and a crow.";
constexpr int kTenants = 8, kPublished = 4, kShortTokens = 8;
constexpr auto kPublishEvery = std::chrono::milliseconds(10);

// How one answer is made.
struct State {
  const char* name = "";
  bool records = false;   // hooks tap every drawn row
  bool adapted = false;   // learned weights answer
  bool learning = false;  // the learner works meanwhile
};
// Each against an answer without any of it.
constexpr State kStates[] = {{.name = "nothing (noise)"},
                             {.name = "recording", .records = true},
                             {.name = "adapted", .adapted = true},
                             {.name = "recording, learning", .records = true, .learning = true}};

struct Cost {
  std::string name;
  std::vector<double> ratios;  // tokens per second with, over without
  double median = 0, low = 0;  // and the lower end of its 95 % bootstrap interval
};

// Text that nobody taught before, and the fit to it, again and again until it goes.
class BusyLearner {
 public:
  explicit BusyLearner(Sona& sona) {
    const uint64_t before = sona.status().adapters.n_signals;
    thread_ = std::thread([this, &sona] {
      while (!stop_) {
        std::string text;
        for (int k = 0; k < 300; ++k) text += fmt::format("The {} of number {} went on. ", k, ++n_sentences_);
        if (!sona.teach(text, kTaught) || !sona.learn(kTaught)) break;
      }
    });
    while (sona.status().adapters.n_signals == before) std::this_thread::yield();
  }
  ~BusyLearner() {
    stop_ = true;
    thread_.join();
  }

 private:
  static inline const Scope kTaught{.tenant = "taught", .session = {}};
  static inline uint64_t n_sentences_ = 0;  // of one learner at a time
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class SonaBench {
 public:
  SonaBench(const SonaBenchOptions& options, SonaTrial trial) : options_(options), trial_(std::move(trial)) {}
  Result<int> run();

 private:
  Result<Generation> answer(const State& state, int n_tokens, const std::string& tenant, std::string prompt);
  Result<void> publish_adapters();
  Result<Cost> cost(const State& state);
  Result<void> alternate();

  const SonaBenchOptions& options_;
  SonaTrial trial_;
  std::vector<Cost> costs_;
  uint64_t n_answers_ = 0, n_different_ = 0, n_published_ = 0, n_generations_seen_ = 0;
};

Result<Generation> SonaBench::answer(const State& state, int n_tokens, const std::string& tenant,
                                     std::string prompt) {
  Request request;
  request.prompt = std::move(prompt);
  request.params = trial_.model().default_params();
  request.params.temperature = 0;
  request.params.max_tokens = n_tokens;
  request.params.ignore_eos = true;
  request.treatment.tenant = tenant;
  request.treatment.record = state.records;
  if (!state.adapted) request.adapter = 0;
  ASSIGN_OR_RETURN(Stream stream, trial_.model().engine().stream(std::move(request)));
  Generation generation = std::move(stream.wait().front());
  if (generation.error) return tl::unexpected<Error>(std::move(*generation.error));
  return generation;
}

// Small random adapters: what they say does not matter here, only that they differ. The gates are those of
// imports.
Result<void> SonaBench::publish_adapters() {
  const SonaStatus status = trial_.sona().status();
  Sha256Digest model = {};
  for (size_t i = 0; i < model.size(); ++i) {
    const char* digits = status.model_sha256.data() + 2 * i;
    std::from_chars(digits, digits + 2, model[i], 16);
  }
  ASSIGN_OR_RETURN(auto loaded, AdapterBasis::load(status.folder / "adapter-basis.rvc1", model));
  const auto basis = std::make_shared<const AdapterBasis>(std::move(loaded));
  std::mt19937 random(1);
  for (int t = 0; t < kTenants; ++t) {
    for (int i = 0; i < kPublished; ++i) {
      std::normal_distribution<float> normal(0, 0.01f);
      std::vector<float> b(basis->n_features() * basis->d());
      for (float& value : b) value = normal(random);
      ASSIGN_OR_RETURN(const Adapter adapter, Adapter::make(basis, std::move(b)));
      const auto file = status.folder / "bench.rvc1";
      RETURN_IF_ERROR(adapter.save(file));
      RETURN_IF_ERROR(trial_.sona().import_adapter(file, {.tenant = fmt::format("t{}", t), .session = {}}));
    }
  }
  return {};
}

Result<Cost> SonaBench::cost(const State& state) {
  Cost out;
  out.name = state.name;
  Result<void> failed;
  for (int pair = -1; pair < options_.n_pairs && failed; ++pair) {  // the first one warms up
    double seconds[2] = {};
    for (int turn = 0; turn < 2 && failed; ++turn) {
      const bool with = (turn == 0) == (pair % 2 == 0);
      std::optional<BusyLearner> learner;
      if (with && state.learning) learner.emplace(trial_.sona());
      auto made = answer(with ? state : State{}, options_.n_tokens, "t0", std::string(kPrompt));
      learner.reset();  // the answer without it is to be alone
      if (!made) failed = tl::unexpected<Error>(std::move(made.error()));
      if (made) seconds[with ? 1 : 0] = made->timings.generate_seconds;
    }
    if (pair >= 0 && failed) out.ratios.push_back(seconds[0] / seconds[1]);
  }
  RETURN_IF_ERROR(failed);
  std::vector<double> medians;
  std::mt19937 random(1);
  const auto median = [](std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2),
                     values.end());
    return values[values.size() / 2];
  };
  out.median = median(out.ratios);
  for (int r = 0; r < 2000; ++r) {
    std::vector<double> drawn(out.ratios.size());
    for (double& value : drawn) value = out.ratios[random() % out.ratios.size()];
    medians.push_back(median(std::move(drawn)));
  }
  std::sort(medians.begin(), medians.end());
  out.low = medians[medians.size() / 20];
  return out;
}

// Generations change under the requests: each answer must be the one that its generation gives alone.
Result<void> SonaBench::alternate() {
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> n_published = 0;
  std::thread publisher([&] {
    std::mt19937 random(2);
    while (!stop) {
      const Scope scope{.tenant = fmt::format("t{}", random() % kTenants), .session = {}};
      if (trial_.sona().rollback(scope, 1 + random() % kPublished)) ++n_published;
      std::this_thread::sleep_for(kPublishEvery);
    }
  });
  struct Answer {
    std::string prompt, tenant, hash;
    std::vector<TokenId> tokens;
  };
  std::vector<Answer> answers;
  Result<void> failed;
  constexpr int kAtOnce = 8;
  for (int first = 0; first < options_.n_requests && failed; first += kAtOnce) {
    std::vector<Stream> streams;
    std::vector<Answer> batch;
    for (int i = first; i < std::min(first + kAtOnce, options_.n_requests) && failed; ++i) {
      Request request;
      Answer expected{.prompt = fmt::format("Tell me a story about a fox and {} crows.", i % 40),
                      .tenant = fmt::format("t{}", i % kTenants),
                      .hash = {},
                      .tokens = {}};
      request.prompt = expected.prompt;
      request.params.temperature = 0;
      request.params.max_tokens = kShortTokens;
      request.params.ignore_eos = true;
      request.treatment.tenant = expected.tenant;
      request.treatment.record = false;
      auto stream = trial_.model().engine().stream(std::move(request));
      if (!stream) {
        failed = tl::unexpected<Error>(std::move(stream.error()));
        break;
      }
      streams.push_back(std::move(*stream));
      batch.push_back(std::move(expected));
    }
    for (size_t i = 0; i < streams.size(); ++i) {
      const Generation made = std::move(streams[i].wait().front());
      batch[i].hash = made.adapter_hash;
      batch[i].tokens = made.tokens;
      answers.push_back(std::move(batch[i]));
    }
  }
  stop = true;
  publisher.join();
  RETURN_IF_ERROR(failed);
  n_published_ = n_published;
  // Alone: nothing is published any more.
  std::map<std::pair<std::string, std::string>, std::vector<TokenId>> alone;
  std::map<std::string, uint64_t> number_of[kTenants];
  for (int t = 0; t < kTenants; ++t) {
    for (const GenerationInfo& info : trial_.sona().history({.tenant = fmt::format("t{}", t), .session = {}}))
      number_of[t][info.hash] = info.number;
  }
  for (const Answer& each : answers) {
    auto& expected = alone[{each.prompt, each.hash}];
    if (expected.empty()) {
      Request request;
      request.prompt = each.prompt;
      request.params.temperature = 0;
      request.params.max_tokens = kShortTokens;
      request.params.ignore_eos = true;
      request.treatment.tenant = each.tenant;
      request.treatment.record = false;
      request.treatment.use_cache = false;
      request.adapter = number_of[each.tenant[1] - '0'][each.hash];
      ASSIGN_OR_RETURN(Stream stream, trial_.model().engine().stream(std::move(request)));
      expected = stream.wait().front().tokens;
    }
    n_different_ += each.tokens != expected;
    ++n_answers_;
  }
  std::map<std::string, int> seen;
  for (const Answer& each : answers) ++seen[each.hash];
  n_generations_seen_ = seen.size();
  return {};
}

Result<int> SonaBench::run() {
  RETURN_IF_ERROR(publish_adapters());
  if (!options_.json) {
    print("{}, {} pairs of answers of {} tokens, in turn\n", trial_.label(), options_.n_pairs,
          options_.n_tokens);
    print("{:<22} {:>14} {:>22}\n", "", "speed, median", "lower 95 % bound");
  }
  for (const State& state : kStates) {
    ASSIGN_OR_RETURN(Cost cost, this->cost(state));
    if (!options_.json)
      print("{:<22} {:>12.2f} % {:>20.2f} %\n", cost.name, 100 * cost.median, 100 * cost.low);
    costs_.push_back(std::move(cost));
  }
  RETURN_IF_ERROR(alternate());
  const AdapterStatus status = trial_.sona().status().adapters;
  if (options_.json) {
    Json out;
    out["kind"] = "sona";
    out["commit"] = build_commit();
    out["model"] = trial_.label();
    out["tokens"] = options_.n_tokens;
    for (const Cost& cost : costs_)
      out["states"].push_back(
          {{"name", cost.name}, {"median", cost.median}, {"low", cost.low}, {"ratios", cost.ratios}});
    out["enqueue_us"] = {{"p50", status.enqueue_p50_us}, {"p99", status.enqueue_p99_us}};
    out["signals"] = status.n_signals;
    out["alternation"] = {{"answers", n_answers_},
                          {"different", n_different_},
                          {"published", n_published_},
                          {"generations", n_generations_seen_}};
    print("{}\n", to_json(out));
  } else {
    print("enqueue of a signal: p50 {:.1f} us, p99 {:.1f} us over {} signals\n", status.enqueue_p50_us,
          status.enqueue_p99_us, status.n_signals);
    print(
        "{} answers of {} tenants while {} generations were published: {} weights seen, {} answers differ "
        "from those alone\n",
        n_answers_, kTenants, n_published_, n_generations_seen_, n_different_);
  }
  return n_different_ == 0 ? kExitOk : kExitFailure;
}

}  // namespace

Result<int> bench_sona(const SonaBenchOptions& options, const ModelOptions& model) {
  ExperimentOptions common;
  common.model = model;
  ASSIGN_OR_RETURN(SonaTrial trial, SonaTrial::open(common, [](MediumConfig& config) {
                     // Random adapters pass no gate on drift; that they do not drift is not the question
                     // here.
                     config.sona_config.gates = {.max_canary_rise = 1, .max_drift = 10, .max_delta_ratio = 1};
                     config.sona_config.learn_at_low_priority = true;  // as where somebody is served
                   }));
  return SonaBench(options, std::move(trial)).run();
}

}  // namespace ruvltra

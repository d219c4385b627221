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
#include "bench_sona_steps.h"
#include "console.h"
#include "random_adapter.h"
#include "sona_trial.h"
#include "statistics.h"
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
  bool learning = false;  // the learner works meanwhile,
  bool asked = false;     // because somebody waits for it
};
// Each against an answer without any of it.
constexpr State kStates[] = {
    {.name = "nothing (noise)"},
    {.name = "recording", .records = true},
    {.name = "adapted", .adapted = true},
    {.name = "recording, learning", .records = true, .learning = true},
    {.name = "the same, asked to", .records = true, .learning = true, .asked = true}};

// Answers in this state against answers without it.
struct Cost {
  SpeedRatios speed;
  double gap_ms = 0, plain_gap_ms = 0;  // 99th percentile of the time between tokens, with and without
};

// A conversation that is taught text nobody taught before: read by the model between the engine's steps, then
// fitted to. By itself, as after feedback; or asked to, again and again, by somebody who waits for it.
class BusyLearner {
 public:
  BusyLearner(Sona& sona, bool asked) : sona_(sona) {
    const uint64_t before = sona.status().adapters.n_signals;
    thread_ = std::thread([this, asked] {
      do {
        std::string text;
        for (int k = 0; k < kSentences; ++k)
          text += fmt::format("The {} of number {} went on. ", k, ++n_sentences_);
        if (!sona_.teach(text, kTaught) || (asked && !sona_.learn(kTaught))) break;
      } while (asked && !stop_);
      ended_ = true;
    });
    while (!ended_ && sona.status().adapters.n_signals == before) std::this_thread::yield();
  }
  // What is left is worked off: what comes next is to be alone.
  ~BusyLearner() {
    stop_ = true;
    thread_.join();
    (void)sona_.learn(kTaught);
  }

 private:
  static constexpr int kSentences = 64;
  static inline const Scope kTaught{.tenant = "taught", .session = "lesson"};
  static inline uint64_t n_sentences_ = 0;  // of one learner at a time
  Sona& sona_;
  std::atomic<bool> stop_ = false, ended_ = false;
  std::thread thread_;
};

class SonaBench {
 public:
  SonaBench(const SonaBenchOptions& options, std::vector<SpeedRatios> steps, SonaTrial trial)
      : options_(options), trial_(std::move(trial)), steps_(std::move(steps)) {}
  Result<int> run();

 private:
  // Adds the times between the tokens to `gaps`, in seconds.
  Result<Generation> answer(const State& state, std::vector<double>& gaps);
  Result<void> publish_adapters();
  Result<Cost> cost(const State& state);
  Result<void> alternate();

  const SonaBenchOptions& options_;
  SonaTrial trial_;
  std::vector<SpeedRatios> steps_;
  std::vector<Cost> costs_;
  uint64_t n_answers_ = 0, n_different_ = 0, n_published_ = 0, n_generations_seen_ = 0;
};

Result<Generation> SonaBench::answer(const State& state, std::vector<double>& gaps) {
  Request request;
  request.prompt = std::string(kPrompt);
  request.params = trial_.model().default_params();
  request.params.temperature = 0;
  request.params.max_tokens = options_.n_tokens;
  request.params.ignore_eos = true;
  request.treatment.tenant = "t0";
  request.treatment.record = state.records;
  if (!state.adapted) request.adapter = 0;
  ASSIGN_OR_RETURN(Stream stream, trial_.model().engine().stream(std::move(request)));
  std::optional<Clock::time_point> last;
  while (const auto event = stream.next()) {
    const auto now = Clock::now();
    if (last) gaps.push_back(std::chrono::duration<double>(now - *last).count());
    last = now;
  }
  Generation generation = stream.generations().front();
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
  for (int t = 0; t < kTenants; ++t) {
    for (int i = 0; i < kPublished; ++i) {
      ASSIGN_OR_RETURN(const auto adapter, random_adapter(basis, static_cast<uint64_t>(t * kPublished + i)));
      const auto file = status.folder / "bench.rvc1";
      RETURN_IF_ERROR(adapter->save(file));
      RETURN_IF_ERROR(trial_.sona().import_adapter(file, {.tenant = fmt::format("t{}", t), .session = {}}));
    }
  }
  return {};
}

Result<Cost> SonaBench::cost(const State& state) {
  std::vector<double> ratios, gaps[2];
  for (int pair = -1; pair < options_.n_pairs; ++pair) {  // the first one warms up
    if (stop_requested()) return fail(ErrorKind::kCancelled, "bench.cancelled", "bench: stopped on request");
    double seconds[2] = {};
    for (int turn = 0; turn < 2; ++turn) {
      const bool with = (turn == 0) == (pair % 2 == 0);
      std::vector<double> unused;
      std::optional<BusyLearner> learner;
      if (with && state.learning) learner.emplace(trial_.sona(), state.asked);
      const auto made = answer(with ? state : State{}, pair < 0 ? unused : gaps[with]);
      learner.reset();  // the answer without it is to be alone
      if (!made) return tl::unexpected<Error>(made.error());
      seconds[with] = made->timings.generate_seconds;
    }
    if (pair >= 0) ratios.push_back(seconds[0] / seconds[1]);
  }
  return Cost{.speed = speed_ratios(state.name, std::move(ratios)),
              .gap_ms = 1e3 * quantile(gaps[1], 0.99),
              .plain_gap_ms = 1e3 * quantile(gaps[0], 0.99)};
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
    if (stop_requested()) {
      failed = fail(ErrorKind::kCancelled, "bench.cancelled", "bench: stopped on request");
      break;
    }
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
    print("{} pairs of answers of {} tokens, in turn\n", options_.n_pairs, options_.n_tokens);
    print("{:<22} {:>14} {:>18} {:>28}\n", "", "speed, median", "lower 95 % bound",
          "p99 between tokens, without");
  }
  for (const State& state : kStates) {
    ASSIGN_OR_RETURN(Cost cost, this->cost(state));
    if (!options_.json) {
      print("{:<22} {:>12.2f} % {:>16.2f} % {:>11.2f} ms {:>11.2f} ms\n", cost.speed.name,
            100 * cost.speed.median, 100 * cost.speed.low, cost.gap_ms, cost.plain_gap_ms);
    }
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
    out["steps"] = Json::array();
    for (const SpeedRatios& step : steps_) out["steps"].push_back(step.json());
    for (const Cost& cost : costs_) {
      Json state = cost.speed.json();
      state["gap_p99_ms"] = cost.gap_ms;
      state["plain_gap_p99_ms"] = cost.plain_gap_ms;
      out["states"].push_back(std::move(state));
    }
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
  std::vector<SpeedRatios> steps;
  if (options.n_steps > 0) {
    ASSIGN_OR_RETURN(steps, sona_step_costs(model, options.n_steps));
  }
  if (!options.json && !steps.empty()) {
    ASSIGN_OR_RETURN(const std::filesystem::path file, resolve_model(model.model));
    print("{}, {} pairs of decode steps of each kind, in turn\n", file.filename().string(), options.n_steps);
    print("{:<22} {:>14} {:>18}\n", "", "speed, median", "lower 95 % bound");
    for (const SpeedRatios& step : steps)
      print("{:<22} {:>12.2f} % {:>16.2f} %\n", step.name, 100 * step.median, 100 * step.low);
  }
  ExperimentOptions common;
  common.model = model;
  ASSIGN_OR_RETURN(SonaTrial trial, SonaTrial::open(common, [](MediumConfig& config) {
                     // Random adapters pass no gate on drift; that they do not drift is not the question
                     // here.
                     config.sona_config.gates = {.max_canary_rise = 1, .max_drift = 10, .max_delta_ratio = 1};
                     config.sona_config.learn_at_low_priority = true;  // as where somebody is served
                   }));
  return SonaBench(options, std::move(steps), std::move(trial)).run();
}

}  // namespace ruvltra

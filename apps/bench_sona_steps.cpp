#include "bench_sona_steps.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <span>

#include "base/fail.h"
#include "console.h"
#include "engine/runner.h"
#include "load.h"
#include "model/hook_sum.h"
#include "random_adapter.h"
#include "statistics.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kDepth = 255;  // positions before the one that is decoded: four whole pages with it
constexpr int kWarmUp = 4;      // pairs
constexpr size_t kResamples = 2000;

// What a step does besides decoding.
struct StepKind {
  const char* name;
  bool records, adapted;
};
// The first kind is the noise of all the others: where nothing is recorded and nothing was learned, a step is
// the same with learning on and off.
constexpr StepKind kKinds[] = {{.name = "nothing (noise)", .records = false, .adapted = false},
                               {.name = "recording", .records = true, .adapted = false},
                               {.name = "adapted", .records = false, .adapted = true},
                               {.name = "recording, adapted", .records = true, .adapted = true}};

// One sequence of a runner whose last position is decoded again and again.
class Stepper {
 public:
  static Result<std::unique_ptr<Stepper>> make(const ModelOptions& options);
  double seconds(const StepKind& kind);

 private:
  explicit Stepper(std::unique_ptr<LoadedWeights> model) : model_(std::move(model)) {}

  std::unique_ptr<LoadedWeights> model_;
  std::optional<Runner> runner_;
  std::vector<PageId> pages_;
  std::shared_ptr<const Adapter> adapter_;
  AdapterView view_;
  std::vector<double> sum_;  // (hooks, d_model)
};

Result<std::unique_ptr<Stepper>> Stepper::make(const ModelOptions& options) {
  ASSIGN_OR_RETURN(auto model, load_weights(options));
  auto stepper = std::unique_ptr<Stepper>(new Stepper(std::move(model)));
  const LoadedWeights& loaded = *stepper->model_;
  const ModelShape& shape = loaded.weights.shape;
  const size_t n_pages = KvPool::pages_for(kDepth + 1);
  Runner::Options room;
  room.max_rows = kDepth + 1;
  room.max_positions = kDepth + 1;
  room.n_pages = n_pages;
  room.kv_type = loaded.kv_type;
  ASSIGN_OR_RETURN(stepper->runner_, Runner::make(loaded.ctx, loaded.weights, room));
  stepper->pages_.resize(n_pages);
  std::iota(stepper->pages_.begin(), stepper->pages_.end(), PageId{0});

  const MediumConfig config = MediumConfig::base();
  ASSIGN_OR_RETURN(std::vector<int> hooks,
                   effective_hook_layers(config.sona_hooks, static_cast<int>(shape.n_layers)));
  BasisSpec spec;
  spec.model = loaded.weights.file_digest;
  spec.n_layers = shape.n_layers;
  spec.d_model = shape.d_model;
  spec.eps = shape.rms_eps;
  spec.layers = hooks;
  spec.rank = static_cast<size_t>(config.sona_config.micro_lora_rank);
  ASSIGN_OR_RETURN(auto basis, random_basis(spec));
  ASSIGN_OR_RETURN(stepper->adapter_, random_adapter(std::move(basis), 1));
  stepper->view_ = stepper->adapter_->view();
  stepper->sum_.resize(hooks.size() * shape.d_model);
  Runner& runner = *stepper->runner_;
  RETURN_IF_ERROR(runner.set_tap_layers(std::move(hooks)));

  std::vector<TokenId> prompt(kDepth);
  for (size_t i = 0; i < kDepth; ++i) prompt[i] = static_cast<TokenId>(i % shape.n_vocab);
  runner.begin();
  runner.add({.tokens = prompt, .first_position = 0, .pages = stepper->pages_});
  runner.run(RowOutput::kBest, {});
  return stepper;
}

double Stepper::seconds(const StepKind& kind) {
  Runner& runner = *runner_;
  const size_t d_model = model_->weights.shape.d_model;
  const auto eps = static_cast<double>(model_->weights.shape.rms_eps);
  constexpr TokenId kToken = 1;
  const auto begun = Clock::now();
  runner.begin();
  runner.add({.tokens = {&kToken, 1},
              .first_position = kDepth,
              .pages = pages_,
              .n_wanted = 1,
              .adapter = kind.adapted ? &view_ : nullptr});
  runner.run(RowOutput::kBest, {}, kind.records);
  for (size_t l = 0; kind.records && l < runner.tap_layers().size(); ++l)
    add_normalised(runner.tap(l, 0), eps, std::span(sum_).subspan(l * d_model, d_model));
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

}  // namespace

Json SpeedRatios::json() const {
  return {{"name", name}, {"median", median}, {"low", low}, {"ratios", ratios}};
}

SpeedRatios speed_ratios(std::string_view name, std::vector<double> ratios) {
  SpeedRatios out;
  out.name = name;
  out.ratios = std::move(ratios);
  out.median = median(out.ratios);
  std::mt19937 random(1);
  std::vector<double> medians, drawn(out.ratios.size());
  for (size_t r = 0; r < kResamples; ++r) {
    for (double& value : drawn) value = out.ratios[random() % out.ratios.size()];
    medians.push_back(median(drawn));
  }
  std::sort(medians.begin(), medians.end());
  out.low = medians[medians.size() / 20];
  return out;
}

Result<std::vector<SpeedRatios>> sona_step_costs(const ModelOptions& options, int n_pairs) {
  ASSIGN_OR_RETURN(const auto stepper, Stepper::make(options));
  // All kinds in turn, so that they share the machine's moods.
  std::vector<std::vector<double>> ratios(std::size(kKinds));
  for (int pair = -kWarmUp; pair < n_pairs; ++pair) {
    for (size_t k = 0; k < std::size(kKinds); ++k) {
      if (stop_requested())
        return fail(ErrorKind::kCancelled, "bench.cancelled", "bench: stopped on request");
      double seconds[2] = {};  // without, with
      for (int turn = 0; turn < 2; ++turn) {
        const bool with = (turn == 0) == (pair % 2 == 0);
        seconds[with] = stepper->seconds(with ? kKinds[k] : StepKind{});
      }
      if (pair >= 0) ratios[k].push_back(seconds[0] / seconds[1]);
    }
  }
  std::vector<SpeedRatios> out;
  for (size_t k = 0; k < std::size(kKinds); ++k)
    out.push_back(speed_ratios(kKinds[k].name, std::move(ratios[k])));
  return out;
}

}  // namespace ruvltra

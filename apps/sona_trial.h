// What the experiments on learned weights share: texts, a model that learns in a folder of its own, exact
// NLLs, and gates that are told as they fall.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/mean.h"
#include "experiments.h"
#include "learning.h"
#include "ruvltra/sona.h"

namespace ruvltra {

struct TrialOptions {
  std::string author = "tests/data/authors/melville.txt";  // taught
  std::string second = "tests/data/authors/whitman.txt";   // taught after it
  std::string other = "tests/golden/heldout.txt";          // must not suffer
  int n_seeds = 5;
  int n_tokens = 20'000;  // taught of an author
  int n_attempts = 0;     // 0: as many as the experiment says
};
// Declares --author, --second-author, --other, --seeds, --taught and --attempts, which the experiments share.
std::vector<std::string> add_trial_options(CLI::App& app, std::shared_ptr<const TrialOptions>& options);

// Texts of so many tokens for measuring: long enough for a context, few enough to be many.
inline constexpr size_t kWindowTokens = 256;
using Window = std::vector<TokenId>;

// A model with learning on, in a temporary folder. Tenants keep trials apart.
class SonaTrial {
 public:
  // `change` is applied to the configuration last.
  static Result<SonaTrial> open(const ExperimentOptions& common,
                                const std::function<void(MediumConfig&)>& change = {});

  MediumModel& model() { return learning_.served.model; }
  Sona& sona() { return *learning_.sona; }
  const std::string& label() const { return learning_.served.label; }

  // Whole windows of a text from byte `begin` on (moved to a character's start), at most n.
  Result<std::vector<Window>> windows(std::string_view text, size_t begin, size_t n) const;
  // Mean NLL of each window's tokens but the first, over the whole vocabulary in double: with what is live
  // for the scope, or of the model as it is.
  Result<std::vector<double>> nll(std::span<const Window> windows, const std::optional<Scope>& scope);
  // SHA-256 over all logits of the windows: equal bits, equal text.
  Result<std::string> bits(std::span<const Window> windows, const std::optional<Scope>& scope);

 private:
  explicit SonaTrial(LearningModel learning) : learning_(std::move(learning)) {}
  LearningModel learning_;
};

// Teaches text from byte `begin` on as n passages of kPassageTokens tokens, each a text of its own: many
// short ones are more evidence than few long ones.
inline constexpr size_t kPassageTokens = 40;
Result<void> teach_passages(SonaTrial& trial, std::string_view text, size_t begin, size_t n,
                            const Scope& scope);

// Text of about n_tokens tokens of the model, cut out at byte `begin`.
Result<std::string> cut(const MediumModel& model, std::string_view text, size_t begin, size_t n_tokens);

// Mean with its 95 % t-interval over values.
struct MeanInterval {
  double mean = 0, low = 0, high = 0;
  Json json() const { return {{"mean", mean}, {"low", low}, {"high", high}}; }
};
MeanInterval t_interval(std::span<const double> values);

// What an experiment claims; told at once, or kept for the document.
class Gates {
 public:
  explicit Gates(bool quiet) : quiet_(quiet) {}
  void add(std::string name, bool passed, std::string found);
  bool passed() const;
  // The exit code. If it was kept, prints the document: kind, commit, command, model, seed, raw, gates.
  int finish(std::string_view kind, const std::string& command, const std::string& model, uint64_t seed,
             Json raw) const;

 private:
  struct Gate {
    std::string name, found;
    bool passed = false;
  };
  bool quiet_;
  std::vector<Gate> gates_;
};

// An experiment without options of its own: Eval(common, trial options).run() gives the exit code.
template <class Eval>
Experiment trial_experiment(std::string name) {
  auto own = std::make_shared<std::shared_ptr<const TrialOptions>>();
  return {std::move(name), [own](CLI::App& app) { return add_trial_options(app, *own); },
          [own](const ExperimentOptions& common) { return Eval(common, **own).run(); }};
}

}  // namespace ruvltra

#include "sona_trial.h"

#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "console.h"
#include "sona/beta.h"
#include "verbs.h"

namespace ruvltra {
namespace {

// The first byte of a character, at or after `at`.
size_t character_start(std::string_view text, size_t at) {
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u) ++at;
  return std::min(at, text.size());
}

// 97.5 % quantile of Student's t, from that of a Beta: x = v / (v + t^2) ~ Beta(v / 2, 1 / 2).
double t_quantile_975(size_t degrees) {
  const auto v = static_cast<double>(degrees);
  const double x = beta_lcb({.a = v / 2, .b = 0.5});
  return std::sqrt(v * (1 - x) / x);
}

}  // namespace

std::vector<std::string> add_trial_options(CLI::App& app, std::shared_ptr<const TrialOptions>& options) {
  // Options of one name exist once in a program: the experiments share them and what they say.
  static const auto shared = std::make_shared<TrialOptions>();
  if (app.get_option_no_throw("--author") == nullptr) {
    const auto file = [&](const char* name, std::string& value, const char* what) {
      app.add_option(name, value, what)->type_name("FILE")->configurable(false);
    };
    file("--author", shared->author, "sona-*: the text that is taught");
    file("--second-author", shared->second, "sona-forget, sona-boundary: the text that is taught after it");
    file("--other", shared->other, "sona-*: text that must not suffer");
    app.add_option("--trials", shared->n_seeds, "sona-*: how many trials, each with a seed of its own")
        ->check(in_range(1, 100))
        ->configurable(false);
    app.add_option("--taught", shared->n_tokens,
                   "sona-*: tokens taught of an author; sona-forget: three times as many of the second")
        ->check(in_range(1024, 1'000'000))
        ->configurable(false);
    app.add_option("--attempts", shared->n_attempts,
                   "sona-quality: held-out requests; sona-boundary: blocks of 64 tokens without one; "
                   "sona-null: attempts; sona-poison: signals of each attack; sona-rollback: jumps. "
                   "Default: as documented")
        ->check(in_range(1, 100'000))
        ->configurable(false);
  }
  options = shared;
  return {"--author", "--second-author", "--other", "--trials", "--taught", "--attempts"};
}

Result<SonaTrial> SonaTrial::open(const ExperimentOptions& common,
                                  const std::function<void(MediumConfig&)>& change) {
  LearningOptions learning;
  learning.learn = "on";
  ASSIGN_OR_RETURN(ServedModel served,
                   load_served(common.model, {}, [&](MediumConfig& config) -> Result<void> {
                     RETURN_IF_ERROR(apply_learning(learning, "base", config));
                     config.data_dir.clear();  // a temporary folder
                     config.sona_config.learn_at_low_priority = false;
                     if (change) change(config);
                     return {};
                   }));
  LearningModel model{std::move(served)};
  ASSIGN_OR_RETURN(model.sona, start_sona(model.served.model, !common.model.no_progress));
  return SonaTrial(std::move(model));
}

Result<std::vector<Window>> SonaTrial::windows(std::string_view text, size_t begin, size_t n) const {
  ASSIGN_OR_RETURN(const auto tokens,
                   learning_.served.model.tokenize(text.substr(character_start(text, begin))));
  std::vector<Window> out;
  for (size_t at = 0; at + kWindowTokens <= tokens.size() && out.size() < n; at += kWindowTokens) {
    out.emplace_back(tokens.begin() + static_cast<ptrdiff_t>(at),
                     tokens.begin() + static_cast<ptrdiff_t>(at + kWindowTokens));
  }
  if (out.empty())
    return fail("eval.text", "text: expected at least {} tokens to measure on, found {}", kWindowTokens,
                tokens.size());
  return out;
}

Result<std::vector<double>> SonaTrial::nll(std::span<const Window> windows,
                                           const std::optional<Scope>& scope) {
  std::vector<double> out;
  for (const Window& window : windows) {
    ASSIGN_OR_RETURN(const Logits logits, model().forward(window, {}, scope));
    double sum = 0;
    for (size_t t = 0; t + 1 < window.size(); ++t) {
      const auto row = logits.row(t);
      const double top = static_cast<double>(*std::max_element(row.begin(), row.end()));
      double total = 0;
      for (const float z : row) total += std::exp(static_cast<double>(z) - top);
      sum += top + std::log(total) - static_cast<double>(row[static_cast<size_t>(window[t + 1])]);
    }
    out.push_back(sum / static_cast<double>(window.size() - 1));
  }
  return out;
}

Result<std::string> SonaTrial::bits(std::span<const Window> windows, const std::optional<Scope>& scope) {
  Sha256 hash;
  for (const Window& window : windows) {
    ASSIGN_OR_RETURN(const Logits logits, model().forward(window, {}, scope));
    hash.update(
        {reinterpret_cast<const uint8_t*>(logits.values.data()), logits.values.size() * sizeof(float)});
  }
  return to_hex(hash.finish());
}

Result<std::string> cut(const MediumModel& model, std::string_view text, size_t begin, size_t n_tokens) {
  const size_t first = character_start(text, begin);
  ASSIGN_OR_RETURN(auto tokens, model.tokenize(text.substr(first)));
  if (tokens.size() < n_tokens)
    return fail("eval.text", "text: expected {} tokens from byte {} on, found {}", n_tokens, first,
                tokens.size());
  tokens.resize(n_tokens);
  return model.detokenize(tokens);
}

Result<void> teach_passages(SonaTrial& trial, std::string_view text, size_t begin, size_t n,
                            const Scope& scope) {
  const size_t first = character_start(text, begin);
  // A token is hardly ever more than eight bytes.
  ASSIGN_OR_RETURN(const auto tokens, trial.model().tokenize(text.substr(first, n * kPassageTokens * 8)));
  if (tokens.size() < n * kPassageTokens)
    return fail("eval.text", "text: expected {} tokens from byte {} on, found {}", n * kPassageTokens, first,
                tokens.size());
  for (size_t i = 0; i < n; ++i) {
    ASSIGN_OR_RETURN(const std::string passage,
                     trial.model().detokenize(std::span(tokens).subspan(i * kPassageTokens, kPassageTokens)));
    RETURN_IF_ERROR(trial.sona().teach(passage, scope));
  }
  return {};
}

MeanInterval t_interval(std::span<const double> values) {
  MeanInterval out;
  out.mean = out.low = out.high = mean_of(values);
  const auto n = static_cast<double>(values.size());
  if (values.size() < 2) return out;
  double squares = 0;
  for (const double value : values) squares += (value - out.mean) * (value - out.mean);
  const double half = t_quantile_975(values.size() - 1) * std::sqrt(squares / (n - 1) / n);
  out.low = out.mean - half;
  out.high = out.mean + half;
  return out;
}

void Gates::add(std::string name, bool passed, std::string found) {
  if (!quiet_) print("{:<4} {:<58} {}\n", passed ? "ok" : "FAIL", name, found);
  gates_.push_back({std::move(name), std::move(found), passed});
}

bool Gates::passed() const {
  return std::all_of(gates_.begin(), gates_.end(), [](const Gate& gate) { return gate.passed; });
}

int Gates::finish(std::string_view kind, const std::string& command, const std::string& model, uint64_t seed,
                  Json raw) const {
  if (quiet_) {
    Json out;
    out["kind"] = kind;
    out["commit"] = build_commit();
    out["command"] = command;
    out["model"] = model;
    out["seed"] = seed;
    out["raw"] = std::move(raw);
    out["gates"] = Json::array();
    for (const Gate& gate : gates_)
      out["gates"].push_back({{"name", gate.name}, {"passed", gate.passed}, {"found", gate.found}});
    out["passed"] = passed();
    print("{}\n", to_json(out));
  }
  return passed() ? kExitOk : kExitFailure;
}

}  // namespace ruvltra

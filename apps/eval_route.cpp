// `eval route`: the router on labelled tasks. Half of them is replayed as feedback, the other half measures.
#include <array>
#include <chrono>
#include <mutex>
#include <unordered_set>

#include "api/sona_parts.h"
#include "base/fail.h"
#include "base/json.h"
#include "base/num.h"
#include "console.h"
#include "experiments.h"
#include "learning.h"
#include "route_trial.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr double kMaxP = 0.05, kMaxEce = 0.10, kMaxRegretRatio = 1.7, kMinRecovery = 0.9;
constexpr size_t kTrainEvery = 25;  // feedbacks between two runs of the background's training

struct Settings {
  std::string tasks = "tests/data/routing";
  bool words_only = false;
  bool reduced = false;
};

// The model's embeddings as the router takes them.
class SonaEmbedder final : public TextEmbedder {
 public:
  explicit SonaEmbedder(Sona& sona) : sona_(sona), space_(sona.status().space) {}
  uint64_t space() const override { return space_; }
  Result<Embedding> embed(std::string_view text, std::string_view tenant) override {
    ASSIGN_OR_RETURN(auto values, sona_.embed(text, {std::string(tenant), {}}));
    const std::lock_guard lock(mutex_);
    seen_.emplace(text);
    return Embedding{space_, std::move(values)};
  }
  bool cached(std::string_view text, std::string_view tenant, Embedding* embedding) const override {
    {
      const std::lock_guard lock(mutex_);
      if (seen_.count(std::string(text)) == 0) return false;
    }
    auto values = sona_.embed(text, {std::string(tenant), {}});
    if (!values) return false;
    *embedding = {space_, std::move(*values)};
    return true;
  }

 private:
  Sona& sona_;
  const uint64_t space_;
  mutable std::mutex mutex_;
  std::unordered_set<std::string> seen_;
};

// A router with a store of its own and a clock that goes on a minute per decision.
struct Bench {
  TemporaryFolder folder;
  std::unique_ptr<Store> store;
  std::unique_ptr<Router> router;
  std::shared_ptr<int64_t> clock = std::make_shared<int64_t>(now_us());
  size_t n_feedbacks = 0;

  static Result<Bench> make(TextEmbedder* embedder) {
    Bench bench;
    ASSIGN_OR_RETURN(bench.folder, TemporaryFolder::make());
    ASSIGN_OR_RETURN(bench.store, Store::open(bench.folder.path()));
    Router::Options routing;
    routing.now = [clock = bench.clock] { return *clock; };
    ASSIGN_OR_RETURN(bench.router, Router::open(*bench.store, embedder, routing));
    return bench;
  }
  // Decides, says which agent was right (or, with `bandit`, only whether the chosen one was), and now and
  // then lets the head learn. Whether the decision was right.
  Result<bool> step(const RouteTask& task, const std::string& right, bool bandit = false) {
    *clock += 60'000'000;
    ASSIGN_OR_RETURN(const RoutingDecision decision, router->route(task.text));
    RouteOutcome outcome;
    outcome.agent = bandit ? "" : right;
    outcome.success = !bandit || decision.primary.id == right;
    RETURN_IF_ERROR(router->feedback(decision.id, outcome));
    if (++n_feedbacks % kTrainEvery == 0) RETURN_IF_ERROR(router->train_head());
    return decision.primary.id == right;
  }
};

struct Trial {
  const Settings& settings;
  uint64_t seed;
  TextEmbedder* embedder;
  std::vector<RouteTask> train, test;
  KeywordTable keywords;
  Json out;
  bool passed = true;
  std::vector<std::string> lines;

  void say(std::string line) { lines.push_back(std::move(line)); }
  void gate(const char* name, double value, std::string_view rule, bool holds) {
    passed = passed && holds;
    out["gates"].push_back({{"gate", name}, {"value", value}, {"rule", rule}, {"holds", holds}});
    say(fmt::format("  {} {:<44} {:.4g} ({})", holds ? "pass" : "FAIL", name, value, rule));
  }
  size_t draw(uint32_t position, size_t n, uint32_t purpose) const {
    return static_cast<size_t>(philox_uniform(seed, position, 0, purpose) * static_cast<double>(n));
  }
};

Json json_of(const RouteMeasure& m) {
  Json lanes = Json::object();
  for (size_t lane = 0; lane < kRouteLanes; ++lane) {
    const auto name = std::string(route_lane_name(static_cast<RouteLane>(lane)));
    lanes[name] = m.lane_accuracy[lane] < 0 ? Json(nullptr) : Json(m.lane_accuracy[lane]);
  }
  return {{"accuracy", m.accuracy},
          {"top3", m.in_first_three},
          {"ece", m.ece},
          {"brier", m.brier},
          {"lanes", lanes}};
}

std::string lanes_text(const RouteMeasure& m) {
  std::string text;
  for (size_t lane = 0; lane < kRouteLanes; ++lane) {
    text += fmt::format("   {} ", route_lane_name(static_cast<RouteLane>(lane)));
    text += m.lane_accuracy[lane] < 0 ? "silent" : fmt::format("{:.1f} %", 100 * m.lane_accuracy[lane]);
  }
  return text;
}

Result<RouteMeasure> learning_curve(Trial& trial, Bench& bench) {
  std::vector<bool> by_keywords;
  size_t n_right = 0;
  for (const RouteTask& task : trial.test) {
    by_keywords.push_back(trial.keywords.choose(task.text) == task.agent);
    n_right += by_keywords.back();
  }
  const double baseline = static_cast<double>(n_right) / static_cast<double>(trial.test.size());
  trial.out["keywords"] = {{"accuracy", baseline}, {"train_accuracy", trial.keywords.train_accuracy}};
  trial.say(fmt::format("keyword table     {:5.1f} %   ({:.1f} % of the tasks it was tuned on)",
                        100 * baseline, 100 * trial.keywords.train_accuracy));
  RouteMeasure last;
  const auto measure = [&](size_t n) -> Result<void> {
    ASSIGN_OR_RETURN(last, measure_routes(*bench.router, trial.test));
    size_t only_router = 0, only_keywords = 0;
    for (size_t i = 0; i < last.hits.size(); ++i) {
      only_router += last.hits[i] && !by_keywords[i];
      only_keywords += !last.hits[i] && by_keywords[i];
    }
    Json row = json_of(last);
    row["feedbacks"] = n;
    row["mcnemar_p"] = mcnemar_p(only_router, only_keywords);
    row["only_router"] = only_router;
    row["only_keywords"] = only_keywords;
    trial.out["curve"].push_back(row);
    trial.say(fmt::format("{:>4} feedbacks    {}", n, last.text()));
    trial.say("                 " + lanes_text(last));
    return {};
  };
  RETURN_IF_ERROR(measure(0));
  for (size_t i = 0; i < trial.train.size(); ++i) {
    RETURN_IF_ERROR(bench.step(trial.train[i], trial.train[i].agent));
    if (i + 1 == 50 || i + 1 == 200) RETURN_IF_ERROR(measure(i + 1));
  }
  RETURN_IF_ERROR(bench.router->train_head());
  RETURN_IF_ERROR(measure(trial.train.size()));
  const Json first_row = trial.out["curve"].front();
  const Json row = trial.out["curve"].back();
  trial.gate("better than keywords without feedback: p", first_row["mcnemar_p"], "exact McNemar < 0.05",
             first_row["accuracy"] > baseline && first_row["mcnemar_p"] < kMaxP);
  trial.gate("better than keywords after all feedback: p", row["mcnemar_p"], "exact McNemar < 0.05",
             row["accuracy"] > baseline && row["mcnemar_p"] < kMaxP);
  trial.gate("calibration error after all feedback", last.ece, "<= 0.10", last.ece <= kMaxEce);
  const double base_rate = 1 - 1 / static_cast<double>(bench.router->registry().agents().size());
  trial.gate("Brier after all feedback", last.brier, fmt::format("< {:.3f}, the base rate", base_rate),
             last.brier < base_rate);
  return last;
}

// Everybody's work now succeeds with somebody else.
Result<void> recovery(Trial& trial, Bench& bench, double former) {
  const AgentRegistry registry = bench.router->registry();
  AgentPermutation moved;
  const auto& agents = registry.agents();
  const size_t shift = 1 + trial.draw(0, agents.size() - 1, 91);
  for (size_t a = 0; a < agents.size(); ++a) moved[agents[a].id] = agents[(a + shift) % agents.size()].id;
  ASSIGN_OR_RETURN(const RouteMeasure before, measure_routes(*bench.router, trial.test, moved));
  constexpr size_t n = 200;
  trial.say(fmt::format("who succeeds is permuted: {:.1f} %", 100 * before.accuracy));
  RouteMeasure after;
  for (size_t i = 0; i < n; ++i) {
    const RouteTask& task = trial.train[i % trial.train.size()];
    RETURN_IF_ERROR(bench.step(task, moved[task.agent]));
    if ((i + 1) % 50 != 0) continue;
    ASSIGN_OR_RETURN(after, measure_routes(*bench.router, trial.test, moved));
    trial.say(fmt::format("{:>4} feedbacks    {}", i + 1, after.text()));
    Json row = json_of(after);
    row["feedbacks"] = i + 1;
    trial.out["recovery"].push_back(row);
  }
  const double share = after.accuracy / former;
  trial.gate("share of the accuracy that came back", share,
             fmt::format(">= {} after {} feedbacks", kMinRecovery, n), share >= kMinRecovery);
  return {};
}

// Mistakes while learning from nothing but the registry, tasks drawn with repetition.
Result<void> regret(Trial& trial, bool bandit) {
  ASSIGN_OR_RETURN(Bench bench, Bench::make(trial.embedder));
  constexpr size_t kHalf = 500;
  std::array<size_t, 2> wrong = {};
  for (size_t i = 0; i < 2 * kHalf; ++i) {
    const RouteTask& task = trial.train[trial.draw(static_cast<uint32_t>(i), trial.train.size(), 92)];
    ASSIGN_OR_RETURN(const bool right, bench.step(task, task.agent, bandit));
    wrong[i / kHalf] += !right;
  }
  const double ratio =
      static_cast<double>(wrong[0] + wrong[1]) / static_cast<double>(std::max<size_t>(wrong[0], 1));
  const char* kind = bandit ? "told only whether it was right" : "told who is right";
  trial.out["regret"].push_back(
      {{"feedback", kind}, {"T", kHalf}, {"first", wrong[0]}, {"second", wrong[1]}, {"ratio", ratio}});
  trial.say(fmt::format("mistakes, {}: {} in the first {} tasks, {} in the next {}", kind, wrong[0], kHalf,
                        wrong[1], kHalf));
  if (!bandit) trial.gate("regret(2T) / regret(T)", ratio, "<= 1.7", ratio <= kMaxRegretRatio);
  return {};
}

Result<void> one_failure(Trial& trial) {
  ASSIGN_OR_RETURN(Bench bench, Bench::make(trial.embedder));
  size_t n_lower = 0, n = 0;
  double fall = 0;
  for (const RouteTask& task : trial.train) {
    if (n == (trial.settings.reduced ? 10u : 50u)) break;
    ASSIGN_OR_RETURN(const RoutingDecision decision, bench.router->route(task.text));
    RouteOutcome failed;
    failed.success = false;
    RETURN_IF_ERROR(bench.router->feedback(decision.id, failed));
    ASSIGN_OR_RETURN(const RouteExplanation after, bench.router->explain(task.text));
    double p = 0;
    for (size_t a = 0; a < after.agents.size(); ++a) {
      if (after.agents[a] == decision.primary.id) p = after.p[a];
    }
    ++n;
    n_lower += p < decision.primary.confidence;
    fall += (decision.primary.confidence - p) / decision.primary.confidence;
  }
  trial.out["one_failure"] = {{"tasks", n}, {"lower", n_lower}, {"mean_fall", fall / static_cast<double>(n)}};
  trial.gate("one failure lowers the agent's score", static_cast<double>(n_lower) / static_cast<double>(n),
             fmt::format("all of {} tasks", n), n_lower == n);
  return {};
}

Result<void> latency(Trial& trial, Bench& bench) {
  const size_t n = trial.settings.reduced ? 50 : 500;
  const auto run = [&](const char* name, bool fast, const std::string& tail) -> Result<void> {
    std::vector<double> ms;
    for (size_t i = 0; i < n; ++i) {
      RouteOptions options;
      options.prefer_speed = fast;
      const std::string text =
          trial.train[i % trial.train.size()].text + tail + (tail.empty() ? "" : std::to_string(i));
      const auto start = std::chrono::steady_clock::now();
      RETURN_IF_ERROR(bench.router->route(text, options));
      ms.push_back(
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    trial.out["latency_ms"][name] = {{"p50", percentile(ms, 0.5)}, {"p99", percentile(ms, 0.99)}, {"n", n}};
    trial.say(fmt::format("latency {:<22} p50 {:.2f} ms, p99 {:.2f} ms", name, percentile(ms, 0.5),
                          percentile(ms, 0.99)));
    return {};
  };
  RETURN_IF_ERROR(run("words", true, " /"));
  if (trial.embedder == nullptr) return {};
  RETURN_IF_ERROR(run("cached embedding", false, ""));
  return run("new embedding", false, " /");
}

// Are two wordings of one request nearer than two requests?
Result<void> paraphrases(Trial& trial) {
  if (trial.embedder == nullptr) {
    trial.out["paraphrase_auc"] = nullptr;
    trial.say("paraphrase AUC of the embeddings: not measured (words only)");
    return {};
  }
  std::vector<std::vector<float>> vectors;
  for (const RouteTask& task : trial.train) {
    ASSIGN_OR_RETURN(Embedding e, trial.embedder->embed(task.text, Scope().tenant));
    vectors.push_back(std::move(e.values));
  }
  std::vector<double> same, other;
  for (size_t i = 0; i < vectors.size(); ++i) {
    for (size_t j = i + 1; j < vectors.size(); ++j) {
      double cosine = 0;
      for (size_t k = 0; k < vectors[i].size(); ++k) cosine += double{vectors[i][k]} * vectors[j][k];
      (trial.train[i].group == trial.train[j].group ? same : other).push_back(cosine);
    }
  }
  const double area = roc_area(std::move(same), std::move(other));
  trial.out["paraphrase_auc"] = area;
  trial.say(fmt::format(
      "paraphrase AUC of the embeddings: {:.3f} (0.5 is chance; 0.9 is asked of real weights)", area));
  return {};
}

Result<void> run_trial(Trial& trial) {
  ASSIGN_OR_RETURN(Bench bench, Bench::make(trial.embedder));
  ASSIGN_OR_RETURN(const RouteMeasure last, learning_curve(trial, bench));
  RETURN_IF_ERROR(latency(trial, bench));
  RETURN_IF_ERROR(recovery(trial, bench, last.accuracy));
  RETURN_IF_ERROR(regret(trial, false));
  if (!trial.settings.reduced) RETURN_IF_ERROR(regret(trial, true));
  RETURN_IF_ERROR(one_failure(trial));
  RETURN_IF_ERROR(paraphrases(trial));
  trial.out["complexity_spearman"] = nullptr;
  trial.say(
      "Spearman(complexity, tokens): not measured (no task of the set has a measured number of tokens)");
  return {};
}

Result<int> eval_route(const Settings& settings, const ExperimentOptions& options) {
  const std::filesystem::path folder = settings.tasks;
  ASSIGN_OR_RETURN(auto train, read_route_tasks(folder / "train.jsonl"));
  ASSIGN_OR_RETURN(auto test, read_route_tasks(folder / "test.jsonl"));
  ASSIGN_OR_RETURN(auto keywords, read_keyword_table(folder / "keywords.json"));
  std::optional<LearningModel> model;
  std::unique_ptr<SonaEmbedder> embedder;
  TemporaryFolder data;
  if (!settings.words_only) {
    ASSIGN_OR_RETURN(data, TemporaryFolder::make());
    ASSIGN_OR_RETURN(model, load_learning(options.model, {.data_dir = data.path().string()}, "base"));
    embedder = std::make_unique<SonaEmbedder>(*model->sona);
  }
  Trial trial{settings,
              options.seed,
              embedder.get(),
              std::move(train),
              std::move(test),
              std::move(keywords),
              {},
              true,
              {}};
  for (size_t i = trial.train.size(); i > 1; --i) {
    std::swap(trial.train[i - 1], trial.train[trial.draw(static_cast<uint32_t>(i), i, 90)]);
  }
  trial.out = {{"kind", "route"},
               {"commit", build_commit()},
               {"seed", options.seed},
               {"model", model ? Json(model->served.label) : Json(nullptr)},
               {"reduced", settings.reduced},
               {"tasks", {{"train", trial.train.size()}, {"test", trial.test.size()}}}};
  RETURN_IF_ERROR(run_trial(trial));
  trial.out["passed"] = trial.passed;
  if (options.json) {
    print("{}\n", to_json(trial.out));
  } else {
    print("{} tasks as feedback, {} to measure, seed {}, {}{}\n", trial.train.size(), trial.test.size(),
          options.seed, model ? "embeddings of " + model->served.label : std::string("words only"),
          settings.reduced ? ", reduced" : "");
    for (const std::string& line : trial.lines) print("{}\n", line);
    print("{}\n", trial.passed ? "passed" : "FAILED");
  }
  return trial.passed ? kExitOk : kExitFailure;
}

}  // namespace

Experiment route_experiment() {
  const auto settings = std::make_shared<Settings>();
  return {.name = "route",
          .add_options =
              [settings](CLI::App& app) {
                app.add_option("--tasks", settings->tasks,
                               "route: folder with train.jsonl, test.jsonl and keywords.json")
                    ->type_name("DIR")
                    ->configurable(false);
                app.add_flag("--words-only", settings->words_only, "route: no model, no embeddings")
                    ->configurable(false);
                app.add_flag("--reduced", settings->reduced, "route: fewer repetitions, for a quick look")
                    ->configurable(false);
                return std::vector<std::string>{"--tasks", "--words-only", "--reduced"};
              },
          .run = [settings](const ExperimentOptions& options) { return eval_route(*settings, options); }};
}

}  // namespace ruvltra

#include "bench_spec.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <thread>

#include "base/fail.h"
#include "base/json.h"
#include "base/num.h"
#include "bench_spec_tasks.h"
#include "console.h"
#include "engine/engine_loop.h"
#include "load.h"
#include "statistics.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxPrompt = 1024;
constexpr uint32_t kNoisePurpose = 7;

struct Task {
  std::string name;
  std::vector<std::vector<TokenId>> prompts;
  std::vector<TokenId> record;  // the known answer to be replayed; empty: the model writes its own
};

struct Setting {
  DraftSource source = DraftSource::kAuto;
  int lookahead = 0;  // 0 = adaptive
  double cut_off = 0;
};

// One answer, with or without speculation.
struct Run {
  std::vector<TokenId> tokens;
  double seconds = 0;  // from the first token to the last
};

struct Row {
  const Task* task = nullptr;
  double temperature = 0;
  Setting setting;
  std::vector<double> plain_rates, rates, speedups;
  size_t n_tokens = 0, n_steps = 0;  // drawn and computed with speculation
  bool same = true;
  SpeculationStats stats;
};

double ratio(double a, double b) { return b > 0 ? a / b : 0; }

SpeculationStats difference(const SpeculationStats& after, const SpeculationStats& before) {
  SpeculationStats out = after;  // with the costs measured last
  out.n_drafts -= before.n_drafts;
  out.n_drafted -= before.n_drafted;
  out.n_judged -= before.n_judged;
  out.n_accepted -= before.n_accepted;
  out.n_by_lookup -= before.n_by_lookup;
  out.n_accepted_by_lookup -= before.n_accepted_by_lookup;
  out.n_unused -= before.n_unused;
  out.draft_seconds -= before.draft_seconds;
  for (size_t i = 0; i < out.n_drafted_at.size(); ++i) {
    out.n_drafted_at[i] -= before.n_drafted_at[i];
    out.n_accepted_at[i] -= before.n_accepted_at[i];
  }
  return out;
}

void add(SpeculationStats& sum, const SpeculationStats& one) {
  SpeculationStats out = one;
  out.n_drafts += sum.n_drafts;
  out.n_drafted += sum.n_drafted;
  out.n_judged += sum.n_judged;
  out.n_accepted += sum.n_accepted;
  out.n_by_lookup += sum.n_by_lookup;
  out.n_accepted_by_lookup += sum.n_accepted_by_lookup;
  out.n_unused += sum.n_unused;
  out.draft_seconds += sum.draft_seconds;
  for (size_t i = 0; i < out.n_drafted_at.size(); ++i) {
    out.n_drafted_at[i] += sum.n_drafted_at[i];
    out.n_accepted_at[i] += sum.n_accepted_at[i];
  }
  sum = out;
}

// a: how often a proposal is right if all before it were.
double acceptance(const SpeculationStats& stats) {
  return ratio(static_cast<double>(stats.n_accepted), static_cast<double>(stats.n_judged));
}

// What the steps as they were drafted would gain at the measured costs, if nothing else took time: tokens
// over sum of V(1 + g) and c per draft step, in steps of one row.
double gain_at_cost(const Row& row) {
  const SpeculationStats& stats = row.stats;
  double units = static_cast<double>(row.n_steps - stats.n_drafts) * stats.verify_cost[0];
  for (size_t g = 1; g <= stats.n_drafted_at.size(); ++g) {
    const uint64_t longer = g < stats.n_drafted_at.size() ? stats.n_drafted_at[g] : 0;
    units += static_cast<double>(stats.n_drafted_at[g - 1] - longer) * stats.verify_cost[g];
  }
  const uint64_t n_draft_steps = stats.n_drafted - stats.n_by_lookup + stats.n_unused;
  units += static_cast<double>(n_draft_steps) * stats.draft_cost;
  return ratio(static_cast<double>(row.n_tokens), units);
}

// The best of (1 - a^(g+1)) / (1 - a) / (g c + V(g + 1)) over lengths g (docs/engine.md): what a fixed length
// can reach with this acceptance and these costs.
double best_by_formula(const SpeculationStats& stats, double cost_of_draft) {
  const double a = acceptance(stats);
  double best = 1, tokens = 1, power = 1;
  for (size_t g = 1; g < stats.verify_cost.size(); ++g) {
    tokens += power *= a;
    best = std::max(best, tokens / (static_cast<double>(g) * cost_of_draft + stats.verify_cost[g]));
  }
  return best;
}

std::string_view source_name(DraftSource source) {
  return source == DraftSource::kLookup ? "ngram" : source == DraftSource::kModel ? "draft" : "auto";
}

DraftSource source_of(std::string_view name) {
  return name == "ngram" ? DraftSource::kLookup : name == "draft" ? DraftSource::kModel : DraftSource::kAuto;
}

Result<Task> make_task(const std::string& name, const Tokenizer& tokenizer, size_t n_vocab, int n_tokens) {
  Task task{.name = name, .prompts = {}, .record = {}};
  if (name == "edit") {
    const std::string prompt = std::string(kEditRequest) + std::string(kLetter) + "\n";
    ASSIGN_OR_RETURN(auto ids, tokenizer.encode(prompt, Recognise::kNone));
    task.prompts.push_back(std::move(ids));
    ASSIGN_OR_RETURN(task.record, tokenizer.encode(kEditedLetter, Recognise::kNone));
  } else if (name == "noise") {
    const auto most = static_cast<double>(std::min(n_vocab, tokenizer.n_vocab()));
    auto& prompt = task.prompts.emplace_back();
    for (uint32_t i = 0; prompt.size() < 64; ++i) {
      const auto id = static_cast<TokenId>(philox_uniform(1, i, 0, kNoisePurpose) * most);
      if (tokenizer.kind(id) == TokenKind::kNormal) prompt.push_back(id);
    }
    for (uint32_t i = 0; task.record.size() < static_cast<size_t>(n_tokens); ++i) {
      const auto id = static_cast<TokenId>(philox_uniform(2, i, 0, kNoisePurpose) * most);
      if (tokenizer.kind(id) == TokenKind::kNormal) task.record.push_back(id);
    }
  } else {
    for (const std::string_view opening : kOpenings) {
      ASSIGN_OR_RETURN(auto ids, tokenizer.encode(opening, Recognise::kNone));
      task.prompts.push_back(std::move(ids));
    }
  }
  return task;
}

class SpecBench {
 public:
  SpecBench(const SpecBenchOptions& options, const LoadedModel& model, const LoadedWeights* draft)
      : options_(options), model_(model), draft_(draft) {}

  // Plain and speculating answers in turn, prompt after prompt.
  Result<Row> measure(const Task& task, double temperature, const Setting& setting) {
    EngineLoop::Options engine;
    engine.steps.max_parts = 1;
    engine.steps.max_rows = kPrefillRows;
    engine.steps.max_positions = std::min(model_.n_context, kMaxPrompt + longest());
    engine.steps.n_pages = KvPool::pages_for(engine.steps.max_positions) + 1;
    engine.steps.kv_type = model_.kv_type;
    engine.speculation = speculation(setting);
    if (draft_ != nullptr && setting.source != DraftSource::kLookup) engine.draft = &draft_->weights;
    ASSIGN_OR_RETURN(auto loop, EngineLoop::start(model_.ctx, model_.weights, model_.tokenizer, engine));

    Row row;
    row.task = &task;
    row.temperature = temperature;
    row.setting = setting;
    const size_t n_runs =
        static_cast<size_t>(options_.repetitions) * std::max<size_t>(1, 4 / task.prompts.size());
    for (size_t run = 0; run <= n_runs; ++run) {
      for (const auto& prompt : task.prompts) {
        const uint64_t seed = run + 1;
        ASSIGN_OR_RETURN(const Run plain, answer(*loop, task, prompt, temperature, seed, false));
        const EngineStats before = settled_stats(*loop);
        ASSIGN_OR_RETURN(const Run with, answer(*loop, task, prompt, temperature, seed, true));
        const EngineStats after = settled_stats(*loop);
        if (run == 0) continue;  // warms up, and the rule learns what steps cost
        add(row.stats, difference(after.speculation, before.speculation));
        const auto n_after_first = static_cast<double>(with.tokens.size()) - 1;
        if (n_after_first < 1) continue;
        row.plain_rates.push_back(ratio(n_after_first, plain.seconds));
        row.rates.push_back(ratio(n_after_first, with.seconds));
        row.speedups.push_back(ratio(plain.seconds, with.seconds));
        row.n_tokens += with.tokens.size() - 1;
        row.n_steps += after.n_steps - before.n_steps - 1;
        row.same &= plain.tokens == with.tokens;
      }
    }
    return row;
  }

 private:
  size_t longest() const { return static_cast<size_t>(options_.n_tokens) + 512; }

  SpeculativeConfig speculation(const Setting& setting) const {
    SpeculativeConfig config;
    config.source = setting.source;
    config.adaptive = setting.lookahead == 0;
    if (!config.adaptive) config.lookahead = setting.lookahead;
    config.acceptance_threshold = static_cast<float>(setting.cut_off);
    return config;
  }

  Result<Run> answer(EngineLoop& loop, const Task& task, const std::vector<TokenId>& prompt,
                     double temperature, uint64_t seed, bool speculates) const {
    GenerateParams params;
    params.temperature = static_cast<float>(temperature);
    params.seed = seed;
    params.max_tokens = options_.n_tokens;
    Treatment treatment;
    treatment.speculate = speculates;
    EngineLoop::Ticket ticket;
    if (task.record.empty()) {
      ASSIGN_OR_RETURN(ticket, loop.submit(prompt, params, treatment));
    } else {
      params.max_tokens = static_cast<int>(task.record.size());
      ASSIGN_OR_RETURN(ticket, loop.replay(prompt, task.record, params, treatment));
    }
    Run run;
    StreamItem item;
    while (ticket.stream->take(item)) {
      if (stop_requested()) return fail(ErrorKind::kCancelled, "bench.cancelled", "bench: interrupted");
      if (!item.outcome) run.tokens.push_back(item.token.token);
      if (item.outcome) run.seconds = item.outcome->timings.generate_seconds;
      if (item.outcome && item.outcome->error) return tl::unexpected<Error>(*item.outcome->error);
    }
    return run;
  }

  // Those of the last step come a moment after its tokens.
  static EngineStats settled_stats(const EngineLoop& loop) {
    EngineStats stats = loop.stats();
    while (stats.n_running > 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      stats = loop.stats();
    }
    return stats;
  }

  const SpecBenchOptions& options_;
  const LoadedModel& model_;
  const LoadedWeights* draft_;
};

struct Figures {
  double speedup = 0, plain = 0, with = 0, a = 0, per_step = 0, unit_ms = 0, c = 0, at_cost = 0, formula = 0;
};

Figures figures_of(const Row& row) {
  Figures out;
  out.speedup = median(row.speedups);
  out.plain = median(row.plain_rates);
  out.with = median(row.rates);
  out.a = acceptance(row.stats);
  out.per_step = ratio(static_cast<double>(row.n_tokens), static_cast<double>(row.n_steps));
  out.unit_ms = 1e3 * row.stats.unit_seconds;
  out.c = row.setting.source == DraftSource::kLookup ? 0 : row.stats.draft_cost;
  out.at_cost = gain_at_cost(row);
  out.formula = best_by_formula(row.stats, row.stats.n_by_lookup == row.stats.n_drafted ? 0 : out.c);
  return out;
}

Json document(const Row& row) {
  const Figures f = figures_of(row);
  const SpeculationStats& s = row.stats;
  Json out;
  out["task"] = row.task->name;
  out["replayed"] = !row.task->record.empty();
  out["temperature"] = row.temperature;
  out["source"] = source_name(row.setting.source);
  out["lookahead"] = row.setting.lookahead == 0 ? Json("adaptive") : Json(row.setting.lookahead);
  out["cut_off"] = row.setting.cut_off;
  out["same_tokens"] = row.same;
  out["plain_ts"] = f.plain;
  out["speculative_ts"] = f.with;
  out["speedup"] = f.speedup;
  out["speedup_samples"] = row.speedups;
  out["acceptance"] = f.a;
  out["tokens_per_step"] = f.per_step;
  out["plain_step_ms"] = f.unit_ms;
  out["draft_cost"] = f.c;
  out["verify_cost"] = s.verify_cost;
  out["gain_at_cost"] = f.at_cost;
  out["best_by_formula"] = f.formula;
  out["n_tokens"] = row.n_tokens;
  out["n_steps"] = row.n_steps;
  out["n_drafts"] = s.n_drafts;
  out["n_drafted"] = s.n_drafted;
  out["n_accepted"] = s.n_accepted;
  out["n_by_lookup"] = s.n_by_lookup;
  out["n_unused"] = s.n_unused;
  out["drafted_at"] = s.n_drafted_at;
  out["accepted_at"] = s.n_accepted_at;
  out["draft_seconds"] = s.draft_seconds;
  return out;
}

class SpecReport {
 public:
  explicit SpecReport(std::string form) : form_(std::move(form)) {}

  void begin() {
    if (form_ == "md") {
      print(
          "| task | T | source | lookahead | plain t/s | t/s | speed-up | a | tokens/step | c | V(2) | V(5) "
          "| V(9) | "
          "at cost | formula |\n");
      print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    } else if (form_ == "csv") {
      print(
          "task,temperature,source,lookahead,cut_off,same_tokens,plain_ts,speculative_ts,speedup,acceptance,"
          "tokens_per_step,draft_cost,verify_2,verify_5,verify_9,gain_at_cost,best_by_formula\n");
    }
  }

  void add(const Row& row) {
    const Figures f = figures_of(row);
    const auto& v = row.stats.verify_cost;
    const std::string length =
        row.setting.lookahead == 0 ? "adaptive" : fmt::format("{}", row.setting.lookahead);
    if (form_ == "md") {
      print(
          "| {} | {} | {}{} | {} | {:.2f} | {:.2f} | **{:.2f}** | {:.2f} | {:.2f} | {:.3f} | {:.2f} | {:.2f} "
          "| {:.2f} | "
          "{:.2f} | {:.2f} |\n",
          row.task->name, row.temperature, source_name(row.setting.source),
          row.setting.cut_off > 0 ? fmt::format(" p>={}", row.setting.cut_off) : "", length, f.plain, f.with,
          f.speedup, f.a, f.per_step, f.c, v[1], v[4], v[8], f.at_cost, f.formula);
      if (!row.same) print_warning("the answers differ: speculation changed the output");
    } else if (form_ == "csv") {
      print(
          "{},{},{},{},{},{},{:.3f},{:.3f},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f}\n",
          row.task->name, row.temperature, source_name(row.setting.source), length, row.setting.cut_off,
          row.same, f.plain, f.with, f.speedup, f.a, f.per_step, f.c, v[1], v[4], v[8], f.at_cost, f.formula);
    } else if (form_ == "jsonl") {
      print("{}\n", to_json(document(row)));
    } else {
      list_.push_back(document(row));
    }
  }

  void end() {
    if (form_ == "json") print("{}\n", to_json(list_));
    if (form_ != "md") return;
    print(
        "\nspeed-up: median over pairs of answers, plain and speculating in turn, first token to last. a: "
        "proposals "
        "confirmed, of those compared.\n"
        "c: a step of the draft model, V(n): a step of n rows, both measured, in plain steps. at cost: the "
        "gain that "
        "these costs allow for the drafts as made.\n"
        "formula: max over g of (1 - a^(g+1)) / (1 - a) / (g c + V(g+1)). edit and noise replay a known "
        "answer.\n");
  }

 private:
  const std::string form_;
  Json list_ = Json::array();
};

std::vector<Setting> settings_of(const SpecBenchOptions& options) {
  std::vector<Setting> settings;
  for (const std::string& name : options.sources) {
    const DraftSource source = source_of(name);
    for (const int lookahead : options.lookaheads) {
      const bool cuts = source == DraftSource::kModel || (source == DraftSource::kAuto && lookahead > 0);
      for (const double cut_off : cuts ? options.cut_offs : std::vector<double>{0})
        settings.push_back({source, lookahead, cut_off});
    }
  }
  return settings;
}

}  // namespace

Result<int> bench_speculation(SpecBenchOptions options) {
  const bool wants_draft =
      std::find(options.sources.begin(), options.sources.end(), "draft") != options.sources.end();
  if (wants_draft && options.draft.empty())
    return fail(ErrorKind::kUsage, "bench.spec_draft",
                "--spec-source draft: expected --draft FILE beside it");
  ASSIGN_OR_RETURN(const auto model, load_model(options.model));
  std::unique_ptr<LoadedModel> draft;
  if (!options.draft.empty()) {
    ModelOptions other = options.model;
    other.model = options.draft;
    ASSIGN_OR_RETURN(draft, load_model(other, ModelRole::kDraft));
    RETURN_IF_ERROR(check_draft(model->tokenizer, draft->tokenizer, options.draft));
  }
  if (has_random_weights(model->file.metadata())) {
    print_warning(model->label() +
                  ": random weights; acceptance means nothing, only edit and noise are of use");
  }
  std::vector<Task> tasks;
  for (const std::string& name : options.tasks) {
    ASSIGN_OR_RETURN(Task task,
                     make_task(name, model->tokenizer, model->weights.shape.n_vocab, options.n_tokens));
    tasks.push_back(std::move(task));
  }
  SpecBench bench(options, *model, draft.get());
  SpecReport report(options.form);
  report.begin();
  for (const Task& task : tasks) {
    // A known answer is the same at every temperature.
    const std::vector<double> temperatures =
        task.record.empty() ? options.temperatures : std::vector<double>{options.temperatures.front()};
    for (const double temperature : temperatures) {
      for (const Setting& setting : settings_of(options)) {
        ASSIGN_OR_RETURN(const Row row, bench.measure(task, temperature, setting));
        report.add(row);
      }
    }
  }
  report.end();
  return kExitOk;
}

}  // namespace ruvltra

#include "bench_sim.h"

#include <algorithm>
#include <functional>

#include "base/fail.h"
#include "base/json.h"
#include "bench_report.h"
#include "console.h"
#include "load.h"
#include "verbs.h"

namespace ruvltra {
namespace {

constexpr int kOpenLoopParallel = 8;
constexpr size_t kMaxQueue = 65536;

int largest(const std::vector<int>& values) { return *std::max_element(values.begin(), values.end()); }

// ---- What was asked for.

Result<void> check(const SimOptions& options) {
  const auto refuse = [](std::string_view what, std::string_view expected) {
    return fail(ErrorKind::kUsage, "sim.options", "{}: expected {}", what, expected);
  };
  for (const auto& [name, range] :
       {std::pair{"--prompt-tokens", options.prompt_tokens}, {"--output-tokens", options.output_tokens}}) {
    if (range.size() > 2 || range.front() > range.back()) return refuse(name, "N or MIN,MAX");
  }
  if (options.long_prompt > 0 && options.n_samples > 1)
    return refuse("--long-prompt", "one answer per prompt, found --samples");
  if (options.long_prompt > 0 && !options.rates.empty())
    return refuse("--long-prompt", "clients that generate, found --rate");
  return {};
}

size_t n_requests(const SimOptions& options) {
  if (options.n_requests > 0) return static_cast<size_t>(options.n_requests);
  return 2 * static_cast<size_t>(options.rates.empty() ? largest(options.clients) : kOpenLoopParallel);
}

// Places for all that run at once.
int parallel(const SimOptions& options) {
  if (options.parallel > 0) return options.parallel;
  if (!options.rates.empty()) return std::max(kOpenLoopParallel, options.n_samples);
  return largest(options.clients) * options.n_samples + (options.long_prompt > 0 ? 1 : 0);
}

Result<MediumConfig> engine_config(const SimOptions& options, const ModelOptions& model) {
  ASSIGN_OR_RETURN(MediumConfig config, config_of(model));
  const size_t n_longest = longest_request(options);
  config.context_length = model.ctx > 0 ? model.ctx : static_cast<int>(n_longest);
  if (static_cast<size_t>(config.context_length) < n_longest) {
    return fail(ErrorKind::kUsage, "sim.context", "--ctx: expected at least {} for this workload, found {}",
                n_longest, model.ctx);
  }
  if (!options.kv_memory.empty()) {
    ASSIGN_OR_RETURN(config.engine.kv_bytes, parse_size(options.kv_memory));
  }
  config.engine.parallel = parallel(options);
  config.engine.queue = static_cast<int>(std::min(kMaxQueue, n_requests(options)));
  config.engine.prefix_cache = options.prefix_cache;
  RETURN_IF_ERROR(config.validate());
  return config;
}

Result<MediumModel> load(const SimOptions& options, const ModelOptions& model_options) {
  ASSIGN_OR_RETURN(const MediumConfig config, engine_config(options, model_options));
  ASSIGN_OR_RETURN(const auto path, resolve_model(model_options.model));
  ProgressBar bar("loading", ProgressBar::Unit::kBytes, !model_options.no_progress);
  ASSIGN_OR_RETURN(MediumModel model, MediumModel::load(path, config, load_options(model_options, bar)));
  for (const std::string& warning : model.warnings()) print_warning(warning);
  if (has_random_weights(model.name()))
    print_warning(path.filename().string() + ": random weights; speed is real, the answers mean nothing");
  return model;
}

// ---- What is printed.

Json or_null(const std::optional<double>& value, double scale) {
  return value ? Json(scale * *value) : Json(nullptr);
}

constexpr std::pair<const char*, double> kQuantiles[] = {{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}};

void put_quantiles(Json& out, const std::string& name, const Samples& samples) {
  for (const auto& [suffix, q] : kQuantiles) out[name + "_ms_" + suffix] = or_null(samples.quantile(q), 1e3);
}

std::string quantiles(const Samples& samples) {
  std::string text;
  for (const auto& [suffix, q] : kQuantiles) {
    const auto value = samples.quantile(q);
    text += fmt::format("{}{}", text.empty() ? "" : " / ", value ? fmt::format("{:.1f}", 1e3 * *value) : "-");
  }
  return text;
}

Json document(const SimRow& row, const MediumModel& model, const EngineStats& stats, double first_rate) {
  const SimPages& pages = row.pages;
  const auto out_rate = static_cast<double>(row.n_tokens_out) / row.seconds;
  Json out;
  out["model"] = std::string(model.name());
  out["isa"] = model.config().isa;
  out["n_threads"] = model.config().n_threads;
  out["clients"] = row.n_clients > 0 ? Json(row.n_clients) : Json(nullptr);
  out["rate"] = row.rate > 0 ? Json(row.rate) : Json(nullptr);
  out["requests"] = row.n_requests;
  out["answers"] = row.n_answers;
  out["tokens_in"] = row.n_tokens_in;
  out["tokens_out"] = row.n_tokens_out;
  out["seconds"] = row.seconds;
  put_quantiles(out, "ttft", row.first_token);
  put_quantiles(out, "itl", row.gaps);
  out["output_ts"] = out_rate;
  out["total_ts"] = static_cast<double>(row.n_tokens_in + row.n_tokens_out) / row.seconds;
  out["speedup"] = out_rate / first_rate;
  out["steps"] = row.n_steps;
  out["preemptions"] = row.n_preemptions;
  out["cached_tokens"] = row.n_cached;
  out["cached_requests"] = row.n_requests_cached;
  out["hit_rate"] = static_cast<double>(row.n_cached) / static_cast<double>(row.n_tokens_in);
  out["ttft_hit_ms_p50"] = or_null(row.first_token_hit.quantile(0.5), 1e3);
  out["ttft_miss_ms_p50"] = or_null(row.first_token_miss.quantile(0.5), 1e3);
  out["pages"] = stats.n_pages;
  out["page_bytes"] = stats.page_bytes;
  out["pages_peak"] = pages.held_peak;
  out["pages_mean"] = pages.held_mean();
  out["pages_shared_peak"] = pages.shared_peak;
  out["pages_unshared_peak"] = pages.listed_peak;
  out["pages_at_unshared_peak"] = pages.held_at_listed_peak;
  out["waste_per_sequence"] = pages.waste_per_sequence();
  out["preallocated_pages_peak"] = pages.preallocated_peak;
  out["preallocated_pages_mean"] = pages.preallocated_mean();
  out["saved_pct"] = 100 * pages.saved_share();
  out["rss_growth_bytes"] = pages.rss_peak - pages.rss_begin;
  out["answers_sha256"] = row.answers_sha256;
  return out;
}

Json document(const SimLongPrompt& row, const MediumModel& model) {
  Json out;
  out["model"] = std::string(model.name());
  out["isa"] = model.config().isa;
  out["n_threads"] = model.config().n_threads;
  out["clients"] = row.n_clients;
  out["long_prompt_tokens"] = row.n_tokens;
  out["long_prompt_ttft_ms"] = 1e3 * row.first_token;
  out["idle_gaps"] = row.idle.size();
  out["gaps"] = row.during.size();
  put_quantiles(out, "itl_idle", row.idle);
  put_quantiles(out, "itl", row.during);
  for (const auto& [suffix, q] : kQuantiles) {
    const auto idle = row.idle.quantile(q), during = row.during.quantile(q);
    out[fmt::format("ratio_{}", suffix)] = idle && during ? Json(*during / *idle) : Json(nullptr);
  }
  return out;
}

void print_md(const std::vector<SimRow>& rows, const SimOptions& options, const MediumModel& model,
              const EngineStats& stats) {
  const auto label = [](const SimRow& row) {
    return row.n_clients > 0 ? std::to_string(row.n_clients) : fmt::format("{:g}/s", row.rate);
  };
  const auto rate_of = [](const SimRow& row, uint64_t n) { return static_cast<double>(n) / row.seconds; };
  print(
      "| {} | requests | tokens in | out | TTFT ms p50 / p95 / p99 | ITL ms p50 / p95 / p99 | out tok/s | "
      "total tok/s | x first |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
      options.rates.empty() ? "clients" : "rate");
  const double first_rate = rate_of(rows.front(), rows.front().n_tokens_out);
  for (const SimRow& row : rows) {
    print("| {} | {} | {} | {} | {} | {} | {:.1f} | {:.1f} | {:.2f} |\n", label(row), row.n_requests,
          row.n_tokens_in, row.n_tokens_out, quantiles(row.first_token), quantiles(row.gaps),
          rate_of(row, row.n_tokens_out), rate_of(row, row.n_tokens_in + row.n_tokens_out),
          rate_of(row, row.n_tokens_out) / first_rate);
  }
  print(
      "\n| {} | pages peak | mean | shared peak | unshared peak | waste/seq | preallocated peak | mean | "
      "saved % | RSS growth | cached tokens | hit % | preemptions |\n"
      "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
      options.rates.empty() ? "clients" : "rate");
  for (const SimRow& row : rows) {
    const SimPages& pages = row.pages;
    print("| {} | {} | {:.1f} | {} | {} | {:.1f} | {} | {:.1f} | {:.1f} | {} | {} | {:.1f} | {} |\n",
          label(row), pages.held_peak, pages.held_mean(), pages.shared_peak, pages.listed_peak,
          pages.waste_per_sequence(), pages.preallocated_peak, pages.preallocated_mean(),
          100 * pages.saved_share(), format_bytes(pages.rss_peak - pages.rss_begin), row.n_cached,
          100 * static_cast<double>(row.n_cached) / static_cast<double>(row.n_tokens_in), row.n_preemptions);
  }
  print(
      "\nA page: {} positions, {}; the cache has {}. Unshared: what the same sequences would hold without "
      "sharing. Preallocated: the whole context, {} positions, for every\nsequence that runs. "
      "Waste: positions allocated and not yet used. Means are over steps.\n",
      PagedConfig{}.page_size, format_bytes(stats.page_bytes), stats.n_pages, model.config().context_length);
  for (const SimRow& row : rows) {
    const auto hit = row.first_token_hit.quantile(0.5), miss = row.first_token_miss.quantile(0.5);
    if (!hit || !miss) continue;
    print("{}: TTFT p50 {:.1f} ms for {} requests that found a prefix, {:.1f} ms for the others: {:.1f} %\n",
          label(row), 1e3 * *hit, row.first_token_hit.size(), 1e3 * *miss, 100 * *hit / *miss);
  }
  const bool same = std::all_of(rows.begin(), rows.end(), [&](const SimRow& row) {
    return row.answers_sha256 == rows.front().answers_sha256;
  });
  if (rows.size() > 1) print("Answers of all rows: {}\n", same ? "the same bits" : "DIFFERENT");
  print("\n{} | {} | {} threads\n", version_line(), model.config().isa, model.config().n_threads);
}

void print_md(const std::vector<SimLongPrompt>& rows, const MediumModel& model) {
  print(
      "| clients | long prompt | its TTFT s | gaps idle / during | idle ITL ms p50 / p95 / p99 | during its "
      "prefill | x p50 | x p99 |\n|---:|---:|---:|---:|---:|---:|---:|---:|\n");
  for (const SimLongPrompt& row : rows) {
    const auto ratio = [&](double q) {
      const auto idle = row.idle.quantile(q), during = row.during.quantile(q);
      return idle && during ? fmt::format("{:.2f}", *during / *idle) : std::string("-");
    };
    print("| {} | {} | {:.2f} | {} / {} | {} | {} | {} | {} |\n", row.n_clients, row.n_tokens,
          row.first_token, row.idle.size(), row.during.size(), quantiles(row.idle), quantiles(row.during),
          ratio(0.5), ratio(0.99));
  }
  print("\n{} | {} | {} threads\n", version_line(), model.config().isa, model.config().n_threads);
}

void print_documents(const std::vector<Json>& documents, const std::string& form) {
  if (form == "json") print("{}\n", to_json(Json(documents)));
  for (const Json& one : documents) {
    if (form == "jsonl") print("{}\n", to_json(one));
    if (form == "csv") print_csv(one, &one == &documents.front());
  }
}

// ---- The runs.

Result<void> measure_long_prompt(SimRunner& runner, MediumModel& model, const SimOptions& options,
                                 ProgressBar& bar) {
  std::vector<SimLongPrompt> rows;
  std::vector<Json> documents;
  for (const int n_clients : options.clients) {
    const auto workload = make_workload(options, static_cast<size_t>(n_clients),
                                        static_cast<size_t>(model.config().vocab_size));
    ASSIGN_OR_RETURN(SimLongPrompt row, runner.run_long_prompt(workload, n_clients));
    documents.push_back(document(row, model));
    rows.push_back(std::move(row));
    bar.update(rows.size(), options.clients.size());
  }
  if (options.form == "md") print_md(rows, model);
  print_documents(documents, options.form);
  return {};
}

Result<void> measure_load(SimRunner& runner, MediumModel& model, const SimOptions& options,
                          ProgressBar& bar) {
  const auto workload =
      make_workload(options, n_requests(options), static_cast<size_t>(model.config().vocab_size));
  const size_t n_rows = options.rates.empty() ? options.clients.size() : options.rates.size();
  std::vector<SimRow> rows;
  std::vector<Json> documents;
  double first_rate = 0;
  for (size_t i = 0; i < n_rows; ++i) {
    auto row = options.rates.empty() ? runner.run(workload, options.clients[i], 0)
                                     : runner.run(workload, 0, options.rates[i]);
    if (!row) return tl::unexpected<Error>(row.error());
    if (i == 0) first_rate = static_cast<double>(row->n_tokens_out) / row->seconds;
    documents.push_back(document(*row, model, model.engine().stats(), first_rate));
    rows.push_back(std::move(*row));
    bar.update(rows.size(), n_rows);
  }
  if (options.form == "md") print_md(rows, options, model, model.engine().stats());
  print_documents(documents, options.form);
  return {};
}

}  // namespace

size_t longest_request(const SimOptions& options) {
  return static_cast<size_t>(options.shared_prefix) + static_cast<size_t>(options.prompt_tokens.back()) +
         static_cast<size_t>(options.output_tokens.back()) + static_cast<size_t>(options.long_prompt);
}

Result<int> bench_sim(const SimOptions& options, const ModelOptions& model_options) {
  RETURN_IF_ERROR(check(options));
  ASSIGN_OR_RETURN(MediumModel model, load(options, model_options));
  ProgressBar bar("measuring", ProgressBar::Unit::kItems, !model_options.no_progress);
  SimRunner runner(model, options);
  RETURN_IF_ERROR(runner.warm_up());
  RETURN_IF_ERROR(options.long_prompt > 0 ? measure_long_prompt(runner, model, options, bar)
                                          : measure_load(runner, model, options, bar));
  return kExitOk;
}

}  // namespace ruvltra

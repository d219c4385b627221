#include "server/status_routes.h"

#include <algorithm>
#include <fstream>
#include <numeric>

#include "base/fail.h"
#include "server/fields.h"
#include "server/learning_requests.h"
#include "server/openai.h"

namespace ruvltra {
namespace {

constexpr int kPageTokens = 64;

uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t n_pages = 0, n_resident = 0;
  statm >> n_pages >> n_resident;
  return n_resident * 4096;
}

Json pages_json(const EngineStats& stats) {
  return {{"page_tokens", kPageTokens},       {"page_bytes", stats.page_bytes},
          {"total", stats.n_pages},           {"free", stats.n_pages_free},
          {"private", stats.n_pages_private}, {"published", stats.n_pages_published},
          {"shared", stats.n_pages_shared},   {"evictions", stats.n_evictions}};
}

// One second's view; rates come from what changed since the last one.
class Ticker : public std::enable_shared_from_this<Ticker> {
 public:
  Ticker(Call& call) : service_(call.service), caller_(call.caller), exchange_(call.exchange) {}
  void start() {
    exchange_->begin({.content_type = "text/event-stream",
                      .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}});
    exchange_->post([self = shared_from_this()] { self->tick(); });
  }

 private:
  void tick() {
    if (exchange_->closed()) return;
    if (service_.draining()) return exchange_->end();
    // A reader that does not keep up misses seconds, and holds no memory.
    if (exchange_->backlog() < (16 << 10)) exchange_->write(sse(to_json(view())));
    exchange_->after(1, [self = shared_from_this()] { self->tick(); });
  }

  Json view() {
    const MediumModel& model = *service_.model();
    const EngineStats stats = service_.model()->engine().stats();
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_time_).count();
    const auto rate = [&](uint64_t value, uint64_t last) {
      return first_ || seconds <= 0 ? 0.0 : static_cast<double>(value - last) / seconds;
    };
    Json latency = service_.measures().latencies();
    Json view = {{"time_ms", unix_seconds() * 1000},
                 {"uptime_s", service_.uptime_seconds()},
                 {"model",
                  {{"id", service_.info().id},
                   {"name", model.name()},
                   {"quant", service_.info().quant},
                   {"n_ctx", model.config().context_length},
                   {"n_params", model.n_parameters()},
                   {"sha256", model.sha256()}}},
                 {"requests",
                  {{"running", stats.n_running},
                   {"waiting", stats.n_queued},
                   {"submitted", stats.n_submitted},
                   {"finished", stats.n_finished},
                   {"cancelled", stats.n_cancelled},
                   {"timeouts", stats.n_timeouts},
                   {"failed", stats.n_failed},
                   {"preemptions", stats.n_preemptions}}},
                 {"tokens",
                  {{"prompt_total", stats.n_prompt_tokens},
                   {"generated_total", stats.n_decode_tokens},
                   {"cached_total", stats.n_cached_tokens}}},
                 {"rates",
                  {{"prompt_per_second", rate(stats.n_prefill_tokens, last_.n_prefill_tokens)},
                   {"generated_per_second", rate(stats.n_decode_tokens, last_.n_decode_tokens)}}},
                 {"latency", std::move(latency)},
                 {"kv", pages_json(stats)},
                 {"speculation",
                  {{"drafts", stats.speculation.n_drafts},
                   {"drafted", stats.speculation.n_drafted},
                   {"accepted", stats.speculation.n_accepted},
                   {"drafted_at", stats.speculation.n_drafted_at},
                   {"accepted_at", stats.speculation.n_accepted_at}}},
                 {"memory", {{"rss_bytes", resident_bytes()}}},
                 {"connections", service_.http_stats().n_connections},
                 {"sona", sona_summary(service_, caller_)}};
    last_ = stats;
    last_time_ = now;
    first_ = false;
    return view;
  }

  Service& service_;
  const Caller caller_;
  const std::shared_ptr<Exchange> exchange_;
  EngineStats last_;
  std::chrono::steady_clock::time_point last_time_ = std::chrono::steady_clock::now();
  bool first_ = true;
};

}  // namespace

Handled health(Call& call) {
  Service& service = call.service;
  const bool learns = service.sona() != nullptr;
  return json_response({{"status", service.draining()           ? "draining"
                                   : service.model() == nullptr ? "loading"
                                                                : "ok"},
                        {"sona", learns},
                        {"hnsw", learns},
                        {"version", RUVLTRA_VERSION}});
}

Handled ready(Call& call) {
  Service& service = call.service;
  const auto refuse = [](std::string_view message, std::string_view code) {
    HttpResponse response = error_response(503, message, code);
    response.headers.push_back({"Retry-After", "1"});
    return response;
  };
  if (service.draining()) return refuse("the server is shutting down", "draining");
  if (service.model() == nullptr) return refuse("model is loading", "model_loading");
  if (service.model()->engine().stats().full) return refuse("the queue is full", "queue_full");
  return json_response({{"status", "ready"}});
}

Handled metrics(Call& call) {
  Service& service = call.service;
  std::vector<Measures::Gauge> gauges;
  using Labels = std::vector<std::pair<std::string, std::string>>;
  const auto gauge = [&](std::string_view name, std::string_view help, auto value, Labels labels = {}) {
    gauges.push_back({name, help, static_cast<double>(value), false, std::move(labels)});
  };
  const auto counter = [&](std::string_view name, std::string_view help, auto value, Labels labels = {}) {
    gauges.push_back({name, help, static_cast<double>(value), true, std::move(labels)});
  };
  gauge("build_info", "Always 1", 1, {{"version", RUVLTRA_VERSION}});
  gauge("memory_bytes", "Memory in use", resident_bytes(), {{"kind", "resident"}});
  if (MediumModel* model = service.model()) {
    const EngineStats stats = model->engine().stats();
    gauge("memory_bytes", "Memory in use", stats.n_pages * stats.page_bytes, {{"kind", "kv_cache"}});
    gauge("num_requests_running", "Requests being answered", stats.n_running);
    gauge("num_requests_waiting", "Requests in the queue", stats.n_queued);
    gauge("kv_cache_usage_perc", "Share of the KV pages in use, 0 to 1",
          stats.n_pages == 0
              ? 0
              : static_cast<double>(stats.n_pages - stats.n_pages_free) / static_cast<double>(stats.n_pages));
    counter("prompt_tokens_total", "Prompt tokens of admitted requests", stats.n_prompt_tokens);
    counter("generation_tokens_total", "Rows computed to continue answers", stats.n_decode_tokens);
    counter("num_preemptions_total", "Requests that had to give their pages back", stats.n_preemptions);
    counter("prefix_cache_queries_total", "Prompt tokens looked up", stats.n_prompt_tokens);
    counter("prefix_cache_hits_total", "Prompt tokens found", stats.n_cached_tokens);
    const SpeculationStats& spec = stats.speculation;
    counter("spec_decode_num_drafts_total", "Steps that verified proposals", spec.n_drafts);
    counter("spec_decode_num_draft_tokens_total", "Proposals verified", spec.n_drafted);
    counter("spec_decode_num_accepted_tokens_total", "Proposals that came true", spec.n_accepted);
    for (size_t i = 0; i < spec.n_accepted_at.size(); ++i)
      counter("spec_decode_num_accepted_tokens_per_pos_total", "Proposals that came true, by place",
              spec.n_accepted_at[i], {{"position", std::to_string(i)}});
    gauge("cache_config_info", "KV cache", 1,
          {{"block_size", std::to_string(kPageTokens)}, {"num_blocks", std::to_string(stats.n_pages)}});
  }
  counter("client_disconnects_total", "Clients that went away before the end",
          service.http_stats().n_disconnects);
  gauge("http_connections", "Open connections", service.http_stats().n_connections);
  if (Sona* sona = service.sona()) {
    const SonaStatus status = sona->status();
    gauge("bank_rows", "Items in the reasoning bank", status.bank.n_patterns);
    gauge("adapter_generation", "Newest generation of learned weights of any scope",
          std::accumulate(
              status.adapters.live.begin(), status.adapters.live.end(), uint64_t{0},
              [](uint64_t most, const GenerationInfo& live) { return std::max(most, live.number); }));
    for (const auto& [result, n] : status.adapters.counters)
      counter("sona_updates_total", "What became of the learner's work", n, {{"result", result}});
    if (!status.adapters.reports.empty()) {
      const LearningReport& last = status.adapters.reports.front();
      gauge("sona_delta_nll", "NLL after less before, of the last attempt, nat per held-out token",
            last.nll_after - last.nll_before);
    }
  }
  return HttpResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                      .body = service.measures().exposition(gauges)};
}

Handled list_requests(Call& call) {
  Json data = Json::array();
  const auto now = std::chrono::steady_clock::now();
  for (const auto& running : call.service.running()) {
    const bool own = running->tenant == call.caller.tenant;
    const bool sees = own || call.caller.admin;
    const size_t n_generated = running->n_generated, n_done = running->n_prompt_done;
    data.push_back(
        {{"id", sees ? Json(running->id) : Json()},
         {"route", running->route},
         {"state", n_generated > 0 ? "decode"
                   : n_done > 0    ? "prefill"
                                   : "queued"},
         {"own", own},
         {"prompt", own ? Json(running->preview) : Json()},
         {"prompt_tokens", running->n_prompt.load()},
         {"prompt_done", n_done},
         {"generated_tokens", n_generated},
         {"age_ms", std::chrono::duration_cast<std::chrono::milliseconds>(now - running->begin).count()}});
  }
  return json_response({{"object", "list"}, {"data", std::move(data)}});
}

Handled cancel_request(Call& call) {
  for (const auto& running : call.service.running()) {
    if (running->id != call.arguments[0]) continue;
    if (running->tenant != call.caller.tenant && !call.caller.admin) break;
    running->cancel();
    return json_response({{"id", running->id}, {"cancelled", true}});
  }
  return fail(ErrorKind::kUsage, "request.not_found", "id: expected a running request");
}

Handled kv_pages(Call& call) {
  Json document = pages_json(call.model().engine().stats());
  document["sequences"] = Json::array();
  for (const auto& running : call.service.running()) {
    const bool own = running->tenant == call.caller.tenant;
    const size_t n_positions = running->n_prompt_done + running->n_generated;
    document["sequences"].push_back(
        {{"request", own ? Json(running->id) : Json()}, {"own", own}, {"positions", n_positions}});
  }
  return json_response(document);
}

Handled stats_stream(Call& call) {
  std::make_shared<Ticker>(call)->start();
  return std::nullopt;
}

}  // namespace ruvltra

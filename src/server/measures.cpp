#include "server/measures.h"

#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <sstream>
#include <vector>

namespace ruvltra {
namespace {

const prometheus::Histogram::BucketBoundaries kSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                          0.5,   1,      2.5,   5,    10,    30,   60,  300};
constexpr size_t kRecent = 1000;

// The last values of a kind, for percentiles.
class Recent {
 public:
  void add(double value) {
    if (values_.size() < kRecent) {
      values_.push_back(value);
    } else {
      values_[next_] = value;
    }
    next_ = (next_ + 1) % kRecent;
  }
  Json percentiles_ms() const {
    std::vector<double> sorted = values_;
    std::sort(sorted.begin(), sorted.end());
    const auto at = [&](double share) {
      if (sorted.empty()) return Json();
      const auto place = static_cast<size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5);
      return Json(1000 * sorted[place]);
    };
    return {{"n", values_.size()}, {"p50", at(0.50)}, {"p95", at(0.95)}, {"p99", at(0.99)}};
  }

 private:
  std::vector<double> values_;
  size_t next_ = 0;
};

enum Timed { kFirstToken, kBetweenTokens, kWhole, kQueue, kPrefill, kDecode, kRoute, kNumTimed };
constexpr std::array<std::pair<const char*, const char*>, kNumTimed> kTimedNames = {{
    {"time_to_first_token_seconds", "From submission to the first token"},
    {"inter_token_latency_seconds", "Between two tokens of an answer"},
    {"e2e_request_latency_seconds", "From submission to the last token"},
    {"request_queue_time_seconds", "From submission to the first step"},
    {"request_prefill_time_seconds", "Computing the prompt"},
    {"request_decode_time_seconds", "From the first token to the last"},
    {"route_seconds", "Routing a task to an agent"},
}};

}  // namespace

struct Measures::Impl {
  std::array<std::unique_ptr<prometheus::Histogram>, kNumTimed> histograms;
  mutable std::mutex mutex;  // of what follows
  Recent first_token, between_tokens, whole;
  std::map<std::string, uint64_t> finished, rejected, routed;
  std::map<std::pair<std::string, int>, uint64_t> http;
  uint64_t n_answers = 0;
  double answer_seconds = 0;
};

Measures::Measures() : impl_(std::make_unique<Impl>()) {
  for (auto& histogram : impl_->histograms) histogram = std::make_unique<prometheus::Histogram>(kSeconds);
}
Measures::~Measures() = default;

void Measures::first_token(double seconds) {
  impl_->histograms[kFirstToken]->Observe(seconds);
  const std::lock_guard lock(impl_->mutex);
  impl_->first_token.add(seconds);
}

TokenPace::Gaps TokenPace::look(std::chrono::steady_clock::time_point now) {
  if (n_new_ == 0) return {};
  const auto n = static_cast<double>(n_new_);
  const auto before = std::exchange(last_, now);
  const size_t n_gaps = std::exchange(n_new_, 0);
  if (!before) return {};
  return {n_gaps, std::chrono::duration<double>(now - *before).count() / n};
}

void Measures::between_tokens(const TokenPace::Gaps& gaps) {
  for (size_t i = 0; i < gaps.n; ++i) impl_->histograms[kBetweenTokens]->Observe(gaps.seconds);
  const std::lock_guard lock(impl_->mutex);
  for (size_t i = 0; i < gaps.n; ++i) impl_->between_tokens.add(gaps.seconds);
}

void Measures::answered(std::string_view reason, double seconds, const Timings& timings) {
  impl_->histograms[kWhole]->Observe(seconds);
  impl_->histograms[kQueue]->Observe(timings.queue_seconds);
  impl_->histograms[kPrefill]->Observe(timings.prompt_seconds);
  impl_->histograms[kDecode]->Observe(timings.generate_seconds);
  const std::lock_guard lock(impl_->mutex);
  impl_->whole.add(seconds);
  ++impl_->finished[std::string(reason)];
  ++impl_->n_answers;
  impl_->answer_seconds += seconds;
}

void Measures::routed(std::string_view method, double seconds) {
  impl_->histograms[kRoute]->Observe(seconds);
  const std::lock_guard lock(impl_->mutex);
  ++impl_->routed[std::string(method)];
}

void Measures::http(std::string_view route, int status) {
  const std::lock_guard lock(impl_->mutex);
  ++impl_->http[{std::string(route), status}];
}

void Measures::rejected(std::string_view reason) {
  const std::lock_guard lock(impl_->mutex);
  ++impl_->rejected[std::string(reason)];
}

double Measures::mean_answer_seconds() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->n_answers == 0 ? 0 : impl_->answer_seconds / static_cast<double>(impl_->n_answers);
}

Json Measures::latencies() const {
  const std::lock_guard lock(impl_->mutex);
  return {{"ttft_ms", impl_->first_token.percentiles_ms()},
          {"inter_token_ms", impl_->between_tokens.percentiles_ms()},
          {"e2e_ms", impl_->whole.percentiles_ms()}};
}

std::string Measures::exposition(const std::vector<Gauge>& gauges) const {
  using prometheus::ClientMetric;
  using prometheus::MetricFamily;
  using prometheus::MetricType;
  std::vector<MetricFamily> families;
  const auto family = [&](std::string_view name, std::string_view help, MetricType type) -> MetricFamily& {
    const std::string full = "ruvltra_" + std::string(name);
    if (families.empty() || families.back().name != full)
      families.push_back({full, std::string(help), type, {}});
    return families.back();
  };
  const auto add = [&](std::string_view name, std::string_view help, bool is_counter, double value,
                       std::vector<ClientMetric::Label> labels) {
    ClientMetric metric;
    metric.label = std::move(labels);
    (is_counter ? metric.counter.value : metric.gauge.value) = value;
    family(name, help, is_counter ? MetricType::Counter : MetricType::Gauge)
        .metric.push_back(std::move(metric));
  };
  for (const Gauge& gauge : gauges) {
    std::vector<ClientMetric::Label> labels;
    for (const auto& [label, value] : gauge.labels) labels.push_back({label, value});
    add(gauge.name, gauge.help, gauge.is_counter, gauge.value, std::move(labels));
  }
  for (size_t i = 0; i < kNumTimed; ++i)
    family(kTimedNames[i].first, kTimedNames[i].second, MetricType::Histogram)
        .metric.push_back(impl_->histograms[i]->Collect());
  const std::lock_guard lock(impl_->mutex);
  for (const auto& [reason, n] : impl_->finished)
    add("request_success_total", "Complete answers", true, static_cast<double>(n),
        {{"finished_reason", reason}});
  for (const auto& [reason, n] : impl_->rejected)
    add("rejected_total", "Requests refused for lack of room", true, static_cast<double>(n),
        {{"reason", reason}});
  for (const auto& [method, n] : impl_->routed)
    add("route_decisions_total", "Tasks routed", true, static_cast<double>(n), {{"method", method}});
  for (const auto& [key, n] : impl_->http)
    add("http_requests_total", "Answers by route and status", true, static_cast<double>(n),
        {{"route", key.first}, {"code", std::to_string(key.second)}});
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return std::move(out).str();
}

}  // namespace ruvltra

// What the server counts and times, as Prometheus text and as the numbers of the dashboard.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "ruvltra/types.h"

namespace ruvltra {

// The gaps between the tokens of one answer, which come to be looked at a few at a time: they share the time
// since the look before. What came before the first look that found any has no gaps.
class TokenPace {
 public:
  struct Gaps {
    size_t n = 0;
    double seconds = 0;  // of each
  };
  void token() { ++n_new_; }
  Gaps look(std::chrono::steady_clock::time_point now);

 private:
  std::optional<std::chrono::steady_clock::time_point> last_;  // look that found a token
  size_t n_new_ = 0;                                           // tokens since
};

// Thread safety: all functions from any thread.
class Measures {
 public:
  Measures();
  ~Measures();

  // Seconds.
  void first_token(double seconds);
  void between_tokens(const TokenPace::Gaps& gaps);
  // A complete answer with its timings. `reason` is one of few words.
  void answered(std::string_view reason, double seconds, const Timings& timings);
  void routed(std::string_view method, double seconds);
  void http(std::string_view route, int status);
  void rejected(std::string_view reason);  // 503 and 429
  // Answers so far and their mean seconds; what a full queue's Retry-After is made of.
  double mean_answer_seconds() const;

  // {"ttft_ms": {n, p50, p95, p99}, "inter_token_ms": {...}, "e2e_ms": {...}} of the last 1,000 of each.
  Json latencies() const;

  // Numbers that others keep.
  struct Gauge {
    std::string_view name, help;
    double value;
    bool is_counter = false;
    std::vector<std::pair<std::string, std::string>> labels = {};
  };
  // Prometheus text exposition, prefix "ruvltra_"; gauges of one name stand together.
  std::string exposition(const std::vector<Gauge>& gauges) const;

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace ruvltra

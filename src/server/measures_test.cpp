#include "server/measures.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace ruvltra {
namespace {

TEST(Measures, PercentilesOfTheLastThousand) {
  Measures measures;
  EXPECT_TRUE(measures.latencies()["ttft_ms"]["p50"].is_null());
  for (int i = 0; i < 500; ++i) measures.first_token(1000);  // forgotten below
  for (int i = 1000; i >= 1; --i) measures.first_token(i / 1000.0);
  const Json json = measures.latencies();
  EXPECT_EQ(json["ttft_ms"]["n"], 1000);
  EXPECT_NEAR(json["ttft_ms"]["p50"].get<double>(), 500, 1.01);
  EXPECT_NEAR(json["ttft_ms"]["p95"].get<double>(), 950, 1.01);
  EXPECT_NEAR(json["ttft_ms"]["p99"].get<double>(), 990, 1.01);
  EXPECT_EQ(json["e2e_ms"]["n"], 0);
}

TEST(Measures, MeanOfAnswers) {
  Measures measures;
  EXPECT_EQ(measures.mean_answer_seconds(), 0);
  measures.answered("stop", 1, {});
  measures.answered("length", 3, {});
  EXPECT_EQ(measures.mean_answer_seconds(), 2);
}

// Tokens that are looked at together came one after the other all the same.
TEST(TokenPace, TokensShareTheTimeSinceTheLookBefore) {
  using namespace std::chrono_literals;
  const std::chrono::steady_clock::time_point begin(10s);
  TokenPace pace;
  EXPECT_EQ(pace.look(begin).n, 0u);
  pace.token();
  pace.token();
  EXPECT_EQ(pace.look(begin + 1ms).n, 0u);  // nobody knows when the first of them came
  for (int i = 0; i < 4; ++i) pace.token();
  const auto gaps = pace.look(begin + 2ms);
  EXPECT_EQ(gaps.n, 4u);
  EXPECT_NEAR(gaps.seconds, 0.00025, 1e-12);
  EXPECT_EQ(pace.look(begin + 3ms).n, 0u);  // a look without tokens is none
  pace.token();
  EXPECT_NEAR(pace.look(begin + 5ms).seconds, 0.003, 1e-12);

  Measures measures;
  measures.between_tokens(gaps);
  EXPECT_EQ(measures.latencies()["inter_token_ms"]["n"], 4);
  EXPECT_NEAR(measures.latencies()["inter_token_ms"]["p50"].get<double>(), 0.25, 1e-9);
}

// Prometheus' text format 0.0.4, read by rules of our own: a family is described once, before its samples,
// and no sample comes twice.
TEST(Measures, ExpositionParses) {
  Measures measures;
  measures.first_token(0.02);
  measures.between_tokens({1, 0.003});
  measures.answered("stop", 1.5, {});
  measures.routed("hnsw", 0.001);
  measures.http("/v1/models/{id}", 200);
  measures.http("/v1/models/{id}", 200);
  measures.http("other", 404);
  measures.rejected("engine.queue_full");
  const std::string text = measures.exposition({{"memory_bytes", "Memory", 5, false, {{"kind", "a"}}},
                                                {"memory_bytes", "Memory", 6, false, {{"kind", "b"}}},
                                                {"things_total", "Things", 7, true, {}}});
  const std::regex sample(R"(([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*(\{[^}]*\})?[^}]*\})? (\S+))");
  std::set<std::string> described, samples;
  std::map<std::string, double> values;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) {
      EXPECT_TRUE(described.insert(line.substr(7, line.find(' ', 7) - 7)).second) << line;
      continue;
    }
    if (line.starts_with("# HELP ")) continue;
    std::smatch match;
    ASSERT_TRUE(std::regex_match(line, match, sample)) << line;
    std::string family = match[1];
    for (const char* ending : {"_bucket", "_sum", "_count"})
      if (family.ends_with(ending) && !described.contains(family))
        family.resize(family.size() - std::strlen(ending));
    EXPECT_TRUE(described.contains(family)) << line;
    EXPECT_TRUE(family.starts_with("ruvltra_")) << line;
    const std::string name = match[1].str() + match[2].str();
    EXPECT_TRUE(samples.insert(name).second) << line;
    values[name] = match[4] == "+Inf" ? 1e99 : std::stod(match[4]);
  }
  EXPECT_EQ(values["ruvltra_memory_bytes{kind=\"b\"}"], 6);
  EXPECT_EQ(values["ruvltra_things_total"], 7);
  EXPECT_EQ(values["ruvltra_http_requests_total{route=\"/v1/models/{id}\",code=\"200\"}"], 2);
  EXPECT_EQ(values["ruvltra_e2e_request_latency_seconds_count"], 1);
  EXPECT_EQ(values["ruvltra_e2e_request_latency_seconds_sum"], 1.5);
  EXPECT_EQ(values["ruvltra_e2e_request_latency_seconds_bucket{le=\"1\"}"], 0);
  EXPECT_EQ(values["ruvltra_e2e_request_latency_seconds_bucket{le=\"2.5\"}"], 1);
  EXPECT_EQ(values["ruvltra_e2e_request_latency_seconds_bucket{le=\"+Inf\"}"], 1);
  EXPECT_EQ(values["ruvltra_request_success_total{finished_reason=\"stop\"}"], 1);
}

}  // namespace
}  // namespace ruvltra

// `bench --sim`: clients that ask an engine in this process, through the public API, and what they and the KV
// cache saw of it. Closed loop: each client asks again when its answer is complete. Open loop: requests
// arrive at random times (a Poisson process), however busy the engine is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "options.h"
#include "ruvltra/engine.h"
#include "ruvltra/error.h"
#include "ruvltra/model.h"

namespace ruvltra {

struct SimOptions {
  std::vector<int> clients = {1, 2, 4, 8};  // closed loop: a row each
  std::vector<double> rates;                // requests per second; open loop if there are any: a row each
  int n_requests = 0;                       // of a row; 0 = 2 per client of the largest row
  std::vector<int> prompt_tokens = {32};    // a length, or the least and the most of a uniform one
  std::vector<int> output_tokens = {64};
  int shared_prefix = 0;    // tokens in front of the prompt ...
  double shared_share = 1;  // ... of this share of the requests
  int n_samples = 1;        // answers to each prompt
  int long_prompt = 0;      // > 0: what a prompt of so many tokens does to those who are generating
  float temperature = 0;
  uint64_t seed = 1;      // of the workload
  int parallel = 0;       // sequences computed together; 0 = what the clients need, 8 in the open loop
  std::string kv_memory;  // empty = every sequence at its longest
  bool prefix_cache = true;
  std::string form = "md";  // md, csv, json or jsonl
};

struct SimRequest {
  std::vector<TokenId> prompt;
  int n_output = 0;
  double arrival = 0;  // open loop: expected number of requests before it; divided by the rate, seconds
};

// Request i depends on the options and i alone.
std::vector<SimRequest> make_workload(const SimOptions& options, size_t n_requests, size_t n_vocab);

// Values of which quantiles are wanted.
class Samples {
 public:
  void add(double value) { values_.push_back(value); }
  size_t size() const { return values_.size(); }
  // Linear between the two values beside it; nothing without values.
  std::optional<double> quantile(double q) const;

 private:
  std::vector<double> values_;
};

// The pages of running sequences, as seen once per step.
struct SimPages {
  size_t n_seen = 0;  // steps
  double held_sum = 0, preallocated_sum = 0, waste_sum = 0;
  size_t sequences_sum = 0;
  size_t held_peak = 0, preallocated_peak = 0, shared_peak = 0;
  size_t listed_peak = 0;          // pages that the same sequences would hold if each had its own
  size_t held_at_listed_peak = 0;  // what they held at that moment
  uint64_t rss_begin = 0, rss_peak = 0;

  double held_mean() const;
  double preallocated_mean() const;
  double waste_per_sequence() const;  // positions that were allocated and not yet used
  double saved_share() const;  // of giving every running sequence pages for the whole context, on average
  // `n_longest` = pages of the whole context.
  void see(const EngineStats& stats, size_t n_longest);
};

// A row of the table.
struct SimRow {
  int n_clients = 0;  // 0: open loop
  double rate = 0;
  size_t n_requests = 0, n_answers = 0;
  uint64_t n_tokens_in = 0, n_tokens_out = 0;
  uint64_t n_cached = 0;  // prompt tokens found in the prefix cache
  size_t n_requests_cached = 0;
  double seconds = 0;                         // from the first request to the end of the last answer
  Samples first_token;                        // seconds from arrival
  Samples first_token_hit, first_token_miss;  // of these, with and without a part found in the cache
  Samples gaps;                               // seconds between two tokens of an answer
  uint64_t n_steps = 0, n_preemptions = 0;
  SimPages pages;
  std::string answers_sha256;  // over all tokens of all answers, in order of the requests
};

// What a long prompt did to `n_clients` who were generating.
struct SimLongPrompt {
  int n_clients = 0;
  size_t n_tokens = 0;
  double first_token = 0;  // seconds from its arrival
  Samples idle, during;  // seconds between two tokens of the others, before it came and while it was computed
};

// Runs workloads on one engine, one after the other.
class SimRunner {
 public:
  SimRunner(MediumModel& model, const SimOptions& options) : model_(model), options_(options) {}

  // A request nobody measures: threads are awake and weights are mapped.
  Result<void> warm_up();
  // `rate` 0: closed loop. Each row starts with an empty prefix cache of its own. Errors: what
  // Engine::stream refuses; bench.cancelled after Ctrl+C.
  Result<SimRow> run(const std::vector<SimRequest>& workload, int n_clients, double rate);
  Result<SimLongPrompt> run_long_prompt(const std::vector<SimRequest>& workload, int n_clients);

 private:
  Request request(const SimRequest& from, size_t index, int n_samples) const;

  MediumModel& model_;
  const SimOptions& options_;
  int n_rows_ = 0;
};

// Tokens of the longest request and its answer.
size_t longest_request(const SimOptions& options);

// Loads the model, runs the rows, prints the tables. Errors: sim.*, those of MediumModel::load and SimRunner.
Result<int> bench_sim(const SimOptions& options, const ModelOptions& model);

}  // namespace ruvltra

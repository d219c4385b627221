// What `bench` measures: tests of prompt processing and generation on one loaded model.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bandwidth.h"
#include "base/mean.h"
#include "load.h"
#include "model/qwen2.h"
#include "statistics.h"

namespace ruvltra {

struct BenchTest {
  int n_prompt = 0;     // tokens of one sequence, in steps of kPrefillRows
  int n_generate = 0;   // decode steps after them
  int n_depth = 0;      // positions of every sequence that are in its cache before the clock starts
  int n_sequences = 1;  // decoded together; 1 if there is a prompt
  int n_per_step = 1;   // tokens of each sequence per decode step, as when a draft is verified
  int n_threads = 0;

  std::string name() const;  // "pp512", "tg128", "pp512+tg128", "tg32 8 seqs", "tg32 5 per step", " @ d4096"
  int n_tokens() const { return n_prompt + n_generate * tokens_per_step(); }
  int tokens_per_step() const { return n_sequences * n_per_step; }
  size_t n_positions() const {
    return static_cast<size_t>(n_depth) + static_cast<size_t>(n_prompt) +
           static_cast<size_t>(n_generate) * static_cast<size_t>(n_per_step);
  }
  bool is_decode() const { return n_prompt == 0; }
};

struct BenchMeasurement {
  BenchTest test;
  std::vector<double> seconds;     // of each run
  uint64_t peak_bytes = 0;         // of memory
  std::vector<double> bandwidths;  // bytes per second beside each run: the mean of a reading before and after
  uint64_t bytes_per_step = 0;     // that a decode step reads: weights and KV pages
  std::string time;                // UTC, when it began
  // Decode only: step time over that of one token per step, median of the runs side by side.
  std::optional<double> step_ratio;

  std::vector<double> rates() const;  // tokens per second
  double mean_step_seconds() const;   // *Requires*: is_decode()
  double bandwidth() const;           // median beside the runs
  // Decode only: bytes read per second over the bandwidth beside the same run, in percent, median of the
  // runs.
  std::optional<double> share_of_bandwidth() const;
};

// Runs tests on one loaded model with one number of threads. All sequences hold the same meaningless tokens:
// speed does not depend on them.
class BenchRunner {
 public:
  // Room for each of `tests`. Errors: memory.limit, memory.exhausted.
  static Result<BenchRunner> make(const LoadedWeights& model, ThreadPool& pool,
                                  std::span<const BenchTest> tests, uint64_t memory_limit);

  // Seconds for the test; nullopt after Ctrl+C.
  std::optional<double> run(const BenchTest& test);
  // The same for a few tokens of it.
  std::optional<double> warm_up(BenchTest test);

  // Bytes of weights and KV pages that a decode step reads, on average over the test.
  uint64_t bytes_per_step(const BenchTest& test) const;

 private:
  struct Room {
    size_t n_sequences = 1;
    size_t n_positions = 1;  // of each sequence
    size_t n_rows = 1;       // of a step
    size_t n_logits = 1;     // rows of a step
  };
  BenchRunner(const LoadedWeights& model, ThreadPool& pool, const Room& room, KvPool kv, Workspace workspace,
              AlignedBuffer<float> logits);

  enum class Wanted { kNone, kLast, kAll };
  // One step: positions [begin, begin + n) of `n_sequences` sequences from `first` on.
  void step(size_t first, size_t n_sequences, size_t begin, size_t n, Wanted wanted);
  // Fills the cache of one sequence up to `depth` as far as it is not. False after Ctrl+C.
  bool fill(size_t sequence, size_t depth);

  const LoadedWeights* model_;
  Ctx ctx_;
  KvPool kv_;
  Workspace workspace_;
  AlignedBuffer<float> logits_;
  std::vector<TokenId> tokens_;             // token of every position
  std::vector<std::vector<PageId>> pages_;  // of every sequence
  std::vector<size_t> n_filled_;            // positions of every sequence that were computed once
  StepRows rows_;
};

// Measures tests that are compared with each other: one run of each in turn, `repetitions` times after a
// discarded one, and between them readings of the weights that do nothing else (read_bandwidth). The first
// test is the reference of step_ratio. `on_run` is called after every run. Errors: as BenchRunner::make(),
// bench.cancelled.
Result<std::vector<BenchMeasurement>> measure_tests(const LoadedWeights& model, ThreadPool& pool,
                                                    std::span<const BenchTest> tests, int repetitions,
                                                    uint64_t memory_limit,
                                                    const std::function<void()>& on_run);

// Of this program, in bytes: the most until now, and now.
uint64_t peak_memory();
uint64_t resident_memory();

}  // namespace ruvltra

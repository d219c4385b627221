#include "bench_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <numeric>

#include "base/fail.h"
#include "console.h"
#include "model/memory.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm fields{};
  gmtime_r(&now, &fields);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &fields);
  return text;
}

// Tokens without meaning but always the same.
std::vector<TokenId> arbitrary_tokens(size_t n, size_t n_vocab) {
  std::vector<TokenId> tokens(n);
  uint32_t state = 1;
  for (TokenId& token : tokens) {
    state = state * 1664525u + 1013904223u;
    token = static_cast<TokenId>((state >> 8) % n_vocab);
  }
  return tokens;
}

uint64_t process_status(std::string_view field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field)) return 1024 * std::strtoull(line.c_str() + field.size(), nullptr, 10);
  }
  return 0;
}

}  // namespace

// Not getrusage(): that also knows what stood in the process before exec().
uint64_t peak_memory() { return process_status("VmHWM:"); }
uint64_t resident_memory() { return process_status("VmRSS:"); }

std::string BenchTest::name() const {
  std::string text;
  if (n_prompt > 0) text = fmt::format("pp{}", n_prompt);
  if (n_generate > 0) text += fmt::format("{}tg{}", text.empty() ? "" : "+", n_generate);
  if (n_sequences > 1) text += fmt::format(" {} seqs", n_sequences);
  if (n_per_step > 1) text += fmt::format(" {} per step", n_per_step);
  if (n_depth > 0) text += fmt::format(" @ d{}", n_depth);
  return text;
}

std::vector<double> BenchMeasurement::rates() const {
  std::vector<double> out;
  for (const double s : seconds) out.push_back(test.n_tokens() / s);
  return out;
}

double BenchMeasurement::mean_step_seconds() const { return mean_of(seconds) / test.n_generate; }

double BenchMeasurement::bandwidth() const { return median(bandwidths); }

std::optional<double> BenchMeasurement::share_of_bandwidth() const {
  if (!test.is_decode()) return std::nullopt;
  const double n_bytes = static_cast<double>(bytes_per_step) * test.n_generate;
  std::vector<double> shares;
  for (size_t i = 0; i < seconds.size(); ++i) shares.push_back(100 * n_bytes / seconds[i] / bandwidths[i]);
  return median(std::move(shares));
}

BenchRunner::BenchRunner(const LoadedWeights& model, ThreadPool& pool, const Room& room, KvPool kv,
                         Workspace workspace, AlignedBuffer<float> logits)
    : model_(&model),
      ctx_(model.ctx),
      kv_(std::move(kv)),
      workspace_(std::move(workspace)),
      logits_(std::move(logits)),
      tokens_(arbitrary_tokens(room.n_positions, model.weights.shape.n_vocab)),
      pages_(room.n_sequences),
      n_filled_(room.n_sequences) {
  ctx_.pool = &pool;
  const size_t n_pages = KvPool::pages_for(room.n_positions);
  for (size_t s = 0; s < room.n_sequences; ++s) {
    pages_[s].resize(n_pages);
    std::iota(pages_[s].begin(), pages_[s].end(), static_cast<PageId>(s * n_pages));
  }
}

Result<BenchRunner> BenchRunner::make(const LoadedWeights& model, ThreadPool& pool,
                                      std::span<const BenchTest> tests, uint64_t memory_limit) {
  Room room;
  for (const BenchTest& test : tests) {
    const auto n_rows = static_cast<size_t>(test.tokens_per_step());
    room.n_sequences = std::max(room.n_sequences, static_cast<size_t>(test.n_sequences));
    room.n_positions = std::max(room.n_positions, test.n_positions());
    room.n_rows = std::max(room.n_rows, test.n_prompt + test.n_depth > 0 ? kPrefillRows : n_rows);
    room.n_logits = std::max(room.n_logits, n_rows);
  }
  const ModelShape& shape = model.weights.shape;
  const Workspace::Options options = {
      .max_tokens = room.n_rows, .max_positions = room.n_positions, .exact = false};
  const size_t n_pages = room.n_sequences * KvPool::pages_for(room.n_positions);
  MemoryNeed need;
  need.kv_bytes = n_pages * KvPool::page_bytes(shape, model.kv_type);
  need.scratch_bytes = Workspace::bytes_needed(shape, options, pool.n_threads()) +
                       room.n_logits * shape.n_vocab * sizeof(float);
  // Without a limit it is the memory still free, in which the weights stand already.
  if (memory_limit > 0) need.weights_bytes = model.weights.n_bytes();
  RETURN_IF_ERROR(check_memory(need, memory_limit, model.file.path().string()));
  ASSIGN_OR_RETURN(KvPool kv, KvPool::make(shape, model.kv_type, n_pages));
  ASSIGN_OR_RETURN(Workspace workspace, Workspace::make(shape, options, pool.n_threads()));
  ASSIGN_OR_RETURN(auto logits, AlignedBuffer<float>::make(room.n_logits * shape.n_vocab));
  return BenchRunner(model, pool, room, std::move(kv), std::move(workspace), std::move(logits));
}

void BenchRunner::step(size_t first, size_t n_sequences, size_t begin, size_t n, Wanted wanted) {
  rows_.clear();
  for (size_t s = first; s < first + n_sequences; ++s) {
    rows_.add(std::span(tokens_).subspan(begin, n), begin, pages_[s]);
    n_filled_[s] = std::max(n_filled_[s], begin + n);
  }
  if (wanted == Wanted::kAll) rows_.want_all(RowOutput::kLogits);
  if (wanted == Wanted::kLast) rows_.want_last(RowOutput::kLogits);
  forward(ctx_, model_->weights, kv_, workspace_, rows_.input(), StepOutput{.logits = logits_.span()});
}

bool BenchRunner::fill(size_t sequence, size_t depth) {
  while (n_filled_[sequence] < depth) {
    if (stop_requested()) return false;
    const size_t begin = n_filled_[sequence];
    step(sequence, 1, begin, std::min(kPrefillRows, depth - begin), Wanted::kNone);
  }
  return true;
}

std::optional<double> BenchRunner::run(const BenchTest& test) {
  const auto n_sequences = static_cast<size_t>(test.n_sequences);
  const auto n_per_step = static_cast<size_t>(test.n_per_step);
  auto at = static_cast<size_t>(test.n_depth);
  for (size_t s = 0; s < n_sequences; ++s) {
    if (!fill(s, at)) return std::nullopt;
  }
  const auto start = Clock::now();
  for (const size_t end = at + static_cast<size_t>(test.n_prompt); at < end;) {
    if (stop_requested()) return std::nullopt;
    const size_t n = std::min(kPrefillRows, end - at);
    step(0, 1, at, n, at + n == end ? Wanted::kLast : Wanted::kNone);
    at += n;
  }
  for (int i = 0; i < test.n_generate; ++i) {
    if (stop_requested()) return std::nullopt;
    step(0, n_sequences, at, n_per_step, Wanted::kAll);
    at += n_per_step;
  }
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::optional<double> BenchRunner::warm_up(BenchTest test) {
  constexpr int kPrompt = 512;
  constexpr int kSteps = 8;
  test.n_prompt = std::min(test.n_prompt, kPrompt);
  test.n_generate = std::min(test.n_generate, kSteps);
  return run(test);
}

uint64_t BenchRunner::bytes_per_step(const BenchTest& test) const {
  const size_t page_bytes = KvPool::page_bytes(model_->weights.shape, kv_.type());
  uint64_t n_pages = 0;
  for (int i = 1; i <= test.n_generate; ++i) {
    n_pages += KvPool::pages_for(static_cast<size_t>(test.n_depth + test.n_prompt + i * test.n_per_step));
  }
  const uint64_t n_steps = std::max<uint64_t>(static_cast<uint64_t>(test.n_generate), 1);
  return model_->weights.bytes_per_token() +
         static_cast<uint64_t>(test.n_sequences) * n_pages * page_bytes / n_steps;
}

Result<std::vector<BenchMeasurement>> measure_tests(const LoadedWeights& model, ThreadPool& pool,
                                                    std::span<const BenchTest> tests, int repetitions,
                                                    uint64_t memory_limit,
                                                    const std::function<void()>& on_run) {
  ASSIGN_OR_RETURN(BenchRunner runner, BenchRunner::make(model, pool, tests, memory_limit));
  std::vector<BenchMeasurement> all;
  for (const BenchTest& test : tests) {
    BenchMeasurement measurement;
    measurement.test = test;
    measurement.bytes_per_step = runner.bytes_per_step(test);
    measurement.time = utc_now();
    all.push_back(std::move(measurement));
  }
  const auto weights = model.weights.read_per_token();
  double before = read_bandwidth(pool, weights);
  for (int repetition = 0; repetition <= repetitions; ++repetition) {
    for (BenchMeasurement& measurement : all) {
      const auto seconds = repetition == 0 ? runner.warm_up(measurement.test) : runner.run(measurement.test);
      if (!seconds) return fail(ErrorKind::kCancelled, "bench.cancelled", "stopped");
      const double after = read_bandwidth(pool, weights);
      if (repetition > 0) {
        measurement.seconds.push_back(*seconds);
        measurement.bandwidths.push_back((before + after) / 2);
      }
      before = after;
      on_run();
    }
  }
  for (BenchMeasurement& measurement : all) {
    measurement.peak_bytes = peak_memory();
    if (!measurement.test.is_decode()) continue;
    std::vector<double> ratios;
    for (size_t i = 0; i < measurement.seconds.size(); ++i)
      ratios.push_back(measurement.seconds[i] / all.front().seconds[i]);
    measurement.step_ratio = median(std::move(ratios));
  }
  return all;
}

}  // namespace ruvltra

#include "bench_attention.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>

#include "base/fail.h"
#include "base/json.h"
#include "base/num.h"
#include "bench_run.h"
#include "console.h"
#include "kernels/dispatch.h"
#include "model/memory.h"
#include "ops/attention_baselines.h"
#include "options.h"
#include "statistics.h"

namespace ruvltra {
namespace {

// One layer of the medium model.
constexpr size_t kHeads = 16;
constexpr size_t kKvHeads = 2;
constexpr size_t kHeadSize = 128;

// The naive loop is measured on about this many rows, evenly spaced, where there are more.
constexpr size_t kNaiveRows = 256;
constexpr size_t kNaiveWhole = 2048;

struct MethodInfo {
  AttentionMethod method;
  const char* id;
  const char* label;
};
constexpr MethodInfo kMethods[] = {
    {AttentionMethod::kFlash, "flash", "flash"},
    {AttentionMethod::kFlashUnskipped, "flash-unskipped", "flash, causal skipping off"},
    {AttentionMethod::kBlocked, "blocked", "B1: blocked, unfused, causal skipping on"},
    {AttentionMethod::kTextbook, "textbook", "B0: textbook n x n, nothing skipped"},
    {AttentionMethod::kNaive, "naive", "naive scalar loop"},
};

struct AttentionResult {
  const MethodInfo* method = nullptr;
  size_t n_tokens = 0;
  size_t n_rows = 0;           // measured; fewer than n_tokens: seconds is extrapolated
  double seconds = 0;          // median
  uint64_t peak_bytes = 0;     // of the whole process
  uint64_t scratch_bytes = 0;  // beyond queries, keys, values and the result
};

size_t naive_step(size_t n_tokens) { return n_tokens <= kNaiveWhole ? 1 : n_tokens / kNaiveRows; }

// The same values for every method; keys and values that f16 holds exactly.
float value_at(size_t index, uint32_t seed) {
  uint64_t x = (index + 1) * 0x9e3779b97f4a7c15 + seed;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  return f16_to_f32(f32_to_f16(static_cast<float>(x >> 40) * 0x1p-23f - 1));
}

// Queries and a cache of one layer, or keys and values as plain arrays for the naive loop.
class Problem {
 public:
  static Result<Problem> make(const Ctx& ctx, size_t n_tokens, bool naive) {
    Problem p;
    ASSIGN_OR_RETURN(p.q_, AlignedBuffer<float>::make(n_tokens * kHeads * kHeadSize));
    ASSIGN_OR_RETURN(p.out_, AlignedBuffer<float>::make(n_tokens * kHeads * kHeadSize));
    for (size_t i = 0; i < p.q_.size(); ++i) p.q_[i] = value_at(i, 1);
    std::fill_n(p.out_.data(), p.out_.size(), 0.0f);
    // Made in pieces of a page, so that the arrays need no second copy.
    const size_t n_rows = naive ? n_tokens : kPageTokens;
    ASSIGN_OR_RETURN(p.k_, AlignedBuffer<float>::make(n_rows * kWidth));
    ASSIGN_OR_RETURN(p.v_, AlignedBuffer<float>::make(n_rows * kWidth));
    KvLayerView& kv = p.input.kv;
    kv.plane_bytes = kv_plane_bytes(KvType::kF16, kHeadSize);
    kv.page_stride = 2 * kKvHeads * kv.plane_bytes;
    kv.n_kv_heads = kKvHeads;
    kv.d_head = kHeadSize;
    const size_t n_pages = (n_tokens + kPageTokens - 1) / kPageTokens;
    if (!naive) {
      ASSIGN_OR_RETURN(p.memory_, AlignedBuffer<uint8_t>::make(n_pages * kv.page_stride));
      kv.base = p.memory_.data();
    }
    for (size_t page = 0; page < n_pages; ++page) p.fill_page(ctx, page, n_tokens, naive);
    p.input.pages = p.pages_;
    p.input.q = p.q_.data();
    p.input.n_tokens = n_tokens;
    p.input.n_heads = kHeads;
    return p;
  }

  AttentionInput input;
  const float* k() const { return k_.data(); }
  const float* v() const { return v_.data(); }
  float* out() { return out_.data(); }

 private:
  static constexpr size_t kWidth = kKvHeads * kHeadSize;

  void fill_page(const Ctx& ctx, size_t page, size_t n_tokens, bool naive) {
    pages_.push_back(static_cast<PageId>(page));
    const size_t first = page * kPageTokens;
    const size_t n = std::min(kPageTokens, n_tokens - first);
    float* k = k_.data() + (naive ? first * kWidth : 0);
    float* v = v_.data() + (naive ? first * kWidth : 0);
    for (size_t i = 0; i < n * kWidth; ++i) {
      k[i] = value_at(first * kWidth + i, 2);
      v[i] = value_at(first * kWidth + i, 3);
    }
    if (naive) return;
    std::vector<KvSlot> slots;
    for (size_t t = 0; t < n; ++t) slots.push_back({pages_.back(), static_cast<int32_t>(t)});
    store_kv(ctx, input.kv, k, v, slots);
  }

  AlignedBuffer<float> q_, out_, k_, v_;
  AlignedBuffer<uint8_t> memory_;
  std::vector<PageId> pages_;
};

const MethodInfo& find_method(const std::string& id) {
  for (const MethodInfo& info : kMethods) {
    if (id == info.id) return info;
  }
  return kMethods[0];
}

// In a process of its own: measures one method and prints a line of JSON.
Result<int> measure_here(const AttentionBenchOptions& options) {
  const MethodInfo& info = find_method(options.method);
  const bool naive = info.method == AttentionMethod::kNaive;
  const auto n_tokens = static_cast<size_t>(options.lengths.front());
  ASSIGN_OR_RETURN(const KernelTable* kernels, kernel_table(options.isa));
  ThreadPool pool(resolve_threads(options.n_threads));
  const Ctx ctx{&pool, kernels};
  ASSIGN_OR_RETURN(Problem problem, Problem::make(ctx, n_tokens, naive));
  std::optional<AttentionBaseline> baseline;
  uint64_t scratch = 0;
  if (!naive) {
    scratch = AttentionBaseline::bytes_needed(info.method, problem.input, pool.n_threads());
    ASSIGN_OR_RETURN(baseline, AttentionBaseline::make(ctx, info.method, problem.input));
  }
  const size_t step = naive ? naive_step(n_tokens) : 1;
  std::vector<double> seconds;
  for (int i = 0; i < options.repetitions; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    if (naive) {
      naive_attention(ctx, problem.input, problem.k(), problem.v(), step / 2, step, problem.out());
    } else {
      baseline->run(problem.out());
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    seconds.push_back(elapsed.count() * static_cast<double>(step));
  }
  const Json out = {
      {"seconds", median(seconds)}, {"rows", n_tokens / step}, {"peak", peak_memory()}, {"scratch", scratch}};
  print("{}\n", to_json(out));
  return kExitOk;
}

// What a program started with these arguments writes to its standard output.
Result<std::string> output_of(const std::vector<std::string>& arguments) {
  const auto failed = [] { return fail("fa.process", "bench: expected a process per method, found none"); };
  int ends[2];
  if (pipe(ends) != 0) return failed();
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execv("/proc/self/exe", argv.data());
    _exit(127);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t n; child > 0 && (n = read(ends[0], buffer, sizeof buffer)) != 0;) {
    if (n > 0) text.append(buffer, static_cast<size_t>(n));
    if (n < 0 && errno != EINTR) break;
  }
  close(ends[0]);
  if (child < 0) return failed();
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (stop_requested()) return fail(ErrorKind::kCancelled, "bench.cancelled", "stopped");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return fail("fa.process", "bench: {} failed", arguments[arguments.size() - 1]);
  return text;
}

Result<AttentionResult> measure(const AttentionBenchOptions& options, const MethodInfo& info, int n_tokens) {
  std::vector<std::string> arguments = {"ruvltra",
                                        "bench",
                                        "--fa",
                                        "--fa-tokens",
                                        std::to_string(n_tokens),
                                        "-t",
                                        std::to_string(options.n_threads),
                                        "-r",
                                        std::to_string(options.repetitions)};
  if (!options.isa.empty()) arguments.insert(arguments.end(), {"--isa", options.isa});
  arguments.insert(arguments.end(), {"--fa-method", info.id});
  ASSIGN_OR_RETURN(const std::string text, output_of(arguments));
  ASSIGN_OR_RETURN(const Json found, parse_json(text, "bench --fa-method"));
  AttentionResult result;
  result.method = &info;
  result.n_tokens = static_cast<size_t>(n_tokens);
  result.n_rows = found.value("rows", size_t{0});
  result.seconds = found.value("seconds", 0.0);
  result.peak_bytes = found.value("peak", uint64_t{0});
  result.scratch_bytes = found.value("scratch", uint64_t{0});
  return result;
}

// Of a process at this length, about.
uint64_t memory_for(AttentionMethod method, int n_tokens, int n_threads) {
  AttentionInput input;
  input.n_tokens = static_cast<size_t>(n_tokens);
  input.n_heads = kHeads;
  input.kv.n_kv_heads = kKvHeads;
  input.kv.d_head = kHeadSize;
  const uint64_t arrays = 2 * input.n_tokens * (kHeads + kKvHeads) * kHeadSize * sizeof(float);
  if (method == AttentionMethod::kNaive) return arrays;
  return arrays + AttentionBaseline::bytes_needed(method, input, n_threads);
}

// Prints results as they come; each length begins with flash.
class AttentionReport {
 public:
  explicit AttentionReport(const AttentionBenchOptions& options) : options_(options) {
    if (options_.form == "md") {
      print("| tokens | attention | seconds | x flash | peak memory | flash saves | scratch |\n");
      print("|---:|---|---:|---:|---:|---:|---:|\n");
    } else if (options_.form == "csv") {
      print("n_tokens,method,seconds,times_flash,peak_bytes,saved_by_flash_pct,scratch_bytes,n_rows\n");
    }
  }
  void add(const AttentionResult& result) {
    if (result.method->method == AttentionMethod::kFlash) flash_ = result;
    const double ratio = result.seconds / flash_.seconds;
    const double saved =
        100 * (1 - static_cast<double>(flash_.peak_bytes) / static_cast<double>(result.peak_bytes));
    const bool is_flash = result.method->method == AttentionMethod::kFlash;
    if (options_.form == "md") {
      const std::string sample =
          result.n_rows == result.n_tokens ? "" : fmt::format(" (extrapolated from {} rows)", result.n_rows);
      print("| {} | {}{} | {:.3f} | {:.2f} | {} | {} | {} |\n", result.n_tokens, result.method->label, sample,
            result.seconds, ratio, format_bytes(result.peak_bytes),
            is_flash ? "" : fmt::format("{:.0f} %", saved), format_bytes(result.scratch_bytes));
    } else if (options_.form == "csv") {
      print("{},{},{:.6f},{:.4f},{},{:.2f},{},{}\n", result.n_tokens, result.method->id, result.seconds,
            ratio, result.peak_bytes, saved, result.scratch_bytes, result.n_rows);
    } else {
      const Json row = {{"n_tokens", result.n_tokens},
                        {"method", result.method->id},
                        {"seconds", result.seconds},
                        {"times_flash", ratio},
                        {"peak_bytes", result.peak_bytes},
                        {"saved_by_flash_pct", saved},
                        {"scratch_bytes", result.scratch_bytes},
                        {"n_rows", result.n_rows}};
      if (options_.form == "jsonl") print("{}\n", to_json(row));
      if (options_.form == "json") list_.push_back(row);
    }
  }
  void end(std::string_view isa, int n_threads) {
    if (options_.form == "json") print("{}\n", to_json(list_));
    if (options_.form != "md") return;
    print(
        "\none layer: {} query heads, {} KV heads of {}, f16 KV, {} threads, {}; median of {}; memory is "
        "that "
        "of the whole process, B0 holds the scores of one head per thread\n",
        kHeads, kKvHeads, kHeadSize, n_threads, isa, options_.repetitions);
  }

 private:
  const AttentionBenchOptions& options_;
  AttentionResult flash_;
  Json list_ = Json::array();
};

}  // namespace

Result<int> bench_attention(const AttentionBenchOptions& options) {
  if (!options.method.empty()) return measure_here(options);
  ASSIGN_OR_RETURN(const KernelTable* kernels, kernel_table(options.isa));
  const int n_threads = resolve_threads(options.n_threads);
  AttentionReport report(options);
  ProgressBar bar("measuring", ProgressBar::Unit::kItems, !options.no_progress);
  uint64_t n_done = 0;
  for (const int n_tokens : options.lengths) {
    for (const MethodInfo& info : kMethods) {
      const uint64_t need = memory_for(info.method, n_tokens, n_threads);
      const auto have = available_memory();
      if (have && need > *have - *have / 20) {
        print_warning(fmt::format("{} at {} tokens left out: needs {}, have {}", info.label, n_tokens,
                                  format_bytes(need), format_bytes(*have)));
        if (info.method == AttentionMethod::kFlash) break;  // what the others are measured against
        continue;
      }
      ASSIGN_OR_RETURN(const AttentionResult result, measure(options, info, n_tokens));
      report.add(result);
      bar.update(++n_done, options.lengths.size() * std::size(kMethods));
    }
  }
  report.end(kernels->isa, n_threads);
  return kExitOk;
}

}  // namespace ruvltra

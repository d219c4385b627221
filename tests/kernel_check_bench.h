// Speed of the kernels: GB/s of panel bytes for one column, MAC per cycle and core for several.
#pragma once

#include <time.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/threads.h"
#include "kernel_check_weights.h"
#include "ops/matmul.h"

namespace ruvltra::kernel_check {

inline double seconds(clockid_t clock) {
  timespec now{};
  CHECK(clock_gettime(clock, &now) == 0);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Best of several runs. Work of the calling thread alone is timed with its CPU clock, so that other programs
// on the machine do not count; work of several threads with the wall clock.
template <class F>
double best_seconds(int n_runs, int n_threads, F&& f) {
  const clockid_t clock = n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  double best = 1e30;
  for (int i = 0; i < n_runs; ++i) {
    const double start = seconds(clock);
    f();
    best = std::min(best, seconds(clock) - start);
  }
  return best;
}

// Core clock, from a chain of dependent additions that takes one cycle each.
inline double measured_hz() {
  constexpr int kAdditions = 200'000'000;
  const double best = best_seconds(5, 1, [] {
    uint64_t x = 1;
    for (int i = 0; i < kAdditions / 8; ++i) {
      for (int j = 0; j < 8; ++j) {
        x += 3;
        asm volatile("" : "+r"(x));
      }
    }
  });
  return kAdditions / best;
}

// Bytes per second of a plain sum over `buffer`, each thread in 128 KiB pieces.
inline double read_bandwidth(ThreadPool& pool, std::span<const uint64_t> buffer) {
  constexpr size_t kPiece = (size_t{128} << 10) / sizeof(uint64_t);
  std::vector<uint64_t> sums(static_cast<size_t>(pool.n_threads()) * 8);
  const double best = best_seconds(7, pool.n_threads(), [&] {
    pool.parallel_for(buffer.size() / kPiece, [&](size_t piece, int thread) {
      uint64_t sum[8] = {};
      const uint64_t* data = buffer.data() + piece * kPiece;
      for (size_t i = 0; i < kPiece; i += 8) {
        for (size_t j = 0; j < 8; ++j) sum[j] += data[i + j];
      }
      for (const uint64_t value : sum) sums[static_cast<size_t>(thread) * 8] += value;
    });
  });
  asm volatile("" : : "r"(sums.data()) : "memory");
  return static_cast<double>(buffer.size_bytes()) / best;
}

// A matrix of about 96 MiB of panels: larger than the caches.
inline PackedMatrix bench_matrix(const FormatInfo& info, const KernelTable& table) {
  constexpr size_t kK = 2048, kBytes = size_t{96} << 20;
  WeightFile rows = make_file(info, 64, kK, WeightSet::kRandom, 5);
  const size_t n_rows = kBytes / rows.row_bytes() / 64 * 64;
  ThreadPool pool(2);
  const Ctx ctx{&pool, &table};
  auto packed = PackedMatrix::pack(ctx, "bench", info.type, n_rows, kK,
                                   [&](size_t begin, size_t n, std::span<uint8_t> out) -> Result<void> {
                                     for (size_t i = 0; i < n; ++i) {
                                       const uint8_t* row =
                                           rows.bytes.data() + (begin + i) % 64 * rows.row_bytes();
                                       std::memcpy(out.data() + i * rows.row_bytes(), row, rows.row_bytes());
                                     }
                                     return {};
                                   });
  CHECK(packed.has_value());
  return std::move(*packed);
}

// Random activations of n_cols columns for w, and memory for the product.
struct BenchColumns {
  std::vector<float> x, y;
  Activations activations;

  BenchColumns(const PackedMatrix& w, size_t n_cols)
      : x(n_cols * w.k()), y(n_cols * w.n_rows()), activations(*Activations::make(n_cols, w.k())) {
    Random random(9);
    for (float& value : x) value = random.uniform();
    activations.set(x.data(), n_cols, w.k());
  }
};

// One product as the engine runs it.
inline double matmul_seconds(const KernelTable& table, const PackedMatrix& w, size_t n_cols, int n_threads) {
  ThreadPool pool(n_threads);
  const Ctx ctx{&pool, &table};
  BenchColumns columns(w, n_cols);
  const MatmulTask task{&w, nullptr, false, columns.y.data(), w.n_rows()};
  return best_seconds(n_cols == 1 ? 25 : 2, n_threads, [&] {
    columns.activations.set(columns.x.data(), n_cols, w.k());
    matmul(ctx, columns.activations, {&task, 1}, false);
  });
}

// The kernel alone on one thread, in pieces of 32 panels, with a given walk.
inline double kernel_seconds(const KernelTable& table, const PackedMatrix& w, size_t n_cols,
                             const MatmulTuning& tuning) {
  constexpr size_t kPiece = 32;
  ThreadPool pool(1);
  const Ctx ctx{&pool, &table};
  BenchColumns columns(w, n_cols);
  const ActivationFormat format = activation_format(w.type(), false);
  columns.activations.prepare(ctx, format);
  MatmulArgs args;
  args.w = w.view();
  args.a = columns.activations.view(format);
  args.y = columns.y.data();
  args.y_stride = w.n_rows();
  args.tuning = tuning;
  const size_t n_panels = (w.n_rows() + kPanelRows - 1) / kPanelRows;
  return best_seconds(n_cols == 1 ? 25 : 2, 1, [&] {
    for (size_t panel = 0; panel < n_panels; panel += kPiece) {
      args.panel_begin = panel;
      args.panel_end = std::min(n_panels, panel + kPiece);
      quantized_kernel(table.matmul, weight_kind(w.type()), args.a.n_cols)(args);
    }
  });
}

inline constexpr size_t kBenchColumns[] = {1, 4, 5, 8, 16, 64, 512};

// On the best rung if `isa` is empty, all formats if `formats` is.
inline int bench(bool json, std::string_view isa = {}, std::span<const std::string_view> formats = {},
                 const MatmulTuning& tuning = {}) {
  const auto found = kernel_table(isa);
  if (!found.has_value()) {
    fmt::print(stderr, "kernel_check: {}\n", found.error().message);
    return 2;
  }
  const KernelTable& table = **found;
  const double hz = measured_hz();
  const int n_threads = physical_cores();
  auto buffer = AlignedBuffer<uint64_t>::make((size_t{192} << 20) / sizeof(uint64_t));
  CHECK(buffer.has_value());
  std::memset(buffer->data(), 1, buffer->size() * sizeof(uint64_t));
  ThreadPool one(1), all(n_threads);
  nlohmann::ordered_json out = {
      {"isa", table.isa}, {"clock_hz", hz}, {"threads", n_threads}, {"columns", kBenchColumns}};
  if (!json) {
    fmt::print(
        "isa {}, clock {:.2f} GHz (chain of dependent additions), one column from memory, read = plain sum\n",
        table.isa, hz / 1e9);
    fmt::print("{:6} {:^24} {:^24} MAC/cycle/core for columns\n", "", "GB/s, 1 thread",
               fmt::format("GB/s, {} threads", n_threads));
    fmt::print("{:6} {:>8} {:>8} {:>6} {:>8} {:>8} {:>6}", "", "gemv", "read", "%", "gemv", "read", "%");
    for (const size_t n_cols : kBenchColumns) fmt::print(" {:>6}", n_cols);
    fmt::print("\n");
  }
  for (const FormatInfo& info : kFormats) {
    if (!formats.empty() && std::ranges::count(formats, format_of(info.type).name) == 0) continue;
    const PackedMatrix w = bench_matrix(info, table);
    const auto n_bytes = static_cast<double>(w.n_bytes());
    // The reference is read next to each format: on a shared machine it moves.
    const double read[2] = {read_bandwidth(one, buffer->span()), read_bandwidth(all, buffer->span())};
    const double gemv[2] = {n_bytes / matmul_seconds(table, w, 1, 1),
                            n_bytes / matmul_seconds(table, w, 1, n_threads)};
    std::vector<double> mac_per_cycle;
    for (const size_t n_cols : kBenchColumns) {
      const double mac = static_cast<double>(w.n_rows()) * static_cast<double>(w.k() * n_cols);
      mac_per_cycle.push_back(mac / (kernel_seconds(table, w, n_cols, tuning) * hz));
    }
    const auto name = std::string(format_of(info.type).name);
    out["formats"][name] = {{"gemv_bytes_per_s_1", gemv[0]},
                            {"gemv_bytes_per_s_all", gemv[1]},
                            {"read_bytes_per_s_1", read[0]},
                            {"read_bytes_per_s_all", read[1]},
                            {"mac_per_cycle", mac_per_cycle}};
    if (json) continue;
    fmt::print("{:6}", name);
    for (const int i : {0, 1}) {
      fmt::print(" {:8.1f} {:8.1f} {:6.0f}", gemv[i] / 1e9, read[i] / 1e9, 100 * gemv[i] / read[i]);
    }
    for (const double value : mac_per_cycle) fmt::print(" {:6.1f}", value);
    fmt::print("\n");
    std::fflush(stdout);
  }
  if (json) fmt::print("{}\n", out.dump(1));
  return 0;
}

}  // namespace ruvltra::kernel_check

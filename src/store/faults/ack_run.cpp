// How long an acknowledgement takes.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/fail.h"
#include "store/faults/run_tools.h"
#include "store/faults/samples.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

double median_sync_ms(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "sync";
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (descriptor < 0) return 0;
  const std::string bytes(8'192, 's');
  std::vector<double> times;
  for (int i = 0; i < 100; ++i) {
    const auto begin = Clock::now();
    if (write(descriptor, bytes.data(), bytes.size()) < 0 || fdatasync(descriptor) != 0) break;
    times.push_back(milliseconds(Clock::now() - begin));
  }
  ::close(descriptor);
  return quantile(times, 0.5);
}

// Times of `n` trajectories each from so many writers.
Result<std::vector<double>> write_all(Store& store, uint64_t n, uint64_t n_writers, uint64_t first) {
  std::vector<std::vector<double>> times(n_writers);
  std::vector<Result<void>> results(n_writers);
  std::vector<std::thread> writers;
  for (uint64_t w = 0; w < n_writers; ++w) {
    writers.emplace_back([&, w] {
      for (uint64_t i = 0; i < n && results[w]; ++i) {
        const TrajectoryRecord record = sample_trajectory(first + i * n_writers + w);
        const auto begin = Clock::now();
        results[w] = store.put_trajectory(record);
        times[w].push_back(milliseconds(Clock::now() - begin));
      }
    });
  }
  for (auto& writer : writers) writer.join();
  std::vector<double> all;
  for (uint64_t w = 0; w < n_writers; ++w) {
    RETURN_IF_ERROR(results[w]);
    all.insert(all.end(), times[w].begin(), times[w].end());
  }
  return all;
}

}  // namespace

Result<AckReport> measure_acknowledgements(const CrashOptions& options) {
  constexpr uint64_t kWriters = 8;
  constexpr double kRowsEach = 4;  // one trajectory and three steps
  RETURN_IF_ERROR(empty_folder(options.folder));
  AckReport report;
  report.n = options.n;
  report.sync_p50_ms = median_sync_ms(options.folder);
  Store::Options store_options;
  store_options.backup_hours = 0;
  ASSIGN_OR_RETURN(const auto store, Store::open(options.folder / "store", store_options));
  ASSIGN_OR_RETURN(const auto alone, write_all(*store, options.n, 1, 0));
  report.p50_ms = quantile(alone, 0.5);
  report.p99_ms = quantile(alone, 0.99);
  const auto begin = Clock::now();
  ASSIGN_OR_RETURN(const auto together, write_all(*store, options.n, kWriters, options.n));
  const double seconds = milliseconds(Clock::now() - begin) / 1'000;
  report.p99_of_8_ms = quantile(together, 0.99);
  report.records_per_s = static_cast<double>(together.size()) / seconds;
  report.rows_per_s = kRowsEach * report.records_per_s;
  return report;
}

}  // namespace ruvltra

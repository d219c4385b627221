// The store keeps its word: kills, power cuts, damaged files and failing disks. `ruvltra eval bank-crash` is
// the same at volume; here RUVLTRA_CRASH_SCALE multiplies the counts.
#include <gtest/gtest.h>

#include <cstdlib>

#include "store/faults/crash_runs.h"
#include "store/faults/samples.h"

namespace ruvltra {
namespace {

CrashOptions scaled(uint64_t n, const ScratchFolder& folder) {
  const char* scale = std::getenv("RUVLTRA_CRASH_SCALE");
  CrashOptions options;
  options.n = static_cast<uint64_t>(static_cast<double>(n) * (scale != nullptr ? std::atof(scale) : 1));
  options.folder = folder.path() / "data";
  return options;
}

void expect_good(const Result<CrashReport>& report, const CrashOptions& options) {
  ASSERT_TRUE(report) << report.error().message;
  for (const std::string& text : report->failures) ADD_FAILURE() << text;
  EXPECT_TRUE(report->good());
  EXPECT_GE(report->n, options.n / 2);
  std::printf(
      "%s: %llu of seed %llu, %llu acknowledged, %llu detected, %llu harmless, slowest opening %.1f ms\n",
      report->name.c_str(), static_cast<unsigned long long>(report->n),
      static_cast<unsigned long long>(options.seed), static_cast<unsigned long long>(report->n_acknowledged),
      static_cast<unsigned long long>(report->n_detected),
      static_cast<unsigned long long>(report->n_harmless), report->worst_open_ms);
}

TEST(StoreCrash, KillNine) {
  const ScratchFolder folder("kill");
  const CrashOptions options = scaled(25, folder);
  const auto report = run_kills(options);
  expect_good(report, options);
  EXPECT_GT(report->n_acknowledged, options.n);  // it was at work when it was killed
}

TEST(StoreCrash, PowerCut) {
  const ScratchFolder folder("power");
  const CrashOptions options = scaled(300, folder);
  expect_good(run_power_cuts(options), options);
}

TEST(StoreCrash, DamagedFiles) {
  const ScratchFolder folder("damage");
  const CrashOptions options = scaled(300, folder);
  const auto report = run_damage(options);
  expect_good(report, options);
  EXPECT_GT(report->n_detected, options.n / 3);
}

TEST(StoreCrash, FailingDisk) {
  const ScratchFolder folder("errors");
  const CrashOptions options = scaled(160, folder);
  expect_good(run_io_errors(options), options);
}

}  // namespace
}  // namespace ruvltra

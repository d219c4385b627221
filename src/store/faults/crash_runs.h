// What is done to a store to see whether it keeps its word (docs/storage.md): the runs behind
// `ruvltra eval bank-crash` and tests/store_crash_test.cpp. Each is made from a seed and counts what it saw.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

struct CrashOptions {
  uint64_t seed = 1;
  uint64_t n = 100;
  std::filesystem::path folder;  // to work in; its contents go away
  // Called now and then with what is done and n; false stops the run.
  std::function<bool(uint64_t done, uint64_t total)> progress;
};

struct CrashReport {
  std::string name;
  uint64_t n = 0;               // kills, images, damaged files, points of failure
  uint64_t n_acknowledged = 0;  // changes whose acknowledgement was seen
  uint64_t n_lost = 0;          // acknowledged, and not there afterwards
  uint64_t n_half = 0;          // there in part, or with other contents
  uint64_t n_duplicate = 0;
  uint64_t n_refused = 0;   // stores that did not open although nothing was damaged
  uint64_t n_detected = 0;  // damage that was reported
  uint64_t n_harmless = 0;  // damage that changed nothing
  uint64_t n_silent = 0;    // damage that changed what is served, without a word
  double worst_open_ms = 0;
  std::vector<std::string> failures;  // the first ones, for people
  bool stopped = false;
  bool good() const { return n_lost + n_half + n_duplicate + n_refused + n_silent == 0 && failures.empty(); }
};

// kill -9 of a process that writes with three threads, at random times, again and again on the same files.
// The parent keeps a synced ledger of what was acknowledged. Forks: the caller has no other threads.
Result<CrashReport> run_kills(const CrashOptions& options);

// Power cuts: a workload is run once on a disk that remembers writes and syncs; then files as they could have
// been left at any moment are made, with 512-byte sectors that were not synced dropped, written in another
// order, or torn.
Result<CrashReport> run_power_cuts(const CrashOptions& options);

// Flipped bits (four in five), truncations and swapped pages, in files of a closed store and of one that was
// killed.
Result<CrashReport> run_damage(const CrashOptions& options);

// A call of the file system fails, the first, the second and so on until none is left, once and from then on,
// in each of four ways. `n` bounds the number of points: every second, third, ... one is taken.
Result<CrashReport> run_io_errors(const CrashOptions& options);

struct AckReport {
  uint64_t n = 0;
  double p50_ms = 0, p99_ms = 0;           // of one writer
  double rows_per_s = 0, p99_of_8_ms = 0;  // of eight writers; steps are rows, too
  double records_per_s = 0;
  double sync_p50_ms = 0;  // of fdatasync alone on the same disk
};
// How long an acknowledgement takes.
Result<AckReport> measure_acknowledgements(const CrashOptions& options);

}  // namespace ruvltra

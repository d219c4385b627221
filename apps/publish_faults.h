// What is done to the publishing of adapters to see whether it keeps its word: kill -9 in the middle of it,
// and many publishers who expect the same number. `ruvltra eval sona-rollback` runs both.
#pragma once

#include <cstdint>
#include <filesystem>

#include "store/faults/crash_runs.h"

namespace ruvltra {

// A process publishes adapter after adapter, every seventh time by a rollback, until it is killed at a random
// moment; then what it left is opened. n_lost: acknowledged generations that are not there; n_half: live, and
// neither the last acknowledged nor the one after it, or with other contents. Forks: the caller has no other
// threads.
Result<CrashReport> run_publish_kills(const CrashOptions& options);

struct RaceReport {
  uint64_t n_rounds = 0, n_publishers = 0;
  uint64_t n_one_winner =
      0;  // rounds with exactly one, whose adapter is live, and store.conflict for the rest
  uint64_t n_same_after = 0;  // generations found again after reopening, with the winner's contents
};
// In each round all publishers start at once with the same expected number.
Result<RaceReport> run_publish_races(const std::filesystem::path& folder, uint64_t seed, uint64_t n_rounds,
                                     uint64_t n_publishers);

}  // namespace ruvltra

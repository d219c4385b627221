// What the runs of crash_runs.h share.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/faults/crash_runs.h"
#include "store/faults/workload.h"
#include "store/store_parts.h"

namespace ruvltra {

// What one writer's part of a store must be: the first `k` changes.
class Ledger {
 public:
  Ledger(uint64_t seed, int writer) : workload_(seed, writer) {}
  const CrashWorkload& workload() const { return workload_; }
  uint64_t k() const { return k_; }
  const Content& content() const { return content_; }
  void advance_to(uint64_t k);

  // Moves on to what the store holds: at least `acknowledged` changes and at most `begun`. What is wrong goes
  // into the report.
  void check(Store& store, uint64_t acknowledged, uint64_t begun, const std::string& where,
             CrashReport& report);

 private:
  CrashWorkload workload_;
  uint64_t k_ = 0;
  Content content_;
};

void add_failure(CrashReport& report, std::string text);
Store::Options crash_options();
Result<std::unique_ptr<Store>> open_timed(const std::filesystem::path& folder, const StoreParts& parts,
                                          CrashReport& report);
Result<void> empty_folder(const std::filesystem::path& folder);
Result<std::string> read_whole(const std::filesystem::path& file);
// Not synced.
Result<void> write_whole(const std::filesystem::path& file, std::string_view bytes);
// Runs child(write end of a pipe), which must not return, in a process of its own, and kills that after
// `delay`; listen(read end) hears it until then. A child that ends by itself is a failure of the report.
// Errors: faults.pipe, faults.fork, and those of listen.
Result<void> kill_child(std::chrono::microseconds delay, CrashReport& report,
                        const std::function<void(int)>& child,
                        const std::function<Result<void>(int)>& listen);
// Whether to go on.
bool tell(const CrashOptions& options, CrashReport& report, uint64_t done);

}  // namespace ruvltra

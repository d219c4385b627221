// Calls of the file system that fail.
#include <array>

#include "base/fail.h"
#include "store/faults/fault_vfs.h"
#include "store/faults/run_tools.h"

namespace ruvltra {
namespace {

constexpr uint64_t kChanges = 26;

class ErrorRun {
 public:
  explicit ErrorRun(const CrashOptions& options) : options_(options), vfs_(false) {
    report_.name = "I/O errors";
    parts_.vfs = vfs_.name();
    parts_.checkpoint_pages = 30;
    parts_.reopen_pause = std::chrono::milliseconds(0);
  }

  Result<CrashReport> run() {
    constexpr std::array kFaults = {DiskFault::kIoError, DiskFault::kShortWrite, DiskFault::kDiskFull,
                                    DiskFault::kSyncError};
    const uint64_t each = std::max<uint64_t>(1, options_.n / (2 * kFaults.size()));
    for (const DiskFault fault : kFaults) {
      for (const bool sticky : {false, true}) {
        // How many points there are is known after they have been counted once.
        ASSIGN_OR_RETURN(const uint64_t n_points, count_points(fault));
        const uint64_t stride = std::max<uint64_t>(1, n_points / each);
        for (uint64_t n = 1 + options_.seed % stride; n <= n_points; n += stride) {
          RETURN_IF_ERROR(fail_once(fault, n, sticky));
          ++report_.n;
          if (!tell(options_, report_, report_.n)) return std::move(report_);
        }
      }
    }
    return std::move(report_);
  }

 private:
  Result<uint64_t> count_points(DiskFault fault) {
    RETURN_IF_ERROR(empty_folder(options_.folder));
    constexpr uint64_t kNever = ~uint64_t{0};
    vfs_.fail_at(fault, kNever, false);
    const CrashWorkload workload(options_.seed, 0);
    {
      ASSIGN_OR_RETURN(const auto store, open_store(options_.folder, crash_options(), parts_));
      for (uint64_t k = 0; k < kChanges; ++k) RETURN_IF_ERROR(workload.apply(*store, k));
    }
    const uint64_t n = kNever - vfs_.countdown();
    vfs_.fail_at(DiskFault::kNone, 0, false);
    return n;
  }

  static bool is_typed(const Error& error) {
    return error.id == "store.disk_full" || error.id == "store.unavailable";
  }

  Result<void> fail_once(DiskFault fault, uint64_t n, bool sticky) {
    RETURN_IF_ERROR(empty_folder(options_.folder));
    const std::string where =
        fmt::format("fault {} at call {}{}", static_cast<int>(fault), n, sticky ? " and from then on" : "");
    Ledger ledger(options_.seed, 0);
    vfs_.fail_at(fault, n, sticky);
    auto store = open_store(options_.folder, crash_options(), parts_);
    if (!store) {
      if (!is_typed(store.error())) add_failure(report_, where + ": open: " + store.error().message);
      vfs_.fail_at(DiskFault::kNone, 0, false);
      store = open_store(options_.folder, crash_options(), parts_);
      if (!store) {
        ++report_.n_refused;
        add_failure(report_, where + ": open again: " + store.error().message);
        return {};
      }
    }
    uint64_t k = 0;
    bool failed = false;
    for (; k < kChanges && !failed; ++k) {
      const auto done = ledger.workload().apply(**store, k);
      failed = !done;
      if (done) continue;
      if (!is_typed(done.error())) {
        add_failure(report_,
                    fmt::format("{}: change {}: {}: {}", where, k, done.error().id, done.error().message));
      }
    }
    if (failed) --k;  // it may be there, or not
    vfs_.fail_at(DiskFault::kNone, 0, false);
    report_.n_acknowledged += k;
    // The next operation works, and finds everything.
    if (failed) {
      ledger.check(**store, k, k + 1, where + ", afterwards", report_);
      const uint64_t next = ledger.k();
      if (const auto again = ledger.workload().apply(**store, next); !again) {
        add_failure(report_, fmt::format("{}: the next change: {}", where, again.error().message));
        return {};
      }
      k = next + 1;
    }
    store = tl::unexpected(Error{});  // closes
    auto after = open_timed(options_.folder, {}, report_);
    if (!after) {
      ++report_.n_refused;
      add_failure(report_, where + ": open after all: " + after.error().message);
      return {};
    }
    for (const DamagedRow& row : (*after)->damaged()) {
      ++report_.n_half;
      add_failure(report_, fmt::format("{}: {} row {}: {}", where, row.table, row.row, row.what));
    }
    ledger.check(**after, k, k, where + ", opened again", report_);
    return {};
  }

  const CrashOptions& options_;
  CrashReport report_;
  FaultVfs vfs_;
  StoreParts parts_;
};

}  // namespace

Result<CrashReport> run_io_errors(const CrashOptions& options) { return ErrorRun(options).run(); }

}  // namespace ruvltra

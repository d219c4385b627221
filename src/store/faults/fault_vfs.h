// A file system for SQLite that can be made to fail, and that remembers what was written and what was synced.
// For tests and the crash evaluation only.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace ruvltra {

// One call that changed a file.
struct DiskEvent {
  enum class Kind : uint8_t { kWrite, kTruncate, kSync, kDelete } kind = Kind::kWrite;
  std::string file;     // its name without the folder
  uint64_t offset = 0;  // of a write; the new size of a truncation
  std::string bytes;    // of a write
};

enum class DiskFault : uint8_t {
  kNone,
  kIoError,     // any call: read, write, truncate, sync, open, delete, size
  kShortWrite,  // half of the bytes are written, then an I/O error
  kDiskFull,    // a write
  kSyncError,   // a sync
};

// Thread safety: all functions from any thread.
class FaultVfs {
 public:
  // `sync_for_real` off: syncs are counted and logged, but cost nothing.
  explicit FaultVfs(bool sync_for_real);
  ~FaultVfs();
  FaultVfs(const FaultVfs&) = delete;
  FaultVfs& operator=(const FaultVfs&) = delete;
  const char* name() const { return name_.c_str(); }

  // The n-th call from now on that such a fault can hit fails (counted from 1), and with `sticky` all after
  // it.
  void fail_at(DiskFault fault, uint64_t n, bool sticky);
  uint64_t n_fired() const;
  uint64_t countdown() const;  // calls until it fails
  uint64_t n_opened() const;   // databases

  void record(bool on);
  size_t n_events() const;
  std::vector<DiskEvent> take_events();

  struct Hooks;  // the C side

 private:
  bool fires(DiskFault kind_of_call);
  void count_opened();
  void log(DiskEvent event);

  std::string name_;
  std::unique_ptr<Hooks> hooks_;
  const bool sync_for_real_;
  mutable std::mutex mutex_;
  DiskFault fault_ = DiskFault::kNone;
  uint64_t countdown_ = 0, n_fired_ = 0, n_opened_ = 0;
  bool sticky_ = false, recording_ = false;
  std::vector<DiskEvent> events_;
};

}  // namespace ruvltra

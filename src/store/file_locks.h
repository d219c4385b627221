// Locks between processes, as flock() on files of the data directory. They vanish with the process.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "ruvltra/error.h"

namespace ruvltra {

class FileLock {
 public:
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;

 protected:
  explicit FileLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

// One writer per data directory. Error: store.locked names the owner's process id.
class OwnerLock : public FileLock {
 public:
  static Result<OwnerLock> take(const std::filesystem::path& folder);

 private:
  using FileLock::FileLock;
};

// The database file changes only during a checkpoint: its writer takes this lock for that time, and whoever
// copies the file takes it, too.
class CheckpointLock : public FileLock {
 public:
  // nullopt: somebody else has it; with `wait`, only after 10 s (store.locked).
  static Result<std::optional<CheckpointLock>> take(const std::filesystem::path& file, bool wait);
  static Result<CheckpointLock> share(const std::filesystem::path& file);

 private:
  using FileLock::FileLock;
};

}  // namespace ruvltra

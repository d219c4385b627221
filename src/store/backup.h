// Copies of the database: making one while changes go on, keeping the last ones, putting one back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "ruvltra/error.h"
#include "store/files.h"
#include "store/sqlite.h"
#include "store/store.h"

namespace ruvltra {

inline constexpr size_t kKeptBackups = 2;

// SQLite's stepped copy. Runs on the connection that makes the changes, so that they reach the copy, too.
class BackupRun {
 public:
  static Result<BackupRun> start(Database& source, const std::filesystem::path& file);
  ~BackupRun();
  BackupRun(BackupRun&& other) noexcept;
  BackupRun& operator=(BackupRun&& other) noexcept;
  Result<bool> step(int n_pages);  // true: complete, and the file is closed

 private:
  BackupRun() = default;
  void end();
  struct State;
  std::unique_ptr<State> state_;
};

// A copy in the making, under a name of its own until it is complete, checked and synced.
class BackupFile {
 public:
  static Result<BackupFile> create(const std::filesystem::path& file);
  ~BackupFile();
  BackupFile(BackupFile&& other) noexcept;
  BackupFile& operator=(BackupFile&& other) noexcept;
  const std::filesystem::path& temporary() const { return temporary_; }
  // Reads it back as a store does, every row; then syncs and renames. Error: store.backup.
  Result<void> commit();

 private:
  BackupFile(std::filesystem::path file, std::filesystem::path temporary)
      : file_(std::move(file)), temporary_(std::move(temporary)) {}
  std::filesystem::path file_, temporary_;
};

struct BackupEntry {
  std::filesystem::path file;
  int64_t time_us = 0;
};
std::vector<BackupEntry> list_backups(const std::filesystem::path& folder);  // newest first
Result<std::filesystem::path> new_backup_name(const std::filesystem::path& folder);
void remove_old_backups(const std::filesystem::path& folder, size_t n_kept);
void remove_set_aside(const std::filesystem::path& folder);  // learn.db.damaged-* and the like
// Copies that a killed process did not finish. *Requires*: this process owns the data directory.
void remove_unfinished(const StoreFiles& files);

// The bytes of learn.db, not in the middle of a checkpoint.
Result<std::vector<uint8_t>> copy_database(const StoreFiles& files);
// restore_store() without the lock, which the caller holds.
Result<RestoreReport> restore_backup(const std::filesystem::path& folder);

}  // namespace ruvltra

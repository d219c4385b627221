// The files of a data directory that belong to the store.
#pragma once

#include <filesystem>

namespace ruvltra {

struct StoreFiles {
  std::filesystem::path folder;
  std::filesystem::path database() const { return folder / "learn.db"; }
  std::filesystem::path wal() const { return folder / "learn.db-wal"; }
  std::filesystem::path sequence() const { return folder / "learn.seq"; }
  std::filesystem::path checkpoint_lock() const { return folder / "checkpoint.lock"; }
  std::filesystem::path backups() const { return folder / "backups"; }
};

}  // namespace ruvltra

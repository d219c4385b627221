// The sequence number of the last commit, beside the database: what tells a WAL whose end was damaged from
// one that was never longer. SQLite takes both for the same and says nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "ruvltra/error.h"

namespace ruvltra {

// 40 bytes: "RVSEQ001", the number, and the first 24 bytes of the SHA-256 of both. Written after each commit
// and before its acknowledgement, and not synced: after a kill it is exact, after a power cut it may be
// older, and never newer, than what was committed.
class HighWater {
 public:
  HighWater() = default;
  ~HighWater();
  HighWater(HighWater&& other) noexcept;
  HighWater& operator=(HighWater&& other) noexcept;

  static Result<HighWater> open(const std::filesystem::path& file);
  // nullopt: none was written yet, or it is damaged.
  std::optional<int64_t> read() const;
  bool write(int64_t sequence);  // false: the write failed, and the file claims less than it could

 private:
  int descriptor_ = -1;
};

}  // namespace ruvltra

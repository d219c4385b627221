// Committing groups of changes: all or nothing on the disk, each one alone in what it reports.
#include <algorithm>
#include <new>

#include "base/fail.h"
#include "store/core.h"

namespace ruvltra {
namespace {

// The file or the disk failed, not the one change that met it: its whole group is void.
bool spoils_group(const Error& error) {
  return error.id == "store.unavailable" || error.id == "store.disk_full" || error.id == "store.corrupt" ||
         error.id == "store.locked";
}

}  // namespace

Result<void> StoreCore::write(TableId id, Row& row, const RowSum* replaced) {
  return table(id).write(row, ++sequence_, replaced);
}

uint32_t StoreCore::tenant_number(std::string_view tenant) {
  const auto found = tenant_numbers_.find(tenant);
  if (found != tenant_numbers_.end()) return found->second;
  const auto number = static_cast<uint32_t>(tenants_.size());
  tenants_.emplace_back(tenant);
  tenant_numbers_.emplace(tenant, number);
  return number;
}

std::optional<uint32_t> StoreCore::find_tenant(std::string_view tenant) const {
  const auto found = tenant_numbers_.find(tenant);
  if (found == tenant_numbers_.end()) return std::nullopt;
  return found->second;
}

void StoreCore::undo_all(size_t down_to) {
  while (undo_.size() > down_to) {
    undo_.back()();
    undo_.pop_back();
  }
}

Result<void> StoreCore::run_change(Change& change) {
  try {
    return change(*this);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kMemory, "store.memory", "no memory for this change");
  }
}

std::vector<Result<void>> StoreCore::commit(std::vector<Change>& changes) {
  std::vector<Result<void>> results = commit_once(changes);
  const bool full = std::all_of(results.begin(), results.end(), [](const Result<void>& result) {
    return !result && result.error().id == "store.disk_full";
  });
  if (!full || changes.size() == 1) return results;
  // Smaller ones may still fit.
  for (size_t i = 0; i < changes.size(); ++i) results[i] = commit_once(std::span(changes).subspan(i, 1))[0];
  return results;
}

std::vector<Result<void>> StoreCore::commit_once(std::span<Change> changes) {
  std::vector<Result<void>> results(changes.size());
  if (!writable_) {
    for (auto& result : results) {
      result = fail(ErrorKind::kIo, "store.unavailable", "the store takes no changes: {}", why_not_);
    }
    return results;
  }
  const auto states = [this] {
    std::vector<TableState> all;
    for (const Table& table : tables_) all.push_back(table.state);
    return all;
  };
  const auto restore = [this](const std::vector<TableState>& all) {
    for (size_t i = 0; i < all.size(); ++i) tables_[i].state = all[i];
  };
  const std::vector<TableState> before_group = states();
  const int64_t sequence_before = sequence_;
  undo_.clear();

  size_t n_good = 0;
  const auto run_group = [&]() -> Result<void> {
    RETURN_IF_ERROR(database_.execute("BEGIN IMMEDIATE"));
    for (size_t i = 0; i < changes.size(); ++i) {
      const std::vector<TableState> before = states();
      const size_t mark = undo_.size();
      RETURN_IF_ERROR(database_.execute("SAVEPOINT one"));
      results[i] = run_change(changes[i]);
      if (results[i]) {
        ++sequence_;  // also where rows only went
        ++n_good;
      } else {
        if (spoils_group(results[i].error()) || !database_.in_transaction()) return results[i];
        RETURN_IF_ERROR(database_.execute("ROLLBACK TO one"));
        undo_all(mark);
        restore(before);
      }
      RETURN_IF_ERROR(database_.execute("RELEASE one"));
    }
    if (n_good == 0) return database_.execute("ROLLBACK");
    RETURN_IF_ERROR(write_accounts());
    return database_.execute("COMMIT");
  };
  if (const auto done = run_group(); !done) {
    if (database_.in_transaction() && !database_.execute("ROLLBACK")) must_reopen_ = true;
    undo_all(0);
    restore(before_group);
    sequence_ = sequence_before;
    note_commit_error(done.error());
    // Earlier changes of the group are undone as well; later ones were never begun.
    for (auto& result : results) {
      if (result || result.error().id == done.error().id) result = done;
    }
    return results;
  }
  undo_.clear();
  if (n_good == 0) return results;
  high_water_.write(sequence_);
  ++n_commits_;
  n_operations_ += n_good;
  return results;
}

// After a failed sync nobody knows what is on the disk: the connection is given up, and a new one reads it.
void StoreCore::note_commit_error(const Error& error) {
  if (error.id == "store.corrupt") {
    writable_ = false;
    why_not_ = error.message;
  } else if (error.id != "store.disk_full") {
    must_reopen_ = true;
    why_not_ = error.message;
  }
}

Result<void> StoreCore::checkpoint(bool truncate) {
  if (!writable_ || files_.folder.empty()) return {};
  ASSIGN_OR_RETURN(const std::optional<CheckpointLock> lock,
                   CheckpointLock::take(files_.checkpoint_lock(), truncate));
  if (!lock) return {};  // somebody is copying the file; the next checkpoint will do
  if (const auto done = database_.checkpoint(truncate); !done) {
    note_commit_error(done.error());
    return done;
  }
  ++n_checkpoints_;
  return {};
}

Result<void> StoreCore::scrub() {
  if (const auto done = database_.execute("VACUUM"); !done) {
    note_commit_error(done.error());
    return done;
  }
  return checkpoint(true);
}

Result<void> StoreCore::begin_backup(const std::filesystem::path& file) {
  ASSIGN_OR_RETURN(backup_, BackupRun::start(database_, file));
  return {};
}

Result<bool> StoreCore::step_backup() {
  constexpr int kSlice = 256;
  if (!backup_) {
    return fail(ErrorKind::kIo, "store.unavailable", "backup: interrupted, the store was opened again");
  }
  auto done = backup_->step(kSlice);
  if (!done || *done) backup_.reset();
  return done;
}

Result<void> StoreCore::close() {
  backup_.reset();
  tables_.clear();
  std::optional<CheckpointLock> lock;  // closing is a checkpoint, too
  if (!files_.folder.empty()) {
    ASSIGN_OR_RETURN(lock, CheckpointLock::take(files_.checkpoint_lock(), true));
  }
  return database_.close();
}

void StoreCore::fill(StoreStats& stats) const {
  stats.n_trajectories = trajectories_.size();
  stats.n_patterns = patterns_.size();
  stats.n_feedback = feedback_.size();
  stats.n_decisions = decisions_.size();
  stats.n_generations = 0;
  for (const auto& [key, scope] : scopes_) stats.n_generations += scope.generations.size();
  stats.n_commits += n_commits_;
  stats.n_operations += n_operations_;
  stats.n_checkpoints += n_checkpoints_;
  stats.n_quarantined = static_cast<uint64_t>(table(kQuarantine).state.count);
  stats.sequence = static_cast<uint64_t>(sequence_);
  stats.pattern_checksum = 0;
  const RowSum& sums = table(kPattern).state.sums;
  for (size_t i = 0; i < 8; ++i) stats.pattern_checksum |= static_cast<uint64_t>(sums[i]) << 8 * i;
  stats.pattern_vectors = pattern_vectors_;
  stats.writable = writable_;
  stats.why_not = writable_ ? "" : why_not_;
}

}  // namespace ruvltra

// Durable records on SQLite: the truth of everything that is learned. Every index is made from it and can be
// thrown away (docs/storage.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/record_id.h"
#include "ruvltra/error.h"
#include "store/records.h"

namespace ruvltra {

// A row that failed its checksum: named, kept aside, never served.
struct DamagedRow {
  std::string table;
  int64_t row = 0;
  std::string what;
};

struct StoreStats {
  uint64_t n_trajectories = 0, n_patterns = 0, n_feedback = 0, n_decisions = 0, n_generations = 0;
  uint64_t n_commits = 0, n_operations = 0, n_checkpoints = 0;
  uint64_t n_quarantined = 0;
  uint64_t sequence = 0;          // grows with every committed change
  uint64_t pattern_checksum = 0;  // XOR of the checksums of the pattern rows: changes with every use of one
  uint64_t pattern_vectors = 0;   // XOR over (id, space, embedding): which set an index was made of
  size_t file_bytes = 0;
  bool writable = true;
  std::string why_not;  // where it is not
};

// Thread safety: all functions from any thread. One thread of the store's own holds the only connection and
// does all reading and writing; calls wait for it. Writes are committed in groups and return after the
// commit. Errors: store.* - store.busy (the bounded queue is full), store.disk_full, store.unavailable (an
// I/O error; the store reopens itself), store.corrupt (the file), store.damaged (the one record that was
// asked for), store.not_found, store.conflict, store.full, store.bad_record, store.too_large, store.import,
// store.newer_schema, store.locked, store.read_only.
class Store {
 public:
  struct Options {
    size_t trajectory_capacity = 50'000;  // the oldest go first
    size_t pattern_capacity = 50'000;     // a hard bound: put_patterns() beyond it is store.full
    size_t feedback_capacity = 100'000;   // the oldest go first
    size_t decision_capacity = 100'000;   // the oldest go first
    size_t queue = 4096;
    size_t group_operations = 128;  // commit after so many,
    double group_ms = 4;            // or so long after the first
    bool must_exist = false;
    bool read_only = false;  // takes no lock and writes nothing; reads the state of the last checkpoint
    // A damaged file is set aside, and the last good backup takes its place: damaged() says so.
    bool recover = false;
    int backup_hours = 24;  // a backup into backups/ so often, if anything has changed; 0 = never
  };
  // Makes the directory (0700) and learn.db (0600) if missing, takes the lock file, recovers, checks.
  static Result<std::unique_ptr<Store>> open(const std::filesystem::path& folder, const Options& options);
  static Result<std::unique_ptr<Store>> open(const std::filesystem::path& folder);
  virtual ~Store() = default;

  // Trajectories. The same id again replaces the record of the same tenant; of another: store.conflict.
  virtual Result<void> put_trajectory(const TrajectoryRecord& record) = 0;
  // `done` is called from the store's thread after the commit, or with the error.
  virtual Result<void> put_trajectory_async(TrajectoryRecord record,
                                            std::function<void(Result<void>)> done) = 0;
  virtual Result<TrajectoryRecord> trajectory(std::string_view tenant, const TrajectoryId& id) = 0;
  // In order of age; false from `visit` ends it. tenant empty: all. Visitors run on the caller's thread and
  // may call the store; records that are changed meanwhile may or may not be seen. Damaged ones are left out.
  virtual Result<void> each_trajectory(std::string_view tenant,
                                       const std::function<bool(const TrajectoryRecord&)>& visit) = 0;

  // Patterns. The whole call is one transaction.
  virtual Result<void> put_patterns(std::span<const PatternRecord> records) = 0;  // inserts or replaces by id
  virtual Result<PatternRecord> pattern(const PatternId& id) = 0;
  virtual Result<void> each_pattern(const std::function<bool(const PatternRecord&)>& visit) = 0;
  // Removes and puts in one transaction: eviction with insertion, dedupe, pruning. The row count after it may
  // not exceed pattern_capacity (store.full, nothing is changed).
  virtual Result<void> change_patterns(std::span<const PatternId> remove,
                                       std::span<const PatternRecord> put) = 0;
  // Replaces the whole clustering and the patterns' cluster numbers in one transaction.
  virtual Result<void> replace_clusters(std::span<const ClusterRecord> clusters,
                                        std::span<const std::pair<PatternId, int32_t>> members) = 0;
  virtual Result<std::vector<ClusterRecord>> clusters() = 0;

  // Feedback. False: the same feedback was there already. Error: store.conflict if it contradicts it.
  virtual Result<bool> put_feedback(const FeedbackRecord& record) = 0;
  virtual Result<void> each_feedback(std::string_view tenant,
                                     const std::function<bool(const FeedbackRecord&)>& visit) = 0;

  // Decisions of the router.
  virtual Result<void> put_decision(const DecisionRecord& record) = 0;
  virtual Result<void> put_decision_async(DecisionRecord record, std::function<void(Result<void>)> done) = 0;
  virtual Result<DecisionRecord> decision(std::string_view tenant, const DecisionId& id) = 0;
  // The outcome and the feedback that told it, in one transaction. False: the same feedback was there
  // already.
  virtual Result<bool> put_outcome(const DecisionRecord& with_outcome, const FeedbackRecord& feedback) = 0;
  virtual Result<void> each_decision(std::string_view tenant,
                                     const std::function<bool(const DecisionRecord&)>& visit) = 0;
  virtual Result<size_t> expire_decisions(int64_t before_us) = 0;
  // Trajectories whose expires_us is not 0 and not after `now_us`.
  virtual Result<size_t> expire_trajectories(int64_t now_us) = 0;

  // Generations. Compare-and-set: fails with store.conflict unless `expected` is the scope's live number (0:
  // none yet). The number of the returned record is the next one of the scope; the last 1,024 are kept.
  virtual Result<GenerationRecord> publish(const GenerationRecord& next, uint64_t expected) = 0;
  virtual Result<std::optional<GenerationRecord>> live(std::string_view tenant, std::string_view session) = 0;
  virtual Result<std::vector<GenerationRecord>> history(std::string_view tenant, std::string_view session,
                                                        size_t n) = 0;
  // Tenant and session of every scope that has generations.
  virtual Result<std::vector<std::pair<std::string, std::string>>> scopes() = 0;

  // Named values: the router's weights, the agent registry, counters. At most 16 MiB each. Names that begin
  // with "tenant/NAME/" (or "tenant/NAME/session/SESSION/") are that tenant's and are deleted with its data.
  virtual Result<void> put_value(std::string_view name, std::span<const uint8_t> bytes) = 0;
  virtual Result<std::optional<std::vector<uint8_t>>> value(std::string_view name) = 0;

  // Everything of a tenant (or of one of its sessions) goes: from the file's free pages, the WAL, quarantine,
  // files that were set aside and backups as well, which are made anew. Adapter files are their owner's work.
  virtual Result<DeleteReport> delete_data(std::string_view tenant,
                                           std::optional<std::string> session = {}) = 0;

  // Reads and checks every row; damaged ones go to quarantine.
  virtual Result<std::vector<DamagedRow>> verify() = 0;
  virtual std::vector<DamagedRow> damaged() const = 0;  // found so far
  virtual Result<void> checkpoint() = 0;
  // A consistent copy, read back and checked before it gets its name. Changes go on meanwhile.
  virtual Result<void> backup(const std::filesystem::path& file) = 0;
  // The same into backups/ of the data directory, of which the last two are kept.
  virtual Result<std::filesystem::path> backup_now() = 0;

  // JSONL, one record a line, the table's name in "kind": trajectories, patterns, feedback, decisions. tenant
  // empty: all. import checks every line first and changes nothing if one is wrong: store.import names it.
  virtual Result<size_t> export_jsonl(std::string_view tenant,
                                      const std::function<Result<void>(std::string_view line)>& sink) = 0;
  virtual Result<size_t> import_jsonl(std::string_view text, std::string_view as_tenant) = 0;

  virtual StoreStats stats() const = 0;
};

struct RestoreReport {
  std::filesystem::path backup;     // that took the file's place; empty: there was none, the store is empty
  std::filesystem::path set_aside;  // the damaged file
  int64_t time_us = 0;              // when the backup was made
  std::string text() const;         // one line for people
};
// For a store that open() calls store.corrupt: sets the file aside and puts the last good backup in its
// place. Errors: store.locked, store.unavailable.
Result<RestoreReport> restore_store(const std::filesystem::path& folder);

}  // namespace ruvltra

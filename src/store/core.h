// What the store's thread does: every table, the maps that find a row by its id, and the accounts that must
// agree with the rows. store.cpp puts a queue and a thread around it.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/backup.h"
#include "store/codec.h"
#include "store/file_locks.h"
#include "store/files.h"
#include "store/high_water.h"
#include "store/jsonl.h"
#include "store/sqlite.h"
#include "store/store.h"
#include "store/table.h"

namespace ruvltra {

// Thread safety: none. *Invariants* between calls: no transaction is open; the maps name exactly the rows
// that are in the tables; table states equal what meta holds.
class StoreCore {
 public:
  using Files = StoreFiles;

  // Recovers, migrates, reads and checks every row. Errors: store.corrupt, store.newer_schema, store.locked,
  // store.disk_full, store.unavailable.
  static Result<std::unique_ptr<StoreCore>> open(const Files& files, const Store::Options& options,
                                                 const char* vfs);
  // The same on a copy in memory, read-only.
  static Result<std::unique_ptr<StoreCore>> open_copy(std::span<const uint8_t> bytes,
                                                      const std::filesystem::path& name,
                                                      const Store::Options& options);

  // --- Groups of changes. All of a group are committed by one sync; each is undone alone if it fails.
  using Change = std::function<Result<void>(StoreCore&)>;
  // One result per change, in order; nothing is acknowledged that is not on the disk.
  std::vector<Result<void>> commit(std::vector<Change>& changes);
  // After an I/O error of a commit the connection must not be used again: its owner opens a new one.
  bool must_reopen() const { return must_reopen_; }

  // --- Changes: called inside commit() only.
  Result<void> put_trajectory(const TrajectoryRecord& record);
  Result<void> change_patterns(std::span<const PatternId> remove, std::span<const PatternRecord> put);
  Result<void> replace_clusters(std::span<const ClusterRecord> clusters,
                                std::span<const std::pair<PatternId, int32_t>> members);
  Result<bool> put_feedback(const FeedbackRecord& record);
  Result<void> put_decision(const DecisionRecord& record);
  Result<size_t> expire_decisions(int64_t before_us);
  Result<size_t> expire_trajectories(int64_t now_us);
  Result<GenerationRecord> publish(GenerationRecord next, uint64_t expected);
  Result<void> put_value(std::string_view name, std::span<const uint8_t> bytes);
  Result<DeleteReport> delete_data(std::string_view tenant, const std::optional<std::string>& session);
  // What is new of the batch. Ids that belong to another tenant are replaced by others, the same each time.
  Result<size_t> import(ImportBatch& batch, std::string_view tenant);

  // --- Reads. Damaged rows are left out of lists and reported; asked for alone they are store.corrupt.
  Result<TrajectoryRecord> trajectory(std::string_view tenant, const TrajectoryId& id);
  Result<PatternRecord> pattern(const PatternId& id);
  Result<DecisionRecord> decision(std::string_view tenant, const DecisionId& id);
  // Records with ids after `after` in order, until they are many or long; empty: there are no more.
  Result<std::vector<TrajectoryRecord>> trajectories(std::string_view tenant, RecordId after);
  Result<std::vector<PatternRecord>> patterns(RecordId after);
  Result<std::vector<FeedbackRecord>> feedback(std::string_view tenant, RecordId after);
  Result<std::vector<DecisionRecord>> decisions(std::string_view tenant, RecordId after);
  Result<std::vector<ClusterRecord>> clusters();
  Result<std::optional<GenerationRecord>> live(std::string_view tenant, std::string_view session);
  Result<std::vector<GenerationRecord>> history(std::string_view tenant, std::string_view session, size_t n);
  std::vector<std::pair<std::string, std::string>> scopes() const;
  Result<std::optional<std::vector<uint8_t>>> value(std::string_view name);

  // Reads and checks every row again; what is damaged goes to quarantine.
  Result<void> verify();
  // verify(), if a read has met damage. Called between groups.
  void settle_damage();
  // Damage found since the last call.
  std::vector<DamagedRow> take_damage() { return std::exchange(damage_, {}); }

  Result<void> checkpoint(bool truncate);
  // Rewrites the file without its free space, and empties the WAL: nothing that was deleted stays behind.
  Result<void> scrub();
  // One backup at a time, in slices of 256 pages: true once it is complete.
  Result<void> begin_backup(const std::filesystem::path& file);
  Result<bool> step_backup();
  int wal_pages() const { return database_.wal_pages(); }
  Result<void> close();

  void fill(StoreStats& stats) const;

 private:
  struct Entry {
    int64_t row = 0;
    RowSum sum = {};
    uint32_t tenant = 0;
  };
  struct TrajectoryEntry : Entry {
    StepRange steps;
    int64_t expires_us = 0;
  };
  struct PatternEntry : Entry {
    uint64_t vector = 0;
  };
  struct FeedbackEntry : Entry {
    std::string feedback_id;
  };
  struct DecisionEntry : Entry {
    int64_t created_us = 0;
  };
  struct Scope {
    Entry entry;
    uint64_t live = 0, last = 0;
    std::map<uint64_t, Entry> generations;
  };
  using ScopeKey = std::pair<std::string, std::string>;
  using FeedbackKey = std::pair<uint32_t, std::string>;

  StoreCore(Files files, const Store::Options& options) : files_(std::move(files)), options_(options) {}

  // core_open.cpp
  Result<void> prepare(std::string_view name);
  Result<void> make_schema();
  Result<void> migrate(int version);
  Result<void> attach(int version);
  // Makes the maps and accounts from the rows and compares them with what meta says; what does not fit is
  // noted and goes to quarantine.
  Result<void> load();
  Result<std::vector<MetaRow>> load_accounts();
  Result<void> load_rows(TableId id);
  // Enters a row into the maps; an error says why it cannot be served.
  Result<void> index_row(TableId id, const Row& row);
  Result<void> check_steps();
  void check_account(TableId id, const MetaRow& meta);
  void check_high_water();
  void forget_maps();
  Result<void> quarantine_found();
  Result<void> write_quarantine(size_t begin);

  // core_commit.cpp
  std::vector<Result<void>> commit_once(std::span<Change> changes);
  Result<void> run_change(Change& change);
  Result<void> write_accounts();
  void note_commit_error(const Error& error);
  void undo_all(size_t down_to);
  template <class Map, class Key, class Item>
  void enter(Map& map, const Key& key, Item item);
  template <class Map, class Key>
  void leave(Map& map, const Key& key);
  template <class T>
  void assign(T& place, T value);

  Table& table(TableId id) { return tables_[static_cast<size_t>(id)]; }
  const Table& table(TableId id) const { return tables_[static_cast<size_t>(id)]; }
  Result<void> write(TableId id, Row& row, const RowSum* replaced);
  uint32_t tenant_number(std::string_view tenant);
  std::optional<uint32_t> find_tenant(std::string_view tenant) const;

  Result<void> put_pattern(const PatternRecord& record);
  Result<void> erase_trajectory(TrajectoryId id);
  Result<void> erase_pattern(PatternId id);
  Result<void> erase_feedback(RecordId id);
  Result<void> erase_decision(DecisionId id);
  Result<void> erase_scope(const ScopeKey& key, DeleteReport& report);
  Result<void> forget_clusters();
  Result<std::vector<TrajectoryId>> trajectories_of(uint32_t tenant,
                                                    const std::optional<std::string>& session);

  // Reads a row that the maps name. Error: store.damaged, after which settle_damage() reads everything again.
  Result<Row> fetch(TableId id, const Entry& entry);
  Result<TrajectoryRecord> fetch_trajectory(const TrajectoryEntry& entry);
  void note_damage(TableId id, int64_t row, std::string what, const Row* bytes, bool counted);

  Files files_;
  Store::Options options_;
  Database database_;
  std::vector<Table> tables_;
  std::optional<BackupRun> backup_;
  HighWater high_water_;
  bool writable_ = true;
  bool must_reopen_ = false;
  std::string why_not_;
  int64_t sequence_ = 0;

  std::map<TrajectoryId, TrajectoryEntry> trajectories_;
  std::map<PatternId, PatternEntry> patterns_;
  std::map<RecordId, FeedbackEntry> feedback_;
  std::map<FeedbackKey, RecordId> feedback_ids_;
  std::map<DecisionId, DecisionEntry> decisions_;
  std::map<int32_t, Entry> clusters_;
  std::map<ScopeKey, Scope> scopes_;
  std::map<std::string, Entry, std::less<>> values_;
  std::map<std::string, uint32_t, std::less<>> tenant_numbers_;
  std::vector<std::string> tenants_;
  uint64_t pattern_vectors_ = 0;  // XOR of vector_hash()

  std::vector<std::function<void()>> undo_;
  struct Found {
    TableId table;
    int64_t row;
    std::string what, bytes;
    std::optional<RowSum> counted;  // the table's account includes it
  };
  std::vector<Found> found_;  // to go to quarantine
  bool suspect_ = false;      // a read has met damage
  std::vector<DamagedRow> damage_;
  std::vector<std::pair<int64_t, RowSum>> step_rows_;  // intact ones, while the file is being read
  uint64_t n_commits_ = 0, n_operations_ = 0, n_checkpoints_ = 0;
};

}  // namespace ruvltra

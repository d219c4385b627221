// Opening: recovery, migration, and the reading of every row.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/fail.h"
#include "store/core.h"

namespace ruvltra {
namespace {

constexpr int64_t kStoreAccount = 1;  // row of meta that is about the store as a whole: kMeta + 1

// SQLite creates files by the process's umask; this one is for its owner alone, and its WAL follows it.
Result<void> create_private(const std::filesystem::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (descriptor < 0) {
    return fail(ErrorKind::kIo, "store.unavailable", "{}: cannot open: {}", file.string(),
                std::strerror(errno));
  }
  ::close(descriptor);
  return {};
}

}  // namespace

Result<std::unique_ptr<StoreCore>> StoreCore::open(const Files& files, const Store::Options& options,
                                                   const char* vfs) {
  std::unique_ptr<StoreCore> core(new StoreCore(files, options));
  RETURN_IF_ERROR(create_private(files.database()));
  ASSIGN_OR_RETURN(core->high_water_, HighWater::open(files.sequence()));
  ASSIGN_OR_RETURN(core->database_, Database::open_exclusive(files.database(), vfs));
  RETURN_IF_ERROR(core->prepare(files.database().string()));
  return core;
}

Result<std::unique_ptr<StoreCore>> StoreCore::open_copy(std::span<const uint8_t> bytes,
                                                        const std::filesystem::path& name,
                                                        const Store::Options& options) {
  std::unique_ptr<StoreCore> core(new StoreCore({}, options));
  ASSIGN_OR_RETURN(core->database_, Database::open_copy(bytes, name));
  RETURN_IF_ERROR(core->prepare(name.string()));
  core->writable_ = false;
  core->why_not_ = "opened for reading only";
  return core;
}

Result<void> StoreCore::prepare(std::string_view name) {
  ASSIGN_OR_RETURN(const bool blank, is_blank(database_));
  if (blank) {
    if (const auto committed = high_water_.read(); committed && *committed > 0) {
      return fail("store.corrupt", "{}: the file is empty, but {} changes were committed to it", name,
                  *committed);
    }
    return make_schema();
  }
  // Structure first: a page that belongs to two trees would be overwritten by the next change.
  ASSIGN_OR_RETURN(const std::string structure, database_.text("PRAGMA quick_check(1)"));
  if (structure != "ok") return fail("store.corrupt", "{}: {}", name, structure);
  ASSIGN_OR_RETURN(const int version, check_schema(database_, name));
  if (version < kSchemaVersion) RETURN_IF_ERROR(migrate(version));
  RETURN_IF_ERROR(attach(kSchemaVersion));
  RETURN_IF_ERROR(load());
  // Everything out of the WAL: what a crash left unsynced in it is written anew into the file and synced.
  if (!files_.folder.empty()) {
    if (const auto done = checkpoint(true); !done && done.error().id != "store.disk_full") return done;
  }
  return {};
}

Result<void> StoreCore::attach(int version) {
  tables_.clear();
  for (int id = 0; id < kTables; ++id) {
    const TableSpec& spec = table_spec(static_cast<TableId>(id));
    if (spec.since > version) continue;
    ASSIGN_OR_RETURN(Table made, Table::attach(database_, spec, version));
    tables_.push_back(std::move(made));
  }
  return {};
}

Result<void> StoreCore::make_schema() {
  RETURN_IF_ERROR(database_.execute("BEGIN IMMEDIATE"));
  RETURN_IF_ERROR(create_schema(database_, kSchemaVersion));
  RETURN_IF_ERROR(attach(kSchemaVersion));
  RETURN_IF_ERROR(write_accounts());
  RETURN_IF_ERROR(database_.execute("COMMIT"));
  high_water_.write(sequence_);
  return {};
}

// Forward, one version at a time, all in one transaction: a crash leaves the old file.
Result<void> StoreCore::migrate(int version) {
  RETURN_IF_ERROR(database_.execute("BEGIN IMMEDIATE"));
  for (int next = version + 1; next <= kSchemaVersion; ++next) {
    RETURN_IF_ERROR(attach(next - 1));
    ASSIGN_OR_RETURN(const std::vector<MetaRow> accounts, load_accounts());
    std::vector<std::vector<Row>> rows(kTables);
    for (int id = kMeta + 1; id < static_cast<int>(tables_.size()); ++id) {
      Table& old = tables_[static_cast<size_t>(id)];
      RETURN_IF_ERROR(old.scan(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(),
                               [&](Row& row, bool intact) {
                                 if (intact) {
                                   old.count(row);
                                   rows[static_cast<size_t>(id)].push_back(row);
                                 } else {
                                   note_damage(static_cast<TableId>(id), row.row, "checksum does not fit",
                                               &row, false);
                                 }
                                 return true;
                               }));
      check_account(static_cast<TableId>(id), accounts[static_cast<size_t>(id)]);
    }
    tables_.clear();  // their statements would keep the tables from being dropped
    for (int id = kMeta + 1; id < kTables; ++id) {
      const TableSpec& spec = table_spec(static_cast<TableId>(id));
      if (spec.since > next) continue;
      const bool is_new = spec.since == next;
      if (!is_new && n_columns(spec, next) == n_columns(spec, next - 1)) continue;
      if (!is_new) RETURN_IF_ERROR(database_.execute(fmt::format("DROP TABLE {}", spec.name).c_str()));
      RETURN_IF_ERROR(database_.execute(create_sql(spec, next).c_str()));
    }
    RETURN_IF_ERROR(attach(next));
    for (int id = kMeta + 1; id < static_cast<int>(tables_.size()); ++id) {
      Table& table = tables_[static_cast<size_t>(id)];
      const TableSpec& spec = table_spec(static_cast<TableId>(id));
      const size_t before = n_columns(spec, next - 1);
      const bool same = spec.since < next && n_columns(spec, next) == before;
      for (Row& row : rows[static_cast<size_t>(id)]) {
        if (same) {
          table.count(row);
          continue;
        }
        for (const ColumnSpec& column : spec.columns.subspan(before, n_columns(spec, next) - before)) {
          row.values.push_back(default_value(column));
        }
        RETURN_IF_ERROR(table.write(row, row.seq, nullptr));
      }
    }
    RETURN_IF_ERROR(write_quarantine(0));
    found_.clear();
    RETURN_IF_ERROR(write_accounts());
    RETURN_IF_ERROR(database_.execute(fmt::format("PRAGMA user_version={}", next).c_str()));
  }
  return database_.execute("COMMIT");
}

Result<std::vector<MetaRow>> StoreCore::load_accounts() {
  std::vector<MetaRow> accounts(kTables);
  const int64_t last_row = static_cast<int64_t>(tables_.size());
  std::vector<bool> seen(kTables, false);
  RETURN_IF_ERROR(table(kMeta).scan(
      std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(), [&](Row& row, bool intact) {
        const auto meta = intact ? decode_meta(row) : Result<MetaRow>(fail("store.corrupt", "checksum"));
        const bool known = row.row >= 1 && row.row <= last_row;
        if (!meta || !known || meta->name != table_spec(static_cast<TableId>(row.row - 1)).name) {
          note_damage(kMeta, row.row, "an account of a table is damaged", &row, false);
          return true;
        }
        accounts[static_cast<size_t>(row.row - 1)] = *meta;
        seen[static_cast<size_t>(row.row - 1)] = true;
        return true;
      }));
  for (int64_t row = 1; row <= last_row; ++row) {
    if (seen[static_cast<size_t>(row - 1)]) continue;
    const char* name = table_spec(static_cast<TableId>(row - 1)).name;
    damage_.push_back({"meta", row, fmt::format("the account of table {} is missing", name)});
  }
  sequence_ = std::max(sequence_, accounts[kMeta].last);
  return accounts;
}

void StoreCore::forget_maps() {
  trajectories_.clear();
  patterns_.clear();
  feedback_.clear();
  feedback_ids_.clear();
  decisions_.clear();
  clusters_.clear();
  scopes_.clear();
  values_.clear();
  step_rows_.clear();
  pattern_vectors_ = 0;
  for (Table& table : tables_) table.state = {};
}

Result<void> StoreCore::load() {
  forget_maps();
  found_.clear();
  const size_t n_damage = damage_.size();
  ASSIGN_OR_RETURN(const std::vector<MetaRow> accounts, load_accounts());
  for (int id = kMeta + 1; id < kTables; ++id) {
    RETURN_IF_ERROR(load_rows(static_cast<TableId>(id)));
    check_account(static_cast<TableId>(id), accounts[static_cast<size_t>(id)]);
  }
  RETURN_IF_ERROR(check_steps());
  check_high_water();
  if (damage_.size() == n_damage || !writable_) return {};
  // What could not be moved away is still never served, and is found again at the next opening.
  if (const auto moved = quarantine_found(); !moved && moved.error().id != "store.disk_full") return moved;
  return {};
}

Result<void> StoreCore::load_rows(TableId id) {
  Table& rows = table(id);
  return rows.scan(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(),
                   [&](Row& row, bool intact) {
                     sequence_ = std::max(sequence_, intact ? row.seq : 0);
                     if (!intact) {
                       note_damage(id, row.row, "checksum does not fit", &row, false);
                       return true;
                     }
                     rows.count(row);
                     if (const auto indexed = index_row(id, row); !indexed) {
                       note_damage(id, row.row, indexed.error().message, &row, true);
                     }
                     return true;
                   });
}

Result<void> StoreCore::index_row(TableId id, const Row& row) {
  const auto enter_once = [&](auto& map, const auto& key, auto entry) -> Result<void> {
    entry.row = row.row;
    entry.sum = row.sum;
    if (!map.emplace(key, entry).second) return fail("store.corrupt", "the same record is there twice");
    return {};
  };
  switch (id) {
    case kTrajectory: {
      TrajectoryEntry entry;
      ASSIGN_OR_RETURN(const TrajectoryRecord record, decode_trajectory(row, entry.steps));
      entry.tenant = tenant_number(record.tenant);
      entry.expires_us = record.expires_us;
      return enter_once(trajectories_, record.id, entry);
    }
    case kStep:
      RETURN_IF_ERROR(decode_step(row));
      step_rows_.emplace_back(row.row, row.sum);
      return {};
    case kPattern: {
      ASSIGN_OR_RETURN(const PatternRecord record, decode_pattern(row));
      PatternEntry entry;
      entry.tenant = tenant_number(record.tenant);
      entry.vector = vector_hash(record);
      RETURN_IF_ERROR(enter_once(patterns_, record.id, entry));
      pattern_vectors_ ^= entry.vector;
      return {};
    }
    case kCluster: {
      ASSIGN_OR_RETURN(const ClusterRecord record, decode_cluster(row));
      return enter_once(clusters_, record.cluster, Entry());
    }
    case kFeedback: {
      ASSIGN_OR_RETURN(const FeedbackRecord record, decode_feedback(row));
      FeedbackEntry entry;
      entry.tenant = tenant_number(record.tenant);
      entry.feedback_id = record.feedback_id;
      const FeedbackKey key{entry.tenant, record.feedback_id};
      if (!record.feedback_id.empty() && feedback_ids_.contains(key)) {
        return fail("store.corrupt", "the same feedback is there twice");
      }
      RETURN_IF_ERROR(enter_once(feedback_, record.id, entry));
      if (!record.feedback_id.empty()) feedback_ids_.emplace(key, record.id);
      return {};
    }
    case kDecision: {
      ASSIGN_OR_RETURN(const DecisionRecord record, decode_decision(row));
      DecisionEntry entry;
      entry.tenant = tenant_number(record.tenant);
      entry.created_us = record.created_us;
      return enter_once(decisions_, record.id, entry);
    }
    case kScope: {
      ASSIGN_OR_RETURN(const ScopeRow record, decode_scope(row));
      Scope& scope = scopes_[{record.tenant, record.session}];
      if (scope.entry.row != 0) return fail("store.corrupt", "the same scope is there twice");
      scope.entry = {row.row, row.sum, tenant_number(record.tenant)};
      scope.live = record.live;
      scope.last = record.last;
      return {};
    }
    case kGeneration: {
      ASSIGN_OR_RETURN(const GenerationRecord record, decode_generation(row));
      const auto scope = scopes_.find({record.tenant, record.session});
      if (scope == scopes_.end() || record.number == 0 || record.number > scope->second.last) {
        return fail("store.corrupt", "a generation without its scope");
      }
      Entry entry;
      entry.tenant = scope->second.entry.tenant;
      return enter_once(scope->second.generations, record.number, entry);
    }
    case kValue: {
      ASSIGN_OR_RETURN(const NamedValue value, decode_value(row));
      return enter_once(values_, value.name, Entry());
    }
    default:
      return {};  // tombstones and quarantine are only counted
  }
}

// A trajectory whose steps are not all there is not served; neither are steps of nobody.
Result<void> StoreCore::check_steps() {
  std::sort(step_rows_.begin(), step_rows_.end());
  std::vector<bool> owned(step_rows_.size(), false);
  const auto position = [&](int64_t row) {
    const auto at = std::lower_bound(step_rows_.begin(), step_rows_.end(), row,
                                     [](const auto& step, int64_t r) { return step.first < r; });
    return static_cast<size_t>(at - step_rows_.begin());
  };
  for (auto it = trajectories_.begin(); it != trajectories_.end();) {
    const StepRange& steps = it->second.steps;
    const size_t begin = position(steps.first);
    const size_t n = static_cast<size_t>(steps.n);
    bool whole = begin + n <= step_rows_.size();
    for (size_t i = 0; whole && i < n; ++i) {
      whole = step_rows_[begin + i].first == steps.first + static_cast<int64_t>(i) && !owned[begin + i];
    }
    if (whole) {
      for (size_t i = 0; i < n; ++i) owned[begin + i] = true;
      ++it;
      continue;
    }
    Row row;
    RETURN_IF_ERROR(table(kTrajectory).read(it->second.row, row));
    note_damage(kTrajectory, it->second.row, "a step of it is missing or damaged", &row, true);
    it = trajectories_.erase(it);
  }
  for (size_t i = 0; i < step_rows_.size(); ++i) {
    if (owned[i]) continue;
    Row row;
    RETURN_IF_ERROR(table(kStep).read(step_rows_[i].first, row));
    note_damage(kStep, step_rows_[i].first, "its trajectory is missing or damaged", &row, true);
  }
  step_rows_ = {};
  return {};
}

void StoreCore::check_account(TableId id, const MetaRow& meta) {
  const TableState& found = table(id).state;
  // Rows whose checksum does not fit are known by themselves already.
  const auto damaged = std::count_if(found_.begin(), found_.end(),
                                     [id](const Found& f) { return f.table == id && !f.counted; });
  if (meta.name.empty()) return;  // its account is damaged, and reported
  if (meta.count != found.count + damaged) {
    damage_.push_back(
        {table(id).name(), 0, fmt::format("expected {} rows, found {}", meta.count, found.count + damaged)});
  } else if (damaged == 0 && meta.sums != found.sums) {
    damage_.push_back({table(id).name(), 0, "the rows are not those that were last committed"});
  }
}

// The end of a WAL can be damaged without any trace in the file.
void StoreCore::check_high_water() {
  const auto committed = high_water_.read();
  if (!committed || *committed <= sequence_ || *committed > kMaxNumber) return;
  damage_.push_back(
      {"wal", 0,
       fmt::format("{} changes were committed, but only {} of them are there", *committed, sequence_)});
  sequence_ = *committed;
  std::error_code ignored;
  std::filesystem::path aside = files_.wal();
  aside += ".damaged";
  std::filesystem::copy_file(files_.wal(), aside, std::filesystem::copy_options::overwrite_existing, ignored);
}

void StoreCore::note_damage(TableId id, int64_t row, std::string what, const Row* bytes, bool counted) {
  Found found{id, row, what, bytes != nullptr ? row_bytes(table_spec(id).name, *bytes) : std::string(), {}};
  if (counted && bytes != nullptr) found.counted = bytes->sum;
  found_.push_back(std::move(found));
  damage_.push_back({table_spec(id).name, row, std::move(what)});
}

// Inserts what was found from `begin` on. *Requires*: a transaction.
Result<void> StoreCore::write_quarantine(size_t begin) {
  constexpr int64_t kKept = 1'000;
  constexpr size_t kMaxBytes = size_t{1} << 20;
  for (size_t i = begin; i < found_.size(); ++i) {
    const Found& found = found_[i];
    Row row;
    row.row = table(kQuarantine).state.next_row;
    row.values = {Value::text(table_spec(found.table).name), Value::of(found.row), Value::text(found.what),
                  Value::of(now_us()), Value::blob(std::string_view(found.bytes).substr(0, kMaxBytes))};
    RETURN_IF_ERROR(write(kQuarantine, row, nullptr));
  }
  const int64_t excess = table(kQuarantine).state.count - kKept;
  if (excess <= 0) return {};
  std::vector<std::pair<int64_t, RowSum>> oldest;
  RETURN_IF_ERROR(table(kQuarantine)
                      .scan(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(),
                            [&](Row& row, bool intact) {
                              if (intact) oldest.emplace_back(row.row, row.sum);
                              return static_cast<int64_t>(oldest.size()) < excess;
                            }));
  for (const auto& [row, sum] : oldest) RETURN_IF_ERROR(table(kQuarantine).erase(row, sum));
  return {};
}

Result<void> StoreCore::quarantine_found() {
  std::vector<TableState> before;
  for (const Table& table : tables_) before.push_back(table.state);
  const auto move_all = [&]() -> Result<void> {
    RETURN_IF_ERROR(database_.execute("BEGIN IMMEDIATE"));
    for (const Found& found : found_) {
      Table& rows = table(found.table);
      if (found.counted) {
        RETURN_IF_ERROR(rows.erase(found.row, *found.counted));
      } else {
        RETURN_IF_ERROR(rows.drop(found.row));
      }
    }
    RETURN_IF_ERROR(write_quarantine(0));
    RETURN_IF_ERROR(write_accounts());
    return database_.execute("COMMIT");
  };
  if (const auto moved = move_all(); !moved) {
    if (database_.in_transaction()) RETURN_IF_ERROR(database_.execute("ROLLBACK"));
    for (size_t i = 0; i < tables_.size(); ++i) tables_[i].state = before[i];
    return moved;
  }
  found_.clear();
  high_water_.write(sequence_);
  return {};
}

Result<void> StoreCore::verify() {
  suspect_ = false;
  const auto loaded = load();
  if (loaded) return loaded;
  // The maps are half made: nothing more is served from them. A new connection sees whether the file can be
  // opened at all.
  must_reopen_ = true;
  why_not_ = loaded.error().message;
  return loaded;
}

void StoreCore::settle_damage() {
  // An error is kept in why_not_; what was found so far is in damage_.
  if (suspect_) static_cast<void>(verify().has_value());
}

Result<void> StoreCore::write_accounts() {
  for (size_t id = 0; id < tables_.size(); ++id) {
    const TableState& state = tables_[id].state;
    MetaRow meta{tables_[id].name(), state.count, state.last, state.sums};
    if (id == kMeta) meta = {tables_[id].name(), 0, sequence_, {}};
    Row row;
    row.row = static_cast<int64_t>(id) + kStoreAccount;
    row.values = encode_meta(meta);
    RETURN_IF_ERROR(table(kMeta).write(row, sequence_, &row.sum));
  }
  return {};
}

}  // namespace ruvltra

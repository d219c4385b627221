// The contract of store.h, in terms of StoreCore and its thread.
#include "store/store.h"

#include <fcntl.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/fail.h"
#include "store/backup.h"
#include "store/file_locks.h"
#include "store/jsonl.h"
#include "store/store_parts.h"
#include "store/store_thread.h"

namespace ruvltra {
namespace {

// Network file systems, on which neither a WAL nor a lock can be trusted (linux/magic.h; cifs and smb2 are
// not in it).
bool is_network(const std::filesystem::path& folder) {
  struct statfs info;
  if (statfs(folder.c_str(), &info) != 0) return false;
  switch (static_cast<uint32_t>(info.f_type)) {
    case 0x6969:      // nfs
    case 0x517b:      // smb
    case 0xff534d42:  // cifs
    case 0xfe534d42:  // smb2
    case 0x5346414f:  // afs
    case 0x00c36400:  // ceph
    case 0x73757245:  // coda
    case 0x01021997:  // 9p
      return true;
    default:
      return false;
  }
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  fsync(descriptor);  // some file systems do not have it
  ::close(descriptor);
}

Result<void> prepare_folder(const std::filesystem::path& folder, const Store::Options& options) {
  std::error_code error;
  const bool exists = std::filesystem::is_directory(folder, error);
  if (!exists && (options.must_exist || options.read_only)) {
    return fail(ErrorKind::kUsage, "store.not_found", "{}: expected a data directory, found none",
                folder.string());
  }
  if (!exists) {
    std::filesystem::create_directories(folder, error);
    if (!error) std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
    // Its name in the folder above must outlive a power cut as well; SQLite syncs the folder itself.
    if (!error) sync_folder(std::filesystem::absolute(folder, error).parent_path());
    if (error) {
      return fail(ErrorKind::kIo, "store.unavailable", "{}: cannot make the directory: {}", folder.string(),
                  error.message());
    }
  }
  if ((options.must_exist || options.read_only) && !std::filesystem::exists(folder / "learn.db", error)) {
    return fail(ErrorKind::kUsage, "store.not_found", "{}: expected learn.db in it, found none",
                folder.string());
  }
  if (is_network(folder)) {
    return fail(ErrorKind::kUnsupported, "store.network",
                "{}: on a network file system, where a write-ahead log cannot be trusted; use a local disk",
                folder.string());
  }
  return {};
}

class SqliteStore final : public Store {
 public:
  SqliteStore(std::filesystem::path folder, const Options& options, const StoreParts& parts,
              std::optional<OwnerLock> lock, std::unique_ptr<StoreCore> core,
              std::optional<DamagedRow> restored)
      : files_{std::move(folder)},
        options_(options),
        lock_(std::move(lock)),
        thread_(files_, options, parts, std::move(core), std::move(restored)) {
    if (!options_.read_only && options_.backup_hours > 0) {
      keeper_ = std::thread([this] { keep_backups(); });
    }
  }

  ~SqliteStore() override {
    if (!keeper_.joinable()) return;
    {
      const std::lock_guard guard(keeper_mutex_);
      stop_keeper_ = true;
    }
    wake_keeper_.notify_all();
    keeper_.join();
  }

  // --- Contract (store.h)

  Result<void> put_trajectory(const TrajectoryRecord& record) override {
    return change([&record](StoreCore& core) { return core.put_trajectory(record); });
  }
  Result<void> put_trajectory_async(TrajectoryRecord record,
                                    std::function<void(Result<void>)> done) override {
    RETURN_IF_ERROR(check_writable());
    const auto kept = std::make_shared<TrajectoryRecord>(std::move(record));
    return thread_.change_async([kept](StoreCore& core) { return core.put_trajectory(*kept); },
                                std::move(done));
  }
  Result<TrajectoryRecord> trajectory(std::string_view tenant, const TrajectoryId& id) override {
    return read<TrajectoryRecord>([&](StoreCore& core) { return core.trajectory(tenant, id); });
  }
  Result<void> each_trajectory(std::string_view tenant,
                               const std::function<bool(const TrajectoryRecord&)>& visit) override {
    return each<TrajectoryRecord>(
        [&](StoreCore& core, const RecordId& after) { return core.trajectories(tenant, after); }, visit);
  }

  Result<void> put_patterns(std::span<const PatternRecord> records) override {
    return change_patterns({}, records);
  }
  Result<PatternRecord> pattern(const PatternId& id) override {
    return read<PatternRecord>([&](StoreCore& core) { return core.pattern(id); });
  }
  Result<void> each_pattern(const std::function<bool(const PatternRecord&)>& visit) override {
    return each<PatternRecord>([](StoreCore& core, const RecordId& after) { return core.patterns(after); },
                               visit);
  }
  Result<void> change_patterns(std::span<const PatternId> remove,
                               std::span<const PatternRecord> put) override {
    return change([&](StoreCore& core) { return core.change_patterns(remove, put); });
  }
  Result<void> replace_clusters(std::span<const ClusterRecord> clusters,
                                std::span<const std::pair<PatternId, int32_t>> members) override {
    return change([&](StoreCore& core) { return core.replace_clusters(clusters, members); });
  }
  Result<std::vector<ClusterRecord>> clusters() override {
    return read<std::vector<ClusterRecord>>([](StoreCore& core) { return core.clusters(); });
  }

  Result<bool> put_feedback(const FeedbackRecord& record) override {
    return change_to<bool>([&record](StoreCore& core) { return core.put_feedback(record); });
  }
  Result<void> each_feedback(std::string_view tenant,
                             const std::function<bool(const FeedbackRecord&)>& visit) override {
    return each<FeedbackRecord>(
        [&](StoreCore& core, const RecordId& after) { return core.feedback(tenant, after); }, visit);
  }

  Result<void> put_decision(const DecisionRecord& record) override {
    return change([&record](StoreCore& core) { return core.put_decision(record); });
  }
  Result<void> put_decision_async(DecisionRecord record, std::function<void(Result<void>)> done) override {
    RETURN_IF_ERROR(check_writable());
    const auto kept = std::make_shared<DecisionRecord>(std::move(record));
    return thread_.change_async([kept](StoreCore& core) { return core.put_decision(*kept); },
                                std::move(done));
  }
  Result<DecisionRecord> decision(std::string_view tenant, const DecisionId& id) override {
    return read<DecisionRecord>([&](StoreCore& core) { return core.decision(tenant, id); });
  }
  Result<bool> put_outcome(const DecisionRecord& with_outcome, const FeedbackRecord& feedback) override {
    return change_to<bool>([&](StoreCore& core) -> Result<bool> {
      ASSIGN_OR_RETURN(const bool is_new, core.put_feedback(feedback));
      if (is_new) RETURN_IF_ERROR(core.put_decision(with_outcome));
      return is_new;
    });
  }
  Result<void> each_decision(std::string_view tenant,
                             const std::function<bool(const DecisionRecord&)>& visit) override {
    return each<DecisionRecord>(
        [&](StoreCore& core, const RecordId& after) { return core.decisions(tenant, after); }, visit);
  }
  Result<size_t> expire_decisions(int64_t before_us) override {
    return change_to<size_t>([&](StoreCore& core) { return core.expire_decisions(before_us); });
  }
  Result<size_t> expire_trajectories(int64_t now) override {
    return change_to<size_t>([&](StoreCore& core) { return core.expire_trajectories(now); });
  }

  Result<GenerationRecord> publish(const GenerationRecord& next, uint64_t expected) override {
    return change_to<GenerationRecord>([&](StoreCore& core) { return core.publish(next, expected); });
  }
  Result<std::optional<GenerationRecord>> live(std::string_view tenant, std::string_view session) override {
    return read<std::optional<GenerationRecord>>([&](StoreCore& core) { return core.live(tenant, session); });
  }
  Result<std::vector<GenerationRecord>> history(std::string_view tenant, std::string_view session,
                                                size_t n) override {
    return read<std::vector<GenerationRecord>>(
        [&](StoreCore& core) { return core.history(tenant, session, n); });
  }

  Result<std::vector<std::pair<std::string, std::string>>> scopes() override {
    using Scopes = std::vector<std::pair<std::string, std::string>>;
    return read<Scopes>([](StoreCore& core) -> Result<Scopes> { return core.scopes(); });
  }

  Result<void> put_value(std::string_view name, std::span<const uint8_t> bytes) override {
    return change([&](StoreCore& core) { return core.put_value(name, bytes); });
  }
  Result<std::optional<std::vector<uint8_t>>> value(std::string_view name) override {
    return read<std::optional<std::vector<uint8_t>>>([&](StoreCore& core) { return core.value(name); });
  }

  Result<DeleteReport> delete_data(std::string_view tenant, std::optional<std::string> session) override;

  Result<std::vector<DamagedRow>> verify() override {
    const size_t n_before = damaged().size();
    RETURN_IF_ERROR(thread_.inside([](StoreCore& core) { return core.verify(); }));
    std::vector<DamagedRow> all = damaged();
    return std::vector<DamagedRow>(all.begin() + static_cast<std::ptrdiff_t>(std::min(n_before, all.size())),
                                   all.end());
  }
  std::vector<DamagedRow> damaged() const override { return thread_.damaged(); }
  Result<void> checkpoint() override {
    return thread_.inside([](StoreCore& core) { return core.checkpoint(true); });
  }
  Result<void> backup(const std::filesystem::path& file) override;
  Result<std::filesystem::path> backup_now() override;

  Result<size_t> export_jsonl(std::string_view tenant,
                              const std::function<Result<void>(std::string_view line)>& sink) override;
  Result<size_t> import_jsonl(std::string_view text, std::string_view as_tenant) override;

  StoreStats stats() const override { return thread_.stats(); }

 private:
  Result<void> check_writable() const {
    if (!options_.read_only) return {};
    return fail(ErrorKind::kUsage, "store.read_only", "{}: opened for reading only", files_.folder.string());
  }

  Result<void> change(StoreCore::Change body) {
    RETURN_IF_ERROR(check_writable());
    return thread_.change(std::move(body));
  }

  template <class T>
  Result<T> change_to(const std::function<Result<T>(StoreCore&)>& body) {
    std::optional<T> out;
    RETURN_IF_ERROR(change([&](StoreCore& core) -> Result<void> {
      ASSIGN_OR_RETURN(out, body(core));
      return {};
    }));
    return *std::move(out);
  }

  template <class T>
  Result<T> read(const std::function<Result<T>(StoreCore&)>& body) {
    std::optional<T> out;
    RETURN_IF_ERROR(thread_.inside([&](StoreCore& core) -> Result<void> {
      ASSIGN_OR_RETURN(out, body(core));
      return {};
    }));
    return *std::move(out);
  }

  // Lists are fetched piece by piece: others are not kept waiting.
  template <class Record>
  Result<void> each(const std::function<Result<std::vector<Record>>(StoreCore&, const RecordId&)>& fetch,
                    const std::function<bool(const Record&)>& visit) {
    RecordId after;
    for (;;) {
      ASSIGN_OR_RETURN(const std::vector<Record> piece,
                       read<std::vector<Record>>([&](StoreCore& core) { return fetch(core, after); }));
      if (piece.empty()) return {};
      for (const Record& record : piece) {
        if (!visit(record)) return {};
      }
      after = piece.back().id;
    }
  }

  Result<void> copy_to(const std::filesystem::path& file);
  void keep_backups();

  const StoreFiles files_;
  const Options options_;
  std::optional<OwnerLock> lock_;
  StoreThread thread_;

  std::mutex backup_mutex_;
  std::mutex keeper_mutex_;
  std::condition_variable wake_keeper_;
  bool stop_keeper_ = false;
  std::thread keeper_;
};

// --- Copies

// *Requires*: backup_mutex_.
Result<void> SqliteStore::copy_to(const std::filesystem::path& file) {
  ASSIGN_OR_RETURN(BackupFile target, BackupFile::create(file));
  RETURN_IF_ERROR(thread_.inside([&](StoreCore& core) { return core.begin_backup(target.temporary()); }));
  for (bool done = false; !done;) {
    // One slice at a time: changes go on in between.
    ASSIGN_OR_RETURN(done, read<bool>([](StoreCore& core) { return core.step_backup(); }));
  }
  return target.commit();
}

Result<void> SqliteStore::backup(const std::filesystem::path& file) {
  const std::lock_guard one_at_a_time(backup_mutex_);
  return copy_to(file);
}

Result<std::filesystem::path> SqliteStore::backup_now() {
  const std::lock_guard one_at_a_time(backup_mutex_);
  ASSIGN_OR_RETURN(const std::filesystem::path file, new_backup_name(files_.backups()));
  RETURN_IF_ERROR(copy_to(file));
  remove_old_backups(files_.backups(), kKeptBackups);
  return file;
}

// No copy may be in the making meanwhile: it would hold what is being deleted.
Result<DeleteReport> SqliteStore::delete_data(std::string_view tenant, std::optional<std::string> session) {
  const std::lock_guard no_copies(backup_mutex_);
  ASSIGN_OR_RETURN(const DeleteReport report, change_to<DeleteReport>([&](StoreCore& core) {
                     return core.delete_data(tenant, session);
                   }));
  RETURN_IF_ERROR(thread_.inside([](StoreCore& core) { return core.scrub(); }));
  // Backups and files that were set aside hold it, too.
  const bool had_backups = !list_backups(files_.backups()).empty();
  remove_old_backups(files_.backups(), 0);
  remove_set_aside(files_.folder);
  remove_unfinished(files_);
  if (had_backups) {
    ASSIGN_OR_RETURN(const std::filesystem::path file, new_backup_name(files_.backups()));
    RETURN_IF_ERROR(copy_to(file));
  }
  return report;
}

void SqliteStore::keep_backups() {
  using std::chrono::duration_cast, std::chrono::microseconds, std::chrono::hours, std::chrono::minutes;
  std::unique_lock guard(keeper_mutex_);
  uint64_t backed_up = 0;
  while (!wake_keeper_.wait_for(guard, minutes(10), [this] { return stop_keeper_; })) {
    guard.unlock();
    const auto backups = list_backups(files_.backups());
    const int64_t newest = backups.empty() ? 0 : backups.front().time_us;
    const int64_t period = duration_cast<microseconds>(hours(options_.backup_hours)).count();
    const uint64_t sequence = stats().sequence;
    // One that fails is tried again in ten minutes.
    if (now_us() - newest >= period && sequence != backed_up && backup_now()) backed_up = sequence;
    guard.lock();
  }
}

Result<size_t> SqliteStore::export_jsonl(std::string_view tenant,
                                         const std::function<Result<void>(std::string_view line)>& sink) {
  size_t n = 0;
  Result<void> written;
  const auto put = [&](const auto& record) {
    written = sink(to_jsonl(record));
    n += written ? 1 : 0;
    return written.has_value();
  };
  RETURN_IF_ERROR(each_trajectory(tenant, put));
  RETURN_IF_ERROR(written);
  RETURN_IF_ERROR(each_pattern([&](const PatternRecord& record) {
    return (!tenant.empty() && record.tenant != tenant) || put(record);
  }));
  RETURN_IF_ERROR(written);
  RETURN_IF_ERROR(each_feedback(tenant, put));
  RETURN_IF_ERROR(written);
  RETURN_IF_ERROR(each_decision(tenant, put));
  RETURN_IF_ERROR(written);
  return n;
}

Result<size_t> SqliteStore::import_jsonl(std::string_view text, std::string_view as_tenant) {
  ASSIGN_OR_RETURN(ImportBatch batch, parse_jsonl(text, as_tenant));
  return change_to<size_t>([&](StoreCore& core) { return core.import(batch, as_tenant); });
}

}  // namespace

Result<std::unique_ptr<Store>> open_store(const std::filesystem::path& folder, const Store::Options& options,
                                          const StoreParts& parts) {
  RETURN_IF_ERROR(prepare_folder(folder, options));
  const StoreCore::Files files{folder};
  if (options.read_only) {
    ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, copy_database(files));
    ASSIGN_OR_RETURN(auto core, StoreCore::open_copy(bytes, files.database(), options));
    return std::make_unique<SqliteStore>(folder, options, parts, std::nullopt, std::move(core), std::nullopt);
  }
  ASSIGN_OR_RETURN(OwnerLock lock, OwnerLock::take(folder));
  remove_unfinished(files);
  auto core = StoreCore::open(files, options, parts.vfs);
  std::optional<DamagedRow> restored;
  if (!core && core.error().id == "store.corrupt" && options.recover) {
    const std::string why = core.error().message;
    ASSIGN_OR_RETURN(const RestoreReport report, restore_backup(folder));
    restored = DamagedRow{"store", 0, fmt::format("{}; {}", why, report.text())};
    core = StoreCore::open(files, options, parts.vfs);
  }
  if (!core) return tl::unexpected(std::move(core).error());
  return std::make_unique<SqliteStore>(folder, options, parts, std::move(lock), *std::move(core),
                                       std::move(restored));
}

Result<std::unique_ptr<Store>> Store::open(const std::filesystem::path& folder, const Options& options) {
  return open_store(folder, options, {});
}
Result<std::unique_ptr<Store>> Store::open(const std::filesystem::path& folder) {
  return open_store(folder, {}, {});
}

Result<RestoreReport> restore_store(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(const OwnerLock lock, OwnerLock::take(folder));
  return restore_backup(folder);
}

}  // namespace ruvltra

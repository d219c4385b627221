// The queue and the thread around StoreCore.
#include "store/store.h"

#include <pthread.h>
#include <sys/statfs.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

#include "base/fail.h"
#include "base/file.h"
#include "store/backup.h"
#include "store/core.h"
#include "store/file_locks.h"
#include "store/jsonl.h"
#include "store/store_parts.h"

namespace ruvltra {
namespace {

using Clock = std::chrono::steady_clock;
using Done = std::function<void(Result<void>)>;

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
        parts_(parts),
        lock_(std::move(lock)),
        core_(std::move(core)) {
    if (restored) damaged_.push_back(*std::move(restored));
    publish_state();
    thread_ = std::thread([this] { run(); });
    if (!options_.read_only && options_.backup_hours > 0) {
      keeper_ = std::thread([this] { keep_backups(); });
    }
  }

  ~SqliteStore() override {
    {
      const std::lock_guard guard(mutex_);
      stop_ = true;
    }
    wake_keeper_.notify_all();
    if (keeper_.joinable()) keeper_.join();
    wake_.notify_all();
    thread_.join();
  }

  // --- Contract (store.h)

  Result<void> put_trajectory(const TrajectoryRecord& record) override {
    return change([&record](StoreCore& core) { return core.put_trajectory(record); });
  }
  Result<void> put_trajectory_async(TrajectoryRecord record, Done done) override {
    auto kept = std::make_shared<TrajectoryRecord>(std::move(record));
    return enqueue({[kept](StoreCore& core) { return core.put_trajectory(*kept); }, {}, std::move(done)});
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
    ASSIGN_OR_RETURN(auto records, history(tenant, session, 1));
    if (records.empty()) return std::nullopt;
    return std::move(records.front());
  }
  Result<std::vector<GenerationRecord>> history(std::string_view tenant, std::string_view session,
                                                size_t n) override {
    return read<std::vector<GenerationRecord>>(
        [&](StoreCore& core) { return core.history(tenant, session, n); });
  }

  Result<void> put_value(std::string_view name, std::span<const uint8_t> bytes) override {
    return change([&](StoreCore& core) { return core.put_value(name, bytes); });
  }
  Result<std::optional<std::vector<uint8_t>>> value(std::string_view name) override {
    return read<std::optional<std::vector<uint8_t>>>([&](StoreCore& core) { return core.value(name); });
  }

  Result<DeleteReport> delete_data(std::string_view tenant, std::optional<std::string> session) override {
    ASSIGN_OR_RETURN(const DeleteReport report, change_to<DeleteReport>([&](StoreCore& core) {
                       return core.delete_data(tenant, session);
                     }));
    RETURN_IF_ERROR(run_inside([](StoreCore& core) { return core.scrub(); }));
    RETURN_IF_ERROR(forget_old_copies());
    return report;
  }

  Result<std::vector<DamagedRow>> verify() override {
    const size_t n_before = damaged().size();
    RETURN_IF_ERROR(run_inside([](StoreCore& core) { return core.verify(); }));
    std::vector<DamagedRow> all = damaged();
    return std::vector<DamagedRow>(all.begin() + static_cast<std::ptrdiff_t>(std::min(n_before, all.size())),
                                   all.end());
  }
  std::vector<DamagedRow> damaged() const override {
    const std::lock_guard guard(state_mutex_);
    return damaged_;
  }
  Result<void> checkpoint() override {
    return run_inside([](StoreCore& core) { return core.checkpoint(true); });
  }
  Result<void> backup(const std::filesystem::path& file) override;
  Result<std::filesystem::path> backup_now() override;

  Result<size_t> export_jsonl(std::string_view tenant,
                              const std::function<Result<void>(std::string_view line)>& sink) override;
  Result<size_t> import_jsonl(std::string_view text, std::string_view as_tenant) override;

  StoreStats stats() const override {
    StoreStats copy;
    {
      const std::lock_guard guard(state_mutex_);
      copy = stats_;
    }
    std::error_code ignored;
    for (const auto& file : {files_.database(), files_.wal()}) {
      const auto size = std::filesystem::file_size(file, ignored);
      if (!ignored) copy.file_bytes += static_cast<size_t>(size);
      ignored.clear();
    }
    return copy;
  }

 private:
  // A change goes into a group; anything else runs alone, outside of transactions.
  struct Operation {
    StoreCore::Change change;
    StoreCore::Change inside;
    Done done;
  };

  // --- The callers' side

  Result<void> enqueue(Operation operation) {
    if (std::this_thread::get_id() == thread_.get_id()) {
      return fail(ErrorKind::kUsage, "store.reentered", "the store was called from a callback of its own");
    }
    {
      const std::lock_guard guard(mutex_);
      if (queue_.size() >= options_.queue) {
        return fail(ErrorKind::kBusy, "store.busy", "the queue of {} operations is full", options_.queue);
      }
      queue_.push_back(std::move(operation));
    }
    wake_.notify_one();
    return {};
  }

  Result<void> change(StoreCore::Change body) {
    if (options_.read_only) {
      return fail(ErrorKind::kUsage, "store.read_only", "{}: opened for reading only",
                  files_.folder.string());
    }
    return wait_for({std::move(body), {}, {}});
  }
  Result<void> wait_for(Operation operation) {
    std::promise<Result<void>> promise;
    operation.done = [&promise](Result<void> result) { promise.set_value(std::move(result)); };
    RETURN_IF_ERROR(enqueue(std::move(operation)));
    return promise.get_future().get();
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

  Result<void> run_inside(const std::function<Result<void>(StoreCore&)>& body) {
    return wait_for({{}, body, {}});
  }

  template <class T>
  Result<T> read(const std::function<Result<T>(StoreCore&)>& body) {
    std::optional<T> out;
    RETURN_IF_ERROR(run_inside([&](StoreCore& core) -> Result<void> {
      ASSIGN_OR_RETURN(out, body(core));
      return {};
    }));
    return *std::move(out);
  }

  // Lists are fetched piece by piece and visited on the caller's thread: the visitor may call the store, and
  // others are not kept waiting. What changes meanwhile may or may not be seen.
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

  static Result<void> guarded(const std::function<Result<void>(StoreCore&)>& body, StoreCore& core) {
    try {
      return body(core);
    } catch (const std::bad_alloc&) {
      return fail(ErrorKind::kMemory, "store.memory", "no memory for this request");
    }
  }
  Result<void> unavailable() const {
    const std::lock_guard guard(state_mutex_);
    return fail(ErrorKind::kIo, "store.unavailable", "the store is closed after an error: {}",
                stats_.why_not);
  }

  Result<void> forget_old_copies();
  void keep_backups();

  // --- The thread's side

  void run() {
    pthread_setname_np(pthread_self(), "sona-store");
    std::unique_lock guard(mutex_);
    for (;;) {
      if (queue_.empty() && stop_) break;
      if (queue_.empty()) {
        wait_idle(guard);
        continue;
      }
      Operation first = take();
      if (first.inside) {
        guard.unlock();
        run_one(first);
        guard.lock();
        continue;
      }
      std::vector<Operation> group;
      group.push_back(std::move(first));
      gather(guard, group);
      guard.unlock();
      commit(group);
      guard.lock();
    }
    guard.unlock();
    // An unclean end would be recovered from; there is nobody left to tell.
    if (core_ != nullptr) static_cast<void>(core_->close().has_value());
    core_.reset();
  }

  Operation take() {
    Operation operation = std::move(queue_.front());
    queue_.pop_front();
    return operation;
  }

  void wait_idle(std::unique_lock<std::mutex>& guard) {
    const auto ready = [this] { return !queue_.empty() || stop_; };
    if (core_ == nullptr || core_->wal_pages() == 0) {
      wake_.wait(guard, ready);
    } else if (!wake_.wait_for(guard, parts_.idle_checkpoint, ready)) {
      guard.unlock();
      checkpoint_quietly();
      guard.lock();
    }
  }

  // More changes join the first until the group is full, `group_ms` have passed, or nobody has come for an
  // eighth of that time: whoever waits for an acknowledgement will not send another. Reads meanwhile are
  // answered at once; no change of the group has begun.
  void gather(std::unique_lock<std::mutex>& guard, std::vector<Operation>& group) {
    const auto window = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double, std::milli>(options_.group_ms));
    const auto deadline = Clock::now() + window;
    while (group.size() < options_.group_operations) {
      if (queue_.empty()) {
        const auto until = std::min(deadline, Clock::now() + window / 8);
        wake_.wait_until(guard, until, [this] { return !queue_.empty() || stop_; });
        if (queue_.empty()) return;
      }
      Operation next = take();
      if (next.inside) {
        guard.unlock();
        run_one(next);
        guard.lock();
      } else {
        group.push_back(std::move(next));
      }
      if (Clock::now() > deadline && queue_.empty()) return;
    }
  }

  void run_one(Operation& operation) {
    reopen_if_needed();
    Result<void> result = core_ != nullptr ? guarded(operation.inside, *core_) : unavailable();
    if (core_ != nullptr) core_->settle_damage();
    publish_state();  // before the answer: the caller may look at damaged() and stats() next
    operation.done(std::move(result));
  }

  void commit(std::vector<Operation>& group) {
    reopen_if_needed();
    std::vector<Result<void>> results;
    if (core_ == nullptr) {
      results.assign(group.size(), unavailable());
    } else {
      std::vector<StoreCore::Change> changes;
      for (Operation& operation : group) changes.push_back(std::move(operation.change));
      results = core_->commit(changes);
      core_->settle_damage();
    }
    publish_state();
    for (size_t i = 0; i < group.size(); ++i) group[i].done(std::move(results[i]));
    if (core_ != nullptr && core_->wal_pages() >= parts_.checkpoint_pages) checkpoint_quietly();
  }

  // PASSIVE; what it could not do is done by a later one, and an I/O error by a new connection.
  void checkpoint_quietly() {
    const auto done = core_->checkpoint(false);
    if (!done && done.error().id != "store.disk_full") core_->fail_writer(done.error());
    publish_state();
  }

  // After an I/O error: a new connection, which recovers what the old one had committed.
  void reopen_if_needed() {
    if (options_.read_only) return;
    if (core_ != nullptr && !core_->must_reopen()) return;
    if (core_ != nullptr) {
      publish_state();
      keep_counts();
      core_.reset();  // without a last checkpoint: the WAL stays
      next_attempt_ = Clock::now();
    }
    if (Clock::now() < next_attempt_) return;
    next_attempt_ = Clock::now() + parts_.reopen_pause;
    auto core = StoreCore::open(files_, options_, parts_.vfs);
    const std::lock_guard guard(state_mutex_);
    if (core) {
      core_ = *std::move(core);
    } else {
      stats_.writable = false;
      stats_.why_not = core.error().message;
    }
  }

  void keep_counts() {
    core_->fill(base_counts_);
    StoreStats counts;
    counts.n_commits = base_counts_.n_commits;
    counts.n_operations = base_counts_.n_operations;
    counts.n_checkpoints = base_counts_.n_checkpoints;
    base_counts_ = counts;
  }

  void publish_state() {
    if (core_ == nullptr) return;
    StoreStats stats = base_counts_;
    core_->fill(stats);
    std::vector<DamagedRow> found = core_->take_damage();
    const std::lock_guard guard(state_mutex_);
    stats_ = stats;
    constexpr size_t kMaxReported = 10'000;
    for (DamagedRow& row : found) {
      if (damaged_.size() < kMaxReported) damaged_.push_back(std::move(row));
    }
  }

  const StoreCore::Files files_;
  const Options options_;
  const StoreParts parts_;
  std::optional<OwnerLock> lock_;
  std::unique_ptr<StoreCore> core_;  // of the thread, once it runs

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Operation> queue_;
  bool stop_ = false;

  mutable std::mutex state_mutex_;
  StoreStats stats_;
  std::vector<DamagedRow> damaged_;

  StoreStats base_counts_;  // of earlier connections
  Clock::time_point next_attempt_ = {};
  std::mutex backup_mutex_;
  std::condition_variable wake_keeper_;
  std::thread thread_, keeper_;
};

// --- Copies

Result<void> SqliteStore::backup(const std::filesystem::path& file) {
  const std::lock_guard one_at_a_time(backup_mutex_);
  ASSIGN_OR_RETURN(BackupFile target, BackupFile::create(file));
  RETURN_IF_ERROR(run_inside([&](StoreCore& core) { return core.begin_backup(target.temporary()); }));
  for (bool done = false; !done;) {
    // One slice at a time: changes go on in between.
    ASSIGN_OR_RETURN(done, read<bool>([](StoreCore& core) { return core.step_backup(); }));
  }
  return target.commit();
}

Result<std::filesystem::path> SqliteStore::backup_now() {
  ASSIGN_OR_RETURN(const std::filesystem::path file, new_backup_name(files_.backups()));
  RETURN_IF_ERROR(backup(file));
  remove_old_backups(files_.backups(), kKeptBackups);
  return file;
}

// Backups and damaged files that were set aside hold what was deleted. They go first; without a new backup
// the deletion is still done.
Result<void> SqliteStore::forget_old_copies() {
  const bool had_backups = !list_backups(files_.backups()).empty();
  remove_old_backups(files_.backups(), 0);
  remove_set_aside(files_.folder);
  if (had_backups) RETURN_IF_ERROR(backup_now());
  return {};
}

void SqliteStore::keep_backups() {
  using std::chrono::duration_cast, std::chrono::microseconds, std::chrono::hours, std::chrono::minutes;
  std::unique_lock guard(mutex_);
  uint64_t backed_up = 0;
  while (!wake_keeper_.wait_for(guard, minutes(10), [this] { return stop_; })) {
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

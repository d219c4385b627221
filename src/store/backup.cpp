#include "store/backup.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <functional>

#include "base/fail.h"
#include "base/file.h"
#include "store/core.h"
#include "store/file_locks.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxDatabaseBytes = uint64_t{64} << 30;
constexpr std::string_view kPrefix = "learn-", kSuffix = ".db", kAside = ".damaged",
                           kUnfinished = ".db.tmp";  // also of OutputFile

tl::unexpected<Error> cannot(std::string_view doing, const std::filesystem::path& file) {
  return fail(ErrorKind::kIo, errno == ENOSPC ? "store.disk_full" : "store.backup", "{}: cannot {}: {}",
              file.string(), doing, std::strerror(errno));
}

Result<void> sync_path(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return cannot("open", path);
  const bool synced = fsync(descriptor) == 0;
  const auto result = synced ? Result<void>() : cannot("sync", path);
  ::close(descriptor);
  return result;
}

void remove_if(const std::filesystem::path& folder, const std::function<bool(const std::string&)>& wanted) {
  std::error_code ignored;
  std::vector<std::filesystem::path> files;
  for (const auto& item : std::filesystem::directory_iterator(folder, ignored)) {
    if (wanted(item.path().filename().string())) files.push_back(item.path());
  }
  for (const auto& file : files) std::filesystem::remove(file, ignored);
}

// Whether a store would serve all of this file.
Result<void> check_copy(const std::filesystem::path& file) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_file(file, kMaxDatabaseBytes));
  ASSIGN_OR_RETURN(const auto core, StoreCore::open_copy(bytes, file, {}));
  const auto damage = core->take_damage();
  if (damage.empty()) return {};
  return fail("store.backup", "{}: {} row {}: {}", file.string(), damage.front().table, damage.front().row,
              damage.front().what);
}

}  // namespace

struct BackupRun::State {
  sqlite3* target = nullptr;
  sqlite3_backup* backup = nullptr;
  ~State() {
    if (backup != nullptr) sqlite3_backup_finish(backup);
    if (target != nullptr) sqlite3_close_v2(target);
  }
};

BackupRun::~BackupRun() = default;
BackupRun::BackupRun(BackupRun&&) noexcept = default;
BackupRun& BackupRun::operator=(BackupRun&&) noexcept = default;

Result<BackupRun> BackupRun::start(Database& source, const std::filesystem::path& file) {
  BackupRun run;
  run.state_ = std::make_unique<State>();
  const int code =
      sqlite3_open_v2(file.c_str(), &run.state_->target,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
  if (code != SQLITE_OK) return tl::unexpected(sqlite_error(run.state_->target, code, file.string()));
  // Nobody reads the file before it is complete and synced as a whole.
  sqlite3_exec(run.state_->target, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF", nullptr, nullptr,
               nullptr);
  run.state_->backup = sqlite3_backup_init(run.state_->target, "main", source.handle(), "main");
  if (run.state_->backup == nullptr) {
    return tl::unexpected(
        sqlite_error(run.state_->target, sqlite3_extended_errcode(run.state_->target), file.string()));
  }
  return run;
}

Result<bool> BackupRun::step(int n_pages) {
  const int code = sqlite3_backup_step(state_->backup, n_pages);
  if (code == SQLITE_OK) return false;
  if (code != SQLITE_DONE) {
    Error error = sqlite_error(nullptr, code, "backup");
    state_.reset();
    return tl::unexpected(std::move(error));
  }
  const int finished = sqlite3_backup_finish(std::exchange(state_->backup, nullptr));
  const int closed = sqlite3_close(std::exchange(state_->target, nullptr));
  const int worst = finished != SQLITE_OK ? finished : closed;
  if (worst != SQLITE_OK) return tl::unexpected(sqlite_error(nullptr, worst, "backup"));
  return true;
}

Result<BackupFile> BackupFile::create(const std::filesystem::path& file) {
  std::filesystem::path temporary = file;
  temporary += fmt::format(".tmp{}", getpid());  // kUnfinished
  ::unlink(temporary.c_str());                   // of an earlier process with this number
  const int descriptor = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (descriptor < 0) return cannot("create", temporary);
  ::close(descriptor);
  return BackupFile(file, temporary);
}

BackupFile::~BackupFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}
BackupFile::BackupFile(BackupFile&& other) noexcept
    : file_(std::move(other.file_)), temporary_(std::exchange(other.temporary_, {})) {}
BackupFile& BackupFile::operator=(BackupFile&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(temporary_, other.temporary_);
  return *this;
}

Result<void> BackupFile::commit() {
  RETURN_IF_ERROR(check_copy(temporary_));
  RETURN_IF_ERROR(sync_path(temporary_));
  if (::rename(temporary_.c_str(), file_.c_str()) != 0) return cannot("rename", temporary_);
  temporary_.clear();
  return sync_path(file_.has_parent_path() ? file_.parent_path() : std::filesystem::path("."));
}

std::vector<BackupEntry> list_backups(const std::filesystem::path& folder) {
  std::vector<BackupEntry> entries;
  std::error_code ignored;
  for (const auto& item : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = item.path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
    const char* begin = name.data() + kPrefix.size();
    const char* end = name.data() + name.size() - kSuffix.size();
    BackupEntry entry{item.path(), 0};
    if (begin < end && std::from_chars(begin, end, entry.time_us).ptr == end) entries.push_back(entry);
  }
  std::sort(entries.begin(), entries.end(),
            [](const BackupEntry& a, const BackupEntry& b) { return a.time_us > b.time_us; });
  return entries;
}

Result<std::filesystem::path> new_backup_name(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  if (!error) std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  if (error) {
    return fail(ErrorKind::kIo, "store.backup", "{}: cannot make the directory: {}", folder.string(),
                error.message());
  }
  const auto backups = list_backups(folder);
  const int64_t time = std::max(now_us(), backups.empty() ? 0 : backups.front().time_us + 1);
  return folder / fmt::format("{}{:020}{}", kPrefix, time, kSuffix);
}

void remove_old_backups(const std::filesystem::path& folder, size_t n_kept) {
  const auto backups = list_backups(folder);
  std::error_code ignored;
  for (size_t i = n_kept; i < backups.size(); ++i) std::filesystem::remove(backups[i].file, ignored);
}

void remove_set_aside(const std::filesystem::path& folder) {
  remove_if(folder, [](const std::string& name) {
    return name.starts_with("learn.") && name.find(kAside) != std::string::npos;
  });
}

void remove_unfinished(const StoreFiles& files) {
  const auto unfinished = [](const std::string& name) {
    return name.starts_with("learn") && name.find(kUnfinished) != std::string::npos;
  };
  remove_if(files.folder, unfinished);
  remove_if(files.backups(), unfinished);
}

Result<std::vector<uint8_t>> copy_database(const StoreFiles& files) {
  ASSIGN_OR_RETURN(const CheckpointLock lock, CheckpointLock::share(files.checkpoint_lock()));
  return read_file(files.database(), kMaxDatabaseBytes);
}

std::string RestoreReport::text() const {
  if (backup.empty()) {
    return fmt::format("{} was set aside, and there is no good backup: the store begins empty",
                       set_aside.string());
  }
  return fmt::format("{} was set aside, and the backup {} took its place", set_aside.string(),
                     backup.string());
}

Result<RestoreReport> restore_backup(const std::filesystem::path& folder) {
  const StoreFiles files{folder};
  RestoreReport report;
  for (const BackupEntry& entry : list_backups(files.backups())) {
    if (!check_copy(entry.file)) continue;
    report.backup = entry.file;
    report.time_us = entry.time_us;
    break;
  }
  // The new file is complete before the old one moves; learn.seq goes last. Cut short in between, the next
  // opening finds no file that was written to before, calls that store.corrupt, and this begins again.
  std::optional<OutputFile> out;
  if (!report.backup.empty()) {
    ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_file(report.backup, kMaxDatabaseBytes));
    ASSIGN_OR_RETURN(out, OutputFile::create(files.database(), true));
    RETURN_IF_ERROR(out->write(bytes));
  }
  const std::string suffix = fmt::format("{}-{}", kAside, now_us());
  for (const auto& file : {files.wal(), files.database()}) {
    std::filesystem::path aside = file;
    aside += suffix;
    if (::rename(file.c_str(), aside.c_str()) != 0) {
      if (errno == ENOENT) continue;
      return cannot("set aside", file);
    }
    report.set_aside = aside;
  }
  if (out) {
    RETURN_IF_ERROR(out->commit());
    if (::chmod(files.database().c_str(), 0600) != 0) return cannot("protect", files.database());
  }
  ::unlink(files.sequence().c_str());
  RETURN_IF_ERROR(sync_path(folder));
  return report;
}

}  // namespace ruvltra

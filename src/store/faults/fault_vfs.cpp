#include "store/faults/fault_vfs.h"

#include <sqlite3.h>

#include <atomic>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace ruvltra {

// Every call is passed on to the system's VFS. There is no shared memory (methods of version 1): a store that
// needed it would not open here.
struct FaultVfs::Hooks {
  sqlite3_vfs vfs = {};
  sqlite3_io_methods methods = {};
  sqlite3_vfs* real = nullptr;

  // What SQLite allocates for a file: this, then the system's own structure.
  struct File {
    sqlite3_file base;
    FaultVfs* owner;
    const char* name;  // without the folder; SQLite keeps it while the file is open
    sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
  };

  static File* of(sqlite3_file* file) { return reinterpret_cast<File*>(file); }
  static FaultVfs* of(sqlite3_vfs* vfs) { return static_cast<FaultVfs*>(vfs->pAppData); }
  static const char* last_part(const char* path) {
    const char* slash = path != nullptr ? std::strrchr(path, '/') : nullptr;
    return slash != nullptr ? slash + 1 : path != nullptr ? path : "";
  }

  static int close(sqlite3_file* file) {
    sqlite3_file* real = of(file)->real();
    return real->pMethods != nullptr ? real->pMethods->xClose(real) : SQLITE_OK;
  }
  static int read(sqlite3_file* file, void* out, int n, sqlite3_int64 offset) {
    if (of(file)->owner->fires(DiskFault::kIoError)) return SQLITE_IOERR_READ;
    sqlite3_file* real = of(file)->real();
    return real->pMethods->xRead(real, out, n, offset);
  }
  static int write(sqlite3_file* file, const void* bytes, int n, sqlite3_int64 offset) {
    FaultVfs* owner = of(file)->owner;
    sqlite3_file* real = of(file)->real();
    if (owner->fires(DiskFault::kDiskFull)) return SQLITE_FULL;
    if (owner->fires(DiskFault::kIoError)) return SQLITE_IOERR_WRITE;
    const bool cut = owner->fires(DiskFault::kShortWrite);
    const int written = cut ? n / 2 : n;
    owner->log({DiskEvent::Kind::kWrite, of(file)->name, static_cast<uint64_t>(offset),
                std::string(static_cast<const char*>(bytes), static_cast<size_t>(written))});
    const int code = real->pMethods->xWrite(real, bytes, written, offset);
    return cut ? SQLITE_IOERR_WRITE : code;
  }
  static int truncate(sqlite3_file* file, sqlite3_int64 size) {
    if (of(file)->owner->fires(DiskFault::kIoError)) return SQLITE_IOERR_TRUNCATE;
    of(file)->owner->log({DiskEvent::Kind::kTruncate, of(file)->name, static_cast<uint64_t>(size), {}});
    sqlite3_file* real = of(file)->real();
    return real->pMethods->xTruncate(real, size);
  }
  static int sync(sqlite3_file* file, int flags) {
    FaultVfs* owner = of(file)->owner;
    if (owner->fires(DiskFault::kSyncError) || owner->fires(DiskFault::kIoError)) return SQLITE_IOERR_FSYNC;
    sqlite3_file* real = of(file)->real();
    const int code = owner->sync_for_real_ ? real->pMethods->xSync(real, flags) : SQLITE_OK;
    if (code == SQLITE_OK) owner->log({DiskEvent::Kind::kSync, of(file)->name, 0, {}});
    return code;
  }
  static int file_size(sqlite3_file* file, sqlite3_int64* size) {
    if (of(file)->owner->fires(DiskFault::kIoError)) return SQLITE_IOERR_FSTAT;
    sqlite3_file* real = of(file)->real();
    return real->pMethods->xFileSize(real, size);
  }
  static int lock(sqlite3_file* file, int level) {
    return of(file)->real()->pMethods->xLock(of(file)->real(), level);
  }
  static int unlock(sqlite3_file* file, int level) {
    return of(file)->real()->pMethods->xUnlock(of(file)->real(), level);
  }
  static int check_lock(sqlite3_file* file, int* out) {
    return of(file)->real()->pMethods->xCheckReservedLock(of(file)->real(), out);
  }
  static int control(sqlite3_file* file, int operation, void* argument) {
    return of(file)->real()->pMethods->xFileControl(of(file)->real(), operation, argument);
  }
  static int sector_size(sqlite3_file* file) {
    return of(file)->real()->pMethods->xSectorSize(of(file)->real());
  }
  static int device(sqlite3_file* file) {
    return of(file)->real()->pMethods->xDeviceCharacteristics(of(file)->real());
  }

  static int open(sqlite3_vfs* vfs, const char* path, sqlite3_file* out, int flags, int* out_flags) {
    FaultVfs* owner = of(vfs);
    File* file = of(out);
    file->base.pMethods = nullptr;
    file->owner = owner;
    file->name = last_part(path);
    file->real()->pMethods = nullptr;
    if (owner->fires(DiskFault::kIoError)) return SQLITE_CANTOPEN;
    if ((flags & SQLITE_OPEN_MAIN_DB) != 0) owner->count_opened();
    const int code = owner->hooks_->real->xOpen(owner->hooks_->real, path, file->real(), flags, out_flags);
    if (file->real()->pMethods != nullptr) file->base.pMethods = &owner->hooks_->methods;
    return code;
  }
  static int remove(sqlite3_vfs* vfs, const char* path, int sync_folder) {
    FaultVfs* owner = of(vfs);
    if (owner->fires(DiskFault::kIoError)) return SQLITE_IOERR_DELETE;
    owner->log({DiskEvent::Kind::kDelete, last_part(path), 0, {}});
    return owner->hooks_->real->xDelete(owner->hooks_->real, path, owner->sync_for_real_ ? sync_folder : 0);
  }
  static int access(sqlite3_vfs* vfs, const char* path, int flags, int* out) {
    return of(vfs)->hooks_->real->xAccess(of(vfs)->hooks_->real, path, flags, out);
  }
  static int full_path(sqlite3_vfs* vfs, const char* path, int n, char* out) {
    return of(vfs)->hooks_->real->xFullPathname(of(vfs)->hooks_->real, path, n, out);
  }
  static int randomness(sqlite3_vfs* vfs, int n, char* out) {
    return of(vfs)->hooks_->real->xRandomness(of(vfs)->hooks_->real, n, out);
  }
  static int sleep(sqlite3_vfs* vfs, int microseconds) {
    return of(vfs)->hooks_->real->xSleep(of(vfs)->hooks_->real, microseconds);
  }
  static int current_time(sqlite3_vfs* vfs, double* out) {
    return of(vfs)->hooks_->real->xCurrentTime(of(vfs)->hooks_->real, out);
  }
  static int last_error(sqlite3_vfs* vfs, int n, char* out) {
    return of(vfs)->hooks_->real->xGetLastError(of(vfs)->hooks_->real, n, out);
  }
};

FaultVfs::FaultVfs(bool sync_for_real) : hooks_(std::make_unique<Hooks>()), sync_for_real_(sync_for_real) {
  static std::atomic<int> n_made{0};
  name_ = "ruvltra-fault-" + std::to_string(n_made++);
  sqlite3_initialize();
  hooks_->real = sqlite3_vfs_find(nullptr);
  CHECK(hooks_->real != nullptr);
  sqlite3_io_methods& m = hooks_->methods;
  m.iVersion = 1;
  m.xClose = Hooks::close;
  m.xRead = Hooks::read;
  m.xWrite = Hooks::write;
  m.xTruncate = Hooks::truncate;
  m.xSync = Hooks::sync;
  m.xFileSize = Hooks::file_size;
  m.xLock = Hooks::lock;
  m.xUnlock = Hooks::unlock;
  m.xCheckReservedLock = Hooks::check_lock;
  m.xFileControl = Hooks::control;
  m.xSectorSize = Hooks::sector_size;
  m.xDeviceCharacteristics = Hooks::device;
  sqlite3_vfs& v = hooks_->vfs;
  v.iVersion = 1;
  v.szOsFile = static_cast<int>(sizeof(Hooks::File)) + hooks_->real->szOsFile;
  v.mxPathname = hooks_->real->mxPathname;
  v.zName = name_.c_str();
  v.pAppData = this;
  v.xOpen = Hooks::open;
  v.xDelete = Hooks::remove;
  v.xAccess = Hooks::access;
  v.xFullPathname = Hooks::full_path;
  v.xRandomness = Hooks::randomness;
  v.xSleep = Hooks::sleep;
  v.xCurrentTime = Hooks::current_time;
  v.xGetLastError = Hooks::last_error;
  CHECK(sqlite3_vfs_register(&v, 0) == SQLITE_OK);
}

FaultVfs::~FaultVfs() { sqlite3_vfs_unregister(&hooks_->vfs); }

void FaultVfs::fail_at(DiskFault fault, uint64_t n, bool sticky) {
  const std::lock_guard guard(mutex_);
  fault_ = fault;
  countdown_ = n;
  sticky_ = sticky;
  n_fired_ = 0;
}

uint64_t FaultVfs::n_fired() const {
  const std::lock_guard guard(mutex_);
  return n_fired_;
}

uint64_t FaultVfs::countdown() const {
  const std::lock_guard guard(mutex_);
  return countdown_;
}

uint64_t FaultVfs::n_opened() const {
  const std::lock_guard guard(mutex_);
  return n_opened_;
}
void FaultVfs::count_opened() {
  const std::lock_guard guard(mutex_);
  ++n_opened_;
}

bool FaultVfs::fires(DiskFault kind_of_call) {
  const std::lock_guard guard(mutex_);
  if (fault_ != kind_of_call) return false;
  if (n_fired_ > 0) {
    if (sticky_) ++n_fired_;
    return sticky_;
  }
  if (countdown_ == 0 || --countdown_ > 0) return false;
  ++n_fired_;
  return true;
}

void FaultVfs::record(bool on) {
  const std::lock_guard guard(mutex_);
  recording_ = on;
}
size_t FaultVfs::n_events() const {
  const std::lock_guard guard(mutex_);
  return events_.size();
}
std::vector<DiskEvent> FaultVfs::take_events() {
  const std::lock_guard guard(mutex_);
  return std::exchange(events_, {});
}
void FaultVfs::log(DiskEvent event) {
  const std::lock_guard guard(mutex_);
  // Temporary files have no name and do not outlive the process.
  if (recording_ && !event.file.empty()) events_.push_back(std::move(event));
}

}  // namespace ruvltra

#include "store/file_locks.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "base/fail.h"

namespace ruvltra {
namespace {

constexpr auto kWait = std::chrono::seconds(10);
constexpr auto kRetry = std::chrono::milliseconds(5);

Result<int> open_lock(const std::filesystem::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (descriptor >= 0) return descriptor;
  return fail(ErrorKind::kIo, "store.unavailable", "{}: cannot open: {}", file.string(),
              std::strerror(errno));
}

// False: somebody else has it.
Result<bool> lock(int descriptor, int operation, const std::filesystem::path& file) {
  while (flock(descriptor, operation | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) {
      return fail(ErrorKind::kIo, "store.unavailable", "{}: cannot lock: {}", file.string(),
                  std::strerror(errno));
    }
  }
  return true;
}

Result<bool> lock_within(int descriptor, int operation, const std::filesystem::path& file) {
  const auto deadline = std::chrono::steady_clock::now() + kWait;
  for (;;) {
    ASSIGN_OR_RETURN(const bool taken, lock(descriptor, operation, file));
    if (taken) return true;
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(kRetry);
  }
}

tl::unexpected<Error> held_too_long(const std::filesystem::path& file) {
  return fail(ErrorKind::kBusy, "store.locked", "{}: another program has held this lock for {} s",
              file.string(), kWait.count());
}

}  // namespace

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}
FileLock::FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Result<OwnerLock> OwnerLock::take(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "lock";
  ASSIGN_OR_RETURN(const int descriptor, open_lock(file));
  OwnerLock owner(descriptor);
  ASSIGN_OR_RETURN(const bool taken, lock(descriptor, LOCK_EX, file));
  if (!taken) {
    char pid[32] = {};
    const ssize_t n = pread(descriptor, pid, sizeof pid - 1, 0);
    const std::string_view text(pid, n > 0 ? static_cast<size_t>(n) : 0);
    return fail(ErrorKind::kBusy, "store.locked", "{}: in use by process {}", folder.string(),
                text.empty() ? "?" : ruvltra::quoted(text.substr(0, text.find('\n'))));
  }
  const std::string pid = fmt::format("{}\n", getpid());
  if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, pid.data(), pid.size(), 0) < 0) {
    // The lock holds without it; only the message of the next one will not know the number.
    errno = 0;
  }
  return owner;
}

Result<std::optional<CheckpointLock>> CheckpointLock::take(const std::filesystem::path& file, bool wait) {
  ASSIGN_OR_RETURN(const int descriptor, open_lock(file));
  CheckpointLock held(descriptor);
  ASSIGN_OR_RETURN(const bool taken,
                   wait ? lock_within(descriptor, LOCK_EX, file) : lock(descriptor, LOCK_EX, file));
  if (taken) return std::optional(std::move(held));
  if (wait) return held_too_long(file);
  return std::optional<CheckpointLock>();
}

Result<CheckpointLock> CheckpointLock::share(const std::filesystem::path& file) {
  // A folder that may only be read has no lock file, and no writer either.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  CheckpointLock held(descriptor);
  if (descriptor < 0) return held;
  ASSIGN_OR_RETURN(const bool taken, lock_within(descriptor, LOCK_SH, file));
  if (!taken) return held_too_long(file);
  return held;
}

}  // namespace ruvltra

#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/fail.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxTransfer = size_t{1} << 30;

std::string_view file_kind(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  if (S_ISSOCK(mode)) return "a socket";
  return "something else";
}

tl::unexpected<Error> open_failure(const std::filesystem::path& path, int error) {
  const std::string_view id = error == ENOENT || error == ELOOP || error == ENOTDIR ? "file.not_found"
                              : error == EACCES || error == EPERM                   ? "file.denied"
                                                                                    : "file.open";
  return fail(ErrorKind::kIo, id, "{}: cannot open: {}", path.string(), std::strerror(error));
}

}  // namespace

Result<InputFile> InputFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO without a writer must not hang.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return open_failure(path, errno);
  InputFile file(path, descriptor, 0);
  struct stat info;
  if (fstat(descriptor, &info) != 0) return open_failure(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return fail(ErrorKind::kIo, "file.not_regular", "{}: expected a regular file, found {}", path.string(),
                file_kind(info.st_mode));
  }
  file.size_ = static_cast<uint64_t>(info.st_size);
  return file;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}
InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}
InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

Result<void> InputFile::read_at(uint64_t offset, std::span<uint8_t> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = pread(descriptor_, out.data() + done, std::min(out.size() - done, kMaxTransfer),
                            static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return fail(ErrorKind::kIo, "file.read", "{}: read of {} bytes at {} failed: {}", path_.string(),
                  out.size(), offset, std::strerror(errno));
    }
    if (n == 0) {
      return fail(ErrorKind::kIo, "file.truncated",
                  "{}: expected {} bytes at offset {}, found {} (the file shrank)", path_.string(),
                  out.size(), offset, done);
    }
    done += static_cast<size_t>(n);
  }
  return {};
}

Result<std::vector<uint8_t>> read_file(const std::filesystem::path& path, uint64_t max_bytes) {
  ASSIGN_OR_RETURN(const InputFile file, InputFile::open(path));
  if (file.size() > max_bytes) {
    return fail("file.too_large", "{}: expected at most {} bytes, found {}", path.string(), max_bytes,
                file.size());
  }
  std::vector<uint8_t> bytes(file.size());
  RETURN_IF_ERROR(file.read_at(0, bytes));
  return bytes;
}

Result<std::string> read_text_file(const std::filesystem::path& path, uint64_t max_bytes) {
  ASSIGN_OR_RETURN(const auto bytes, read_file(path, max_bytes));
  return std::string(bytes.begin(), bytes.end());
}

Result<MappedFile> MappedFile::open(const InputFile& file) {
  if (file.size() == 0) return MappedFile(nullptr, 0);
  void* data = mmap(nullptr, file.size(), PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (data == MAP_FAILED) {
    return fail(ErrorKind::kIo, "file.map", "{}: cannot map {} bytes: {}", file.path().string(), file.size(),
                std::strerror(errno));
  }
  madvise(data, file.size(), MADV_SEQUENTIAL);
  return MappedFile(static_cast<const uint8_t*>(data), file.size());
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
}
MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::release(uint64_t offset, uint64_t length) const {
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t begin = (offset + page - 1) / page * page;
  const uint64_t end = (offset + length) / page * page;
  if (begin < end && end <= size_) madvise(const_cast<uint8_t*>(data_) + begin, end - begin, MADV_DONTNEED);
}

namespace {

// The file that a write to `path` means: what a symbolic link stands for, which the rename would replace.
Result<std::filesystem::path> output_target(const std::filesystem::path& path, bool overwrite) {
  std::error_code error;
  if (!std::filesystem::exists(std::filesystem::symlink_status(path, error))) return path;
  struct stat info;
  const bool found = ::stat(path.c_str(), &info) == 0;
  if (!found || !S_ISREG(info.st_mode)) {
    return fail(ErrorKind::kIo, "file.not_regular", "{}: expected a regular file or a new name, found {}",
                path.string(), found ? file_kind(info.st_mode) : "a symbolic link that leads nowhere");
  }
  if (!overwrite) {
    return fail(ErrorKind::kUsage, "file.exists", "{}: exists already; --force overwrites it", path.string());
  }
  std::filesystem::path target = std::filesystem::canonical(path, error);
  if (error) {
    return fail(ErrorKind::kIo, "file.create", "{}: cannot resolve: {}", path.string(), error.message());
  }
  return target;
}

}  // namespace

Result<OutputFile> OutputFile::create(const std::filesystem::path& path, bool overwrite) {
  constexpr int kMaxNames = 100;
  ASSIGN_OR_RETURN(const std::filesystem::path target, output_target(path, overwrite));
  // A name may be taken: by another writer of this process, or by one that was killed.
  for (int n = 0;; ++n) {
    std::filesystem::path temporary = target;
    temporary += fmt::format(".tmp{}.{}", getpid(), n);
    const int descriptor =
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (descriptor >= 0) return OutputFile(target, temporary, descriptor);
    if (errno != EEXIST || n == kMaxNames) {
      return fail(ErrorKind::kIo, "file.create", "{}: cannot create: {}", temporary.string(),
                  std::strerror(errno));
    }
  }
}

OutputFile::~OutputFile() { discard(); }
OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      position_(other.position_) {}
OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(position_, other.position_);
  return *this;
}

void OutputFile::discard() {
  if (descriptor_ < 0) return;
  ::close(std::exchange(descriptor_, -1));
  ::unlink(temporary_.c_str());
}

Result<void> OutputFile::write(std::span<const uint8_t> bytes) {
  RETURN_IF_ERROR(write_at(position_, bytes));
  position_ += bytes.size();
  return {};
}

Result<void> OutputFile::write_at(uint64_t offset, std::span<const uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = pwrite(descriptor_, bytes.data() + done, std::min(bytes.size() - done, kMaxTransfer),
                             static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return fail(ErrorKind::kIo, "file.write", "{}: write of {} bytes failed: {}", temporary_.string(),
                  bytes.size(), std::strerror(errno));
    }
    done += static_cast<size_t>(n);
  }
  return {};
}

Result<void> OutputFile::commit() {
  const auto failed = [&](const char* step) {
    return fail(ErrorKind::kIo, "file.commit", "{}: {} failed: {}", path_.string(), step,
                std::strerror(errno));
  };
  if (fsync(descriptor_) != 0) return failed("sync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return failed("rename");
  ::close(std::exchange(descriptor_, -1));
  const std::filesystem::path folder =
      path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
  const int folder_descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_descriptor >= 0) {
    fsync(folder_descriptor);
    ::close(folder_descriptor);
  }
  return {};
}

}  // namespace ruvltra

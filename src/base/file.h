// Files: opening for reading (regular files only), private copies, mappings, and all-or-nothing writing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

// A regular file opened for reading; its size is fixed at open.  Thread safety: const calls may run in
// parallel.
class InputFile {
 public:
  // Errors: file.not_found, file.not_regular (directory, FIFO, device), file.denied, file.open.
  static Result<InputFile> open(const std::filesystem::path& path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;

  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const { return size_; }
  int descriptor() const { return descriptor_; }

  // Fills `out` from `offset`. A file that has shrunk since open gives file.truncated.
  Result<void> read_at(uint64_t offset, std::span<uint8_t> out) const;

 private:
  InputFile(std::filesystem::path path, int descriptor, uint64_t size)
      : path_(std::move(path)), descriptor_(descriptor), size_(size) {}
  std::filesystem::path path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

// The whole file; larger than max_bytes gives file.too_large before anything is allocated.
Result<std::vector<uint8_t>> read_file(const std::filesystem::path& path, uint64_t max_bytes);
Result<std::string> read_text_file(const std::filesystem::path& path, uint64_t max_bytes);

// A read-only mapping of a whole file. The file must not shrink while mapped: a later access would be a
// SIGBUS.
class MappedFile {
 public:
  static Result<MappedFile> open(const InputFile& file);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  // Tells the kernel that these pages will not be read again soon.
  void release(uint64_t offset, uint64_t length) const;

 private:
  MappedFile(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Writes to a temporary name beside `path`; commit() syncs and renames. Without commit() nothing is left
// behind.
class OutputFile {
 public:
  // A symbolic link stands for the file it leads to. Errors: file.exists without `overwrite` (a usage error);
  // file.not_regular for a directory, FIFO or device, and a link that leads nowhere; file.create.
  static Result<OutputFile> create(const std::filesystem::path& path, bool overwrite);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;

  Result<void> write(std::span<const uint8_t> bytes);  // appends
  Result<void> write_at(uint64_t offset,
                        std::span<const uint8_t> bytes);  // positions are independent of write()
  uint64_t position() const { return position_; }
  Result<void> commit();

 private:
  OutputFile(std::filesystem::path path, std::filesystem::path temporary, int descriptor)
      : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor) {}
  void discard();
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
  uint64_t position_ = 0;
};

}  // namespace ruvltra

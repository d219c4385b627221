// GGUF v2 and v3 (little endian), single files and split sets. Format: docs/gguf.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "gguf/metadata.h"
#include "quant/format.h"

namespace ruvltra {

struct TensorInfo {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<uint64_t> dims;  // 1..4, dims[0] fastest: (K) or (K, rows)
  uint64_t n_elements = 0;
  uint64_t n_bytes = 0;
  size_t part = 0;      // which file of a split set
  uint64_t offset = 0;  // absolute, in that file

  uint64_t row_elements() const { return dims[0]; }
  uint64_t n_rows() const { return n_elements / dims[0]; }
};

// An opened model file whose header has been read and checked whole: sizes, extents, overlap, names.
// Thread safety: const calls may run in parallel.
// Invariants: 1. every tensor's [offset, offset + n_bytes) lies inside its part's data section and overlaps
// no other; 2. n_bytes follows from dims and type without overflow; 3. names are unique.
class GgufFile {
 public:
  struct Options {
    bool map = false;  // read through a mapping instead of pread; same bytes
  };
  // For a split set give its first part ("NAME-00001-of-00003.gguf"); the others are found beside it. The
  // metadata is that of the first part without its split.* keys, so that it also fits a single file.
  static Result<GgufFile> open(const std::filesystem::path& path, Options options);
  static Result<GgufFile> open(const std::filesystem::path& path) { return open(path, Options()); }

  GgufFile(GgufFile&&) noexcept;
  GgufFile& operator=(GgufFile&&) noexcept;
  ~GgufFile();

  const std::filesystem::path& path() const;
  uint32_t version() const;
  uint64_t file_bytes() const;  // all parts
  size_t n_parts() const;
  const InputFile& part(size_t index) const;
  const Metadata& metadata() const;
  std::span<const TensorInfo> tensors() const;  // in file order
  const TensorInfo* find(std::string_view name) const;
  // Non-fatal remarks, such as bytes after the last tensor.
  std::span<const std::string> warnings() const;

  // Copies bytes [begin, begin + out.size()) of a tensor; file.truncated if the file has shrunk since open.
  // *Requires*: the range lies in the tensor.
  Result<void> read(const TensorInfo& tensor, uint64_t begin, std::span<uint8_t> out) const;
  // Same bytes as a view into the mapping; empty unless opened with map.
  std::span<const uint8_t> mapped(const TensorInfo& tensor) const;
  // Drops the mapped pages of a tensor that will not be read again. No effect unless opened with map.
  void release(const TensorInfo& tensor) const;

 private:
  struct Impl;
  explicit GgufFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Parses a header from memory (fuzzing, tests). `file_bytes` is the size the whole file claims to have; the
// extents are checked against it. Same checks and errors as open().
struct GgufHeader {
  uint32_t version = 3;
  Metadata metadata;
  std::vector<TensorInfo> tensors;  // offsets absolute
  uint64_t data_offset = 0;
  uint64_t alignment = 32;
  std::vector<std::string> warnings;
};
Result<GgufHeader> parse_gguf_header(std::span<const uint8_t> bytes, uint64_t file_bytes,
                                     const std::string& source);

}  // namespace ruvltra

// Safetensors weight files, single or sharded. Format: 8-byte little-endian header length, a JSON object
// {name: {dtype, shape, data_offsets: [begin, end]}}, then the data (safetensors format documentation).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "quant/format.h"
#include "ruvltra/error.h"

namespace ruvltra {

struct SafetensorsTensor {
  std::string name;
  std::string_view dtype;          // as in the file: "F32", "BF16", "I64", ...
  std::optional<TensorType> type;  // F32, F16 and BF16; other types are listed but cannot be read
  std::vector<uint64_t> shape;  // last dimension fastest, the reverse of TensorInfo::dims; {} is one number
  uint64_t n_elements = 0;
  uint64_t n_bytes = 0;
  size_t part = 0;      // which shard
  uint64_t offset = 0;  // absolute, in that shard
};

// Opened shards whose headers have been read and checked whole.
// Thread safety: const calls may run in parallel.
// Invariants: 1. in each shard the tensors cover the data section without overlap or hole; 2. n_bytes follows
// from shape and dtype without overflow; 3. names are unique; 4. a sharded set holds what its index lists.
class SafetensorsFile {
 public:
  // `path` is a .safetensors file, a .safetensors.index.json file, or a folder that holds
  // model.safetensors.index.json or model.safetensors.
  static Result<SafetensorsFile> open(const std::filesystem::path& path);
  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;
  ~SafetensorsFile();

  const std::filesystem::path& path() const;
  uint64_t file_bytes() const;  // all shards
  size_t n_parts() const;
  std::span<const SafetensorsTensor> tensors() const;  // shard by shard, in the order of the data
  const SafetensorsTensor* find(std::string_view name) const;

  // Copies bytes [begin, begin + out.size()) of a tensor. safetensors.dtype if it is not F32, F16 or BF16.
  // *Requires*: the range lies in the tensor.
  Result<void> read(const SafetensorsTensor& tensor, uint64_t begin, std::span<uint8_t> out) const;

 private:
  struct Impl;
  explicit SafetensorsFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

inline constexpr uint64_t kSafetensorsMaxHeaderBytes = 100'000'000;

struct SafetensorsHeader {
  std::vector<std::pair<std::string, std::string>> metadata;  // of the key "__metadata__"
  std::vector<SafetensorsTensor> tensors;                     // in the order of the data; offsets absolute
};
// Parses a header from memory (fuzzing, tests). `bytes` begin with the length; `file_bytes` is the size the
// whole file claims to have. Same checks and errors as open().
Result<SafetensorsHeader> parse_safetensors_header(std::span<const uint8_t> bytes, uint64_t file_bytes,
                                                   const std::string& source);

}  // namespace ruvltra

// Writing GGUF v3: declare metadata and tensors first, then deliver each tensor's bytes in order, piece by
// piece.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gguf/metadata.h"
#include "quant/format.h"
#include "ruvltra/error.h"

namespace ruvltra {

struct TensorPlan {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<uint64_t> dims;  // dims[0] fastest
};

// Memory in use is bounded by the caller's pieces. Nothing appears under the final name before finish().
class GgufWriter {
 public:
  static Result<GgufWriter> create(const std::filesystem::path& path, const Metadata& metadata,
                                   std::vector<TensorPlan> tensors, bool overwrite, uint32_t alignment = 32);
  GgufWriter(GgufWriter&&) noexcept;
  GgufWriter& operator=(GgufWriter&&) noexcept;
  ~GgufWriter();

  uint64_t total_bytes() const;  // size of the finished file
  // Bytes of tensor `index` starting at `begin` within it; any order, thread-safe for disjoint ranges.
  Result<void> write(size_t index, uint64_t begin, std::span<const uint8_t> bytes);
  // Fails (gguf.incomplete) unless every byte of every tensor was delivered exactly once in total length.
  Result<void> finish();

 private:
  struct Impl;
  explicit GgufWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ruvltra

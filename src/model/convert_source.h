// Weights to convert: a GGUF file or a Hugging Face folder, seen alike.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gguf/metadata.h"
#include "model/config.h"
#include "quant/format.h"
#include "ruvltra/error.h"

namespace ruvltra {

struct SourceTensor {
  std::string name;  // GGUF name
  TensorType type = TensorType::kF32;
  std::vector<uint64_t> dims;  // dims[0] fastest

  uint64_t n_elements() const {
    uint64_t n = 1;
    for (const uint64_t dim : dims) n *= dim;  // bounded by the reader of the file
    return n;
  }
  uint64_t n_bytes() const { return format_of(type).row_bytes(n_elements()); }
};

// Thread safety: const calls may run in parallel.
class WeightSource {
 public:
  // A .gguf file or a folder. The model's shape and its set of tensors have been checked.
  static Result<std::unique_ptr<WeightSource>> open(const std::filesystem::path& path);
  virtual ~WeightSource() = default;

  const ModelShape& shape() const { return shape_; }
  const Metadata& metadata() const { return metadata_; }
  std::span<const SourceTensor> tensors() const { return tensors_; }
  // Remarks for the user, not errors.
  std::span<const std::string> warnings() const { return warnings_; }

  // Stored bytes [begin, begin + out.size()) of a tensor. *Requires*: the range lies in the tensor.
  virtual Result<void> read(size_t tensor, uint64_t begin, std::span<uint8_t> out) const = 0;

 protected:
  ModelShape shape_;
  Metadata metadata_;
  std::vector<SourceTensor> tensors_;
  std::vector<std::string> warnings_;
};

}  // namespace ruvltra

// The block formats of GGUF tensors, one row per type. The scalar decode is the definition of a format;
// everything faster must agree with it bit for bit. Layouts: docs/formats.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace ruvltra {

// Values are the ids stored in GGUF files.
enum class TensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

struct Format {
  TensorType type;
  std::string_view name;  // "Q4_K", "F16", ...
  size_t block_elements;  // 1 for the plain float types
  size_t block_bytes;

  // blocks -> n floats. n is a multiple of block_elements. Exact up to one rounding per weight.
  void (*decode)(const uint8_t* blocks, float* out, size_t n);
  // n finite floats -> blocks. `importance` is null or n non-negative weights for the squared error.
  // A pure function of its inputs: the same bytes on every machine and thread.
  void (*encode)(const float* values, uint8_t* blocks, size_t n, const float* importance);
  // Whether every scale (or, in plain types, every value) of the blocks holding n elements is finite.
  bool (*is_finite)(const uint8_t* blocks, size_t n);

  size_t row_bytes(size_t n_elements) const { return n_elements / block_elements * block_bytes; }
};

// All supported formats, in ascending id.
std::span<const Format> all_formats();

const Format& format_of(TensorType type);
// nullptr if this program does not read such tensors.
const Format* find_format(uint32_t gguf_type_id);
const Format* find_format(std::string_view name);  // case-insensitive

// Name of any type id ever assigned in GGUF ("IQ2_XXS", "TQ1_0", ...), for error messages; empty if unknown.
std::string_view gguf_type_name(uint32_t gguf_type_id);

}  // namespace ruvltra

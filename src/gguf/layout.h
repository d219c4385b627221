// The rules of a GGUF file that reader and writer share: limits, names, sizes. Format: docs/gguf.md.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "gguf/metadata.h"
#include "quant/format.h"

namespace ruvltra {

inline constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF"
inline constexpr uint32_t kGgufVersion = 3;

inline constexpr uint64_t kGgufMaxHeaderBytes = uint64_t{256} << 20;
inline constexpr uint64_t kGgufMaxEntries = 65'536;  // keys, and tensors
inline constexpr uint64_t kGgufMaxKeyBytes = 65'535;
inline constexpr uint64_t kGgufMaxNameBytes = 63;
inline constexpr uint64_t kGgufMaxDims = 4;

inline constexpr uint32_t kGgufDefaultAlignment = 32;
inline constexpr uint32_t kGgufMinAlignment = 8;
inline constexpr uint32_t kGgufMaxAlignment = 4096;
inline constexpr std::string_view kGgufAlignmentKey = "general.alignment";

// Value type ids in the file. Ids above kArray are one more than the index of the alternative in MetaValue.
inline constexpr uint32_t kGgufArrayType = 9;
inline constexpr size_t kGgufScalarTypes = 12;
inline constexpr uint32_t gguf_type_id(size_t scalar_index) {
  return static_cast<uint32_t>(scalar_index < kGgufArrayType ? scalar_index : scalar_index + 1);
}
static_assert(std::is_same_v<std::variant_alternative_t<8, MetaValue>, std::string>);
static_assert(std::is_same_v<std::variant_alternative_t<11, MetaValue>, double>);
static_assert(
    std::is_same_v<std::variant_alternative_t<kGgufScalarTypes + 8, MetaValue>, std::vector<std::string>>);

bool is_gguf_alignment(uint64_t alignment);

// gguf.key: empty, too long, control characters or invalid UTF-8.
Result<void> check_gguf_key(std::string_view key, std::string_view source);
// gguf.tensor_name, likewise.
Result<void> check_gguf_tensor_name(std::string_view name, std::string_view source);

struct TensorSize {
  uint64_t n_elements;
  uint64_t n_bytes;
};
// Errors: gguf.tensor_n_dims, gguf.tensor_dim (zero), gguf.tensor_row (not whole blocks), gguf.tensor_size
// (overflow).
Result<TensorSize> gguf_tensor_size(std::string_view name, const Format& format,
                                    std::span<const uint64_t> dims, std::string_view source);

}  // namespace ruvltra

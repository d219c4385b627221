#include "gguf/layout.h"

#include <algorithm>
#include <bit>

#include "base/bytes.h"
#include "base/fail.h"
#include "base/utf8.h"

namespace ruvltra {
namespace {

bool is_readable(std::string_view text) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  return std::none_of(text.begin(), text.end(), is_control) && utf8_is_valid(text);
}

}  // namespace

bool is_gguf_alignment(uint64_t alignment) {
  return std::has_single_bit(alignment) && alignment >= kGgufMinAlignment && alignment <= kGgufMaxAlignment;
}

Result<void> check_gguf_key(std::string_view key, std::string_view source) {
  if (key.empty() || key.size() > kGgufMaxKeyBytes || !is_readable(key)) {
    return fail("gguf.key", "{}: metadata key: expected 1 to {} bytes of printable UTF-8, found {} bytes {}",
                source, kGgufMaxKeyBytes, key.size(), ruvltra::quoted(key));
  }
  return {};
}

Result<void> check_gguf_tensor_name(std::string_view name, std::string_view source) {
  if (name.empty() || name.size() > kGgufMaxNameBytes || !is_readable(name)) {
    return fail("gguf.tensor_name",
                "{}: tensor name: expected 1 to {} bytes of printable UTF-8, found {} bytes {}", source,
                kGgufMaxNameBytes, name.size(), ruvltra::quoted(name));
  }
  return {};
}

Result<TensorSize> gguf_tensor_size(std::string_view name, const Format& format,
                                    std::span<const uint64_t> dims, std::string_view source) {
  if (dims.empty() || dims.size() > kGgufMaxDims) {
    return fail("gguf.tensor_n_dims", "{}: tensor {}: expected 1 to {} dimensions, found {}", source,
                ruvltra::quoted(name), kGgufMaxDims, dims.size());
  }
  std::optional<uint64_t> n_elements = 1;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) {
      return fail("gguf.tensor_dim", "{}: tensor {}: dimension {}: expected at least 1, found 0", source,
                  ruvltra::quoted(name), i);
    }
    if (n_elements) n_elements = checked_mul(*n_elements, dims[i]);
  }
  if (dims[0] % format.block_elements != 0) {
    return fail("gguf.tensor_row",
                "{}: tensor {}: expected rows of a multiple of {} elements for {}, found {}", source,
                ruvltra::quoted(name), format.block_elements, format.name, dims[0]);
  }
  const auto n_bytes =
      n_elements ? checked_mul(*n_elements / format.block_elements, format.block_bytes) : std::nullopt;
  if (!n_bytes) {
    return fail("gguf.tensor_size", "{}: tensor {}: expected a size below 2^64 bytes, found dimensions {}",
                source, ruvltra::quoted(name), fmt::join(dims, " x "));
  }
  return TensorSize{*n_elements, *n_bytes};
}

}  // namespace ruvltra

// GGUF headers: whatever the bytes, parsing ends in an error or in a header whose promises hold.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "gguf/reader.h"

namespace {

using ruvltra::GgufHeader;
using ruvltra::TensorInfo;

void check_promises(const GgufHeader& header, uint64_t file_bytes) {
  CHECK(header.version == 2 || header.version == 3);
  for (const TensorInfo& a : header.tensors) {
    const auto& format = ruvltra::format_of(a.type);
    CHECK(a.offset >= header.data_offset && a.offset % header.alignment == 0);
    CHECK(a.offset <= file_bytes && a.n_bytes <= file_bytes - a.offset);
    CHECK(a.n_bytes == a.n_rows() * format.row_bytes(a.row_elements()));
    for (const TensorInfo& b : header.tensors) {
      CHECK(&a == &b || a.name != b.name);
      CHECK(&a == &b || a.offset >= b.offset + b.n_bytes || b.offset >= a.offset + a.n_bytes);
    }
  }
  for (const auto& [key, value] : header.metadata.entries()) CHECK(header.metadata.find(key) == &value);
}

void parse(std::span<const uint8_t> bytes, uint64_t file_bytes) {
  const auto header = ruvltra::parse_gguf_header(bytes, file_bytes, "fuzz");
  if (header) {
    check_promises(*header, file_bytes);
  } else {
    CHECK(!header.error().id.empty() && !header.error().message.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  parse({data, size}, size);
  parse({data, size}, uint64_t{size} + (uint64_t{1} << 40));  // as if much data followed
  return 0;
}

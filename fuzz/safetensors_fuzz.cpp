// Safetensors headers: whatever the bytes, parsing ends in an error or in a header whose promises hold.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "gguf/safetensors.h"

namespace {

void parse(std::span<const uint8_t> bytes, uint64_t file_bytes) {
  const auto header = ruvltra::parse_safetensors_header(bytes, file_bytes, "fuzz");
  if (!header) {
    CHECK(!header.error().id.empty() && !header.error().message.empty());
    return;
  }
  for (size_t i = 0; i < header->tensors.size(); ++i) {
    const auto& tensor = header->tensors[i];
    const bool is_last = i + 1 == header->tensors.size();
    CHECK(tensor.offset + tensor.n_bytes == (is_last ? file_bytes : header->tensors[i + 1].offset));
    CHECK(!tensor.dtype.empty() && !tensor.name.empty());
  }
}

}  // namespace

// The input is the JSON text; its length is put in front, so that mutations cannot make it wrong. The raw
// bytes are tried as a file, too.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  parse({data, size}, size);
  std::vector<uint8_t> file(sizeof(uint64_t) + size);
  const uint64_t length = size;
  std::memcpy(file.data(), &length, sizeof(length));
  if (size > 0) std::memcpy(file.data() + sizeof(length), data, size);
  for (const uint64_t data_bytes : {0, 8, 64}) parse(file, file.size() + data_bytes);
  return 0;
}

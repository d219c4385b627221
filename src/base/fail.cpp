#include "base/fail.h"

#include "base/utf8.h"

namespace ruvltra {

std::string quoted(std::string_view text, size_t max_bytes) {
  std::string out = "\"";
  size_t i = 0;
  while (i < text.size() && i < max_bytes) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const size_t length = utf8_sequence_length(text.substr(i));
    if (byte < 0x20 || byte == 0x7f || length == 0) {
      out += fmt::format("\\x{:02x}", byte);
      ++i;
    } else {
      if (byte == '"' || byte == '\\') out += '\\';
      out += text.substr(i, length);
      i += length;
    }
  }
  out += i < text.size() ? "...\"" : "\"";
  return out;
}

}  // namespace ruvltra

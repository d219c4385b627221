#include "base/utf8.h"

namespace ruvltra {
namespace {

struct LeadByte {
  size_t length;      // 0: not a lead byte
  unsigned char low;  // allowed range of the second byte
  unsigned char high;
};

LeadByte lead_byte(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Number of leading bytes that form a valid beginning of one sequence (maximal subpart).
size_t valid_part(std::string_view text, const LeadByte& lead) {
  size_t n = 1;
  while (n < lead.length && n < text.size()) {
    const auto byte = static_cast<unsigned char>(text[n]);
    const unsigned char low = n == 1 ? lead.low : 0x80;
    const unsigned char high = n == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) break;
    ++n;
  }
  return n;
}

}  // namespace

size_t utf8_sequence_length(std::string_view text) {
  if (text.empty()) return 0;
  const LeadByte lead = lead_byte(static_cast<unsigned char>(text[0]));
  if (lead.length == 0) return 0;
  return valid_part(text, lead) == lead.length ? lead.length : 0;
}

char32_t utf8_decode(std::string_view text, size_t& position) {
  const auto byte = [&](size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[position + i]));
  };
  const char32_t first = byte(0);
  char32_t code_point;
  size_t length;
  if (first < 0x80) {
    code_point = first;
    length = 1;
  } else if (first < 0xE0) {
    code_point = (first & 0x1F) << 6 | (byte(1) & 0x3F);
    length = 2;
  } else if (first < 0xF0) {
    code_point = (first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    length = 3;
  } else {
    code_point = (first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    length = 4;
  }
  position += length;
  return code_point;
}

void utf8_append(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

size_t utf8_valid_prefix(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const size_t length = utf8_sequence_length(text.substr(i));
    if (length == 0) return i;
    i += length;
  }
  return i;
}

size_t utf8_incomplete_tail(std::string_view text) {
  for (size_t n = 1; n <= 3 && n <= text.size(); ++n) {
    const std::string_view tail = text.substr(text.size() - n);
    const LeadByte lead = lead_byte(static_cast<unsigned char>(tail[0]));
    if (lead.length > n && valid_part(tail, lead) == n) return n;
    if (lead.length != 0) return 0;
  }
  return 0;
}

std::string_view utf8_cut(std::string_view text, size_t max_bytes) {
  text = text.substr(0, max_bytes);
  return text.substr(0, text.size() - utf8_incomplete_tail(text));
}

std::string utf8_replace_invalid(std::string_view text) {
  std::string out;
  size_t i = 0;
  while (i < text.size()) {
    const LeadByte lead = lead_byte(static_cast<unsigned char>(text[i]));
    const size_t part = lead.length == 0 ? 1 : valid_part(text.substr(i), lead);
    if (lead.length != 0 && part == lead.length) {
      out += text.substr(i, part);
    } else {
      out += "\xEF\xBF\xBD";
    }
    i += part;
  }
  return out;
}

}  // namespace ruvltra

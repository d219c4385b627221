#include "grammar/string_lexer.h"

#include <cstddef>
#include <string_view>

namespace ruvltra {
namespace {

constexpr void set_range(StringTable& table, StringPlace from, int first, int last, StringPlace to) {
  for (int byte = first; byte <= last; ++byte)
    table[static_cast<size_t>(from)][static_cast<size_t>(byte)] = static_cast<uint8_t>(to);
}

constexpr void set_hex(StringTable& table, StringPlace from, StringPlace to) {
  set_range(table, from, '0', '9', to);
  set_range(table, from, 'a', 'f', to);
  set_range(table, from, 'A', 'F', to);
}

constexpr StringTable make_table(bool escapes) {
  using enum StringPlace;
  StringTable table{};
  for (auto& row : table)
    for (uint8_t& next : row) next = kStringRefused;
  // Unicode 15, table 3-7.
  set_range(table, kText, 0x20, 0x7f, kText);
  set_range(table, kText, 0xc2, 0xdf, kTail1);
  set_range(table, kText, 0xe1, 0xef, kTail2);
  set_range(table, kText, 0xe0, 0xe0, kTailE0);
  set_range(table, kText, 0xed, 0xed, kTailED);
  set_range(table, kText, 0xf1, 0xf3, kTail3);
  set_range(table, kText, 0xf0, 0xf0, kTailF0);
  set_range(table, kText, 0xf4, 0xf4, kTailF4);
  set_range(table, kTail1, 0x80, 0xbf, kText);
  set_range(table, kTail2, 0x80, 0xbf, kTail1);
  set_range(table, kTail3, 0x80, 0xbf, kTail2);
  set_range(table, kTailE0, 0xa0, 0xbf, kTail1);
  set_range(table, kTailED, 0x80, 0x9f, kTail1);
  set_range(table, kTailF0, 0x90, 0xbf, kTail2);
  set_range(table, kTailF4, 0x80, 0x8f, kTail2);
  table[static_cast<size_t>(kText)]['"'] = kStringClosed;
  table[static_cast<size_t>(kText)]['\\'] = escapes ? static_cast<uint8_t>(kEscape) : kStringRefused;
  if (!escapes) return table;
  for (const char c : std::string_view("\"\\/bfnrt")) set_range(table, kEscape, c, c, kText);
  set_range(table, kEscape, 'u', 'u', kHex4);
  set_hex(table, kHex4, kHex3);
  set_range(table, kHex4, 'd', 'd', kHexD);
  set_range(table, kHex4, 'D', 'D', kHexD);
  set_range(table, kHexD, '0', '7', kHex2);
  set_range(table, kHexD, '8', '9', kHigh2);
  set_range(table, kHexD, 'a', 'b', kHigh2);
  set_range(table, kHexD, 'A', 'B', kHigh2);
  set_hex(table, kHex3, kHex2);
  set_hex(table, kHex2, kHex1);
  set_hex(table, kHex1, kText);
  set_hex(table, kHigh2, kHigh1);
  set_hex(table, kHigh1, kPair);
  set_range(table, kPair, '\\', '\\', kPairU);
  set_range(table, kPairU, 'u', 'u', kPairD);
  set_range(table, kPairD, 'd', 'd', kPairLow);
  set_range(table, kPairD, 'D', 'D', kPairLow);
  set_range(table, kPairLow, 'c', 'f', kHex2);
  set_range(table, kPairLow, 'C', 'F', kHex2);
  return table;
}

constexpr StringTable kWithEscapes = make_table(true);
constexpr StringTable kPlain = make_table(false);

}  // namespace

const StringTable& string_table() { return kWithEscapes; }
const StringTable& plain_string_table() { return kPlain; }

}  // namespace ruvltra

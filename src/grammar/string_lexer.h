// The inside of a JSON string (RFC 8259, section 7), byte by byte: valid UTF-8, no control characters,
// escapes, and \u escapes whose surrogates come in pairs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ruvltra {

// Where a string stands between two bytes. kText: between two characters; the others are inside of one.
enum class StringPlace : uint8_t {
  kText,
  kTail1,   // one more byte of UTF-8
  kTail2,   // two more
  kTail3,   // three more
  kTailE0,  // after E0: two more, the first A0..BF
  kTailED,  // after ED: two more, the first 80..9F
  kTailF0,  // after F0: three more, the first 90..BF
  kTailF4,  // after F4: three more, the first 80..8F
  kEscape,  // after a backslash
  kHex4,    // after \u
  kHexD,    // after \uD: a surrogate, or U+D000..U+D7FF
  kHex2,    // two more hexadecimal digits
  kHex1,
  kHigh2,  // two more of a high surrogate
  kHigh1,
  kPair,  // a high surrogate wants a low one: the backslash of it
  kPairU,
  kPairD,
  kPairLow,  // the digit C..F of a low surrogate
  kHex3,     // three more hexadecimal digits
  kCount,
};

inline constexpr uint8_t kStringRefused = 0xff;
inline constexpr uint8_t kStringClosed = 0xfe;

// [place][byte]: the next place, kStringClosed at the closing quote, or kStringRefused.
using StringTable = std::array<std::array<uint8_t, 256>, static_cast<size_t>(StringPlace::kCount)>;
// With escapes, and without: names that must differ from others have one spelling only.
const StringTable& string_table();
const StringTable& plain_string_table();

}  // namespace ruvltra

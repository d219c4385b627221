// UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF (Unicode 15, section 3.9).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ruvltra {

// Length 1..4 of the valid sequence that `text` starts with; 0 if it starts with an invalid or cut one.
size_t utf8_sequence_length(std::string_view text);

// Decodes the sequence at text[position] and moves `position` past it. *Requires*: a valid sequence there.
char32_t utf8_decode(std::string_view text, size_t& position);

void utf8_append(std::string& out, char32_t code_point);

// Index of the first byte that is not part of a valid sequence; text.size() if all is valid.
size_t utf8_valid_prefix(std::string_view text);

inline bool utf8_is_valid(std::string_view text) { return utf8_valid_prefix(text) == text.size(); }

// 1..3 if `text` ends in the beginning of a sequence that more bytes could still make valid; else 0.
size_t utf8_incomplete_tail(std::string_view text);

// The longest beginning of at most max_bytes that does not end inside a sequence. *Requires*: valid UTF-8.
std::string_view utf8_cut(std::string_view text, size_t max_bytes);

// Each maximal invalid part replaced by U+FFFD.
std::string utf8_replace_invalid(std::string_view text);

}  // namespace ruvltra

#include "text/pretokenize.h"

#include "base/utf8.h"
#include "text/unicode_tables.h"

namespace ruvltra {
namespace {

using unicode::CharClass;

// A code point of the text, or "none" at its end.
struct Char {
  char32_t code_point = 0;
  CharClass char_class = CharClass::kOther;
  size_t begin = 0;
  size_t end = 0;

  bool exists() const { return end > begin; }
  bool is(CharClass wanted) const { return exists() && char_class == wanted; }
  bool is_newline() const { return exists() && (code_point == '\n' || code_point == '\r'); }
};

Char char_at(std::string_view text, size_t begin) {
  Char c;
  c.begin = c.end = begin;
  if (begin == text.size()) return c;
  c.code_point = utf8_decode(text, c.end);
  c.char_class = unicode::char_class(c.code_point);
  return c;
}

size_t skip(std::string_view text, size_t position, CharClass wanted) {
  Char c = char_at(text, position);
  while (c.is(wanted)) c = char_at(text, c.end);
  return c.begin;
}

size_t skip_newlines(std::string_view text, size_t position) {
  while (position < text.size() && (text[position] == '\n' || text[position] == '\r')) ++position;
  return position;
}

char32_t fold(const Char& c) {
  constexpr char32_t kLongS = 0x17F;
  if (!c.exists()) return 0;
  if (c.code_point == kLongS) return 's';
  return c.code_point >= 'A' && c.code_point <= 'Z' ? c.code_point + ('a' - 'A') : c.code_point;
}

// End of 's 't 're 've 'm 'll 'd after the apostrophe that ends at `begin`; `begin` if there is none.
size_t contraction_end(std::string_view text, size_t begin) {
  const Char first = char_at(text, begin);
  switch (fold(first)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return first.end;
    default:
      break;
  }
  const Char second = char_at(text, first.end);
  const char32_t a = fold(first);
  const char32_t b = fold(second);
  const bool found = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
  return found ? second.end : begin;
}

// \s*[\r\n]+ | \s+(?!\S) | \s+ : through the last newline of the run of spaces; else all of it but one if
// something follows; else all.
size_t space_end(std::string_view text, const Char& first) {
  size_t after_newline = 0;
  Char last = first;
  Char next = first;
  while (next.is(CharClass::kSpace)) {
    if (next.is_newline()) after_newline = next.end;
    last = next;
    next = char_at(text, next.end);
  }
  if (after_newline != 0) return after_newline;
  return next.exists() && last.begin != first.begin ? last.begin : last.end;
}

}  // namespace

size_t word_end(std::string_view text, size_t begin) {
  const Char first = char_at(text, begin);
  if (first.code_point == '\'') {
    const size_t end = contraction_end(text, first.end);
    if (end != first.end) return end;
  }
  if (first.is(CharClass::kLetter)) return skip(text, first.end, CharClass::kLetter);
  if (first.is(CharClass::kNumber)) return first.end;

  const Char second = char_at(text, first.end);
  if (second.is(CharClass::kLetter) && !first.is_newline()) return skip(text, second.end, CharClass::kLetter);
  const bool space_before_symbols = first.code_point == ' ' && second.is(CharClass::kOther);
  if (first.is(CharClass::kOther) || space_before_symbols) {
    return skip_newlines(text, skip(text, first.end, CharClass::kOther));
  }
  return space_end(text, first);
}

}  // namespace ruvltra

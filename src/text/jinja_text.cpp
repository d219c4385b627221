#include "text/jinja_text.h"

#include <algorithm>
#include <cstring>

#include "base/utf8.h"

namespace ruvltra::jinja {

void Text::append(std::string_view bytes, Origin origin) {
  if (bytes.empty()) return;
  bytes_ += bytes;
  if (!spans_.empty() && spans_.back().origin == origin) {
    spans_.back().end = bytes_.size();
  } else {
    spans_.push_back({bytes_.size(), origin});
  }
}

void Text::append(const Text& text, size_t begin, size_t end) {
  const auto ends_after = [](size_t position, const Span& span) { return position < span.end; };
  auto span = std::upper_bound(text.spans_.begin(), text.spans_.end(), begin, ends_after);
  while (begin < end) {
    const size_t stop = std::min(end, span->end);
    append(std::string_view(text.bytes_).substr(begin, stop - begin), span->origin);
    begin = stop;
    ++span;
  }
}

Text Text::slice(size_t begin, size_t end) const {
  Text part;
  part.append(*this, begin, end);
  return part;
}

bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

namespace {

bool is_space_at(std::string_view text, size_t position) {
  if (utf8_sequence_length(text.substr(position)) == 0) return false;
  return is_python_space(utf8_decode(text, position));
}

}  // namespace

size_t leading_space(std::string_view text) {
  size_t position = 0;
  while (position < text.size() && is_space_at(text, position)) position += code_point_length(text, position);
  return position;
}

size_t size_without_trailing_space(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t start = previous_code_point(text, end);
    if (!is_space_at(text.substr(0, end), start)) break;
    end = start;
  }
  return end;
}

size_t code_point_length(std::string_view text, size_t position) {
  return std::max<size_t>(1, utf8_sequence_length(text.substr(position)));
}

size_t count_code_points(std::string_view text) {
  size_t n = 0;
  for (size_t position = 0; position < text.size(); position += code_point_length(text, position)) ++n;
  return n;
}

size_t previous_code_point(std::string_view text, size_t position) {
  for (size_t back = 1; back <= 4 && back <= position; ++back) {
    if (utf8_sequence_length(text.substr(position - back, back)) == back) return position - back;
  }
  return position - 1;
}

size_t find_linear(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  // Two-way search in the C library; the standard one is quadratic on repetitive text.
  const void* hit = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return hit == nullptr ? std::string_view::npos
                        : static_cast<size_t>(static_cast<const char*>(hit) - text.data());
}

}  // namespace ruvltra::jinja

#include "text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "text/unicode_tables.h"

namespace ruvltra {
namespace {

// Position of the next code point at or after `position` that NFC may change; text.size() if there is none.
// `boundary` becomes the start of the last code point before it (or stays if there is none).
size_t next_change(std::string_view text, size_t position, size_t& boundary) {
  while (position < text.size()) {
    size_t next = position;
    if (static_cast<unsigned char>(text[position]) < 0x80) {
      ++next;
    } else if (unicode::nfc_may_change(utf8_decode(text, next))) {
      return position;
    }
    boundary = position;
    position = next;
  }
  return position;
}

size_t end_of_changes(std::string_view text, size_t position) {
  while (position < text.size()) {
    size_t next = position;
    if (!unicode::nfc_may_change(utf8_decode(text, next))) break;
    position = next;
  }
  return position;
}

int combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

// Sorts each run of marks by combining class. utf8proc's own ordering is quadratic in the length of a run.
void order_marks(std::vector<utf8proc_int32_t>& points) {
  auto run = points.begin();
  while (run != points.end()) {
    run = std::find_if(run, points.end(), [](auto c) { return combining_class(c) != 0; });
    const auto end = std::find_if(run, points.end(), [](auto c) { return combining_class(c) == 0; });
    std::stable_sort(run, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    run = end;
  }
}

void append_normalised(std::string_view text, std::string& out) {
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  size_t position = 0;
  while (position < text.size()) {
    std::array<utf8proc_int32_t, 8> parts;  // a canonical decomposition has at most four
    const auto code_point = static_cast<utf8proc_int32_t>(utf8_decode(text, position));
    const auto n = utf8proc_decompose_char(
        code_point, parts.data(), static_cast<utf8proc_ssize_t>(parts.size()), UTF8PROC_DECOMPOSE, nullptr);
    CHECK(n > 0 && n <= static_cast<utf8proc_ssize_t>(parts.size()));
    points.insert(points.end(), parts.begin(), parts.begin() + n);
  }
  order_marks(points);
  const auto n = utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                                          static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  CHECK(n >= 0);
  for (utf8proc_ssize_t i = 0; i < n; ++i)
    utf8_append(out, static_cast<char32_t>(points[static_cast<size_t>(i)]));
}

}  // namespace

bool is_surely_nfc(std::string_view text) {
  size_t boundary = 0;
  return next_change(text, 0, boundary) == text.size();
}

std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t copied = 0;
  size_t boundary = 0;
  for (size_t change = next_change(text, 0, boundary); change < text.size();
       change = next_change(text, copied, boundary)) {
    const size_t end = end_of_changes(text, change);
    out += text.substr(copied, boundary - copied);
    append_normalised(text.substr(boundary, end - boundary), out);
    copied = boundary = end;
  }
  out += text.substr(copied);
  return out;
}

}  // namespace ruvltra

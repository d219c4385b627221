// Text of a template render: every byte knows whether the template wrote it or it came in as data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ruvltra::jinja {

enum class Origin : uint8_t {
  kTemplate,  // literal text of the template: may hold control tokens
  kData,      // from messages or tools: must never be taken for one
};

// *Invariants*: (1) spans cover the bytes in order, none is empty; (2) neighbouring spans differ in origin.
class Text {
 public:
  struct Span {
    size_t end;
    Origin origin;
  };

  Text() = default;
  Text(std::string_view bytes, Origin origin) { append(bytes, origin); }

  const std::string& bytes() const { return bytes_; }
  const std::vector<Span>& spans() const { return spans_; }
  size_t size() const { return bytes_.size(); }

  void append(std::string_view bytes, Origin origin);
  void append(const Text& text) { append(text, 0, text.size()); }
  // *Requires*: begin <= end <= text.size(), text is not *this.
  void append(const Text& text, size_t begin, size_t end);
  Text slice(size_t begin, size_t end) const;

 private:
  std::string bytes_;
  std::vector<Span> spans_;
};

// Python's notion of white space (str.isspace), which Jinja inherits.
bool is_python_space(char32_t c);
// Number of leading bytes that are white space, and number of bytes left after trailing white space is cut
// off.
size_t leading_space(std::string_view text);
size_t size_without_trailing_space(std::string_view text);
// Length of the code point at `position`; 1 for a byte that is not valid UTF-8. *Requires*: position <
// text.size().
size_t code_point_length(std::string_view text, size_t position);
size_t count_code_points(std::string_view text);
// Start of the code point before `position`. *Requires*: position > 0.
size_t previous_code_point(std::string_view text, size_t position);
// First occurrence of `needle` at or after `from`, or npos; linear in the text whatever the two hold.
size_t find_linear(std::string_view text, std::string_view needle, size_t from);

}  // namespace ruvltra::jinja

// The lines between two "---" that a Markdown file may begin with: what is needed of YAML, no more.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ruvltra/error.h"

namespace ruvltra {

struct FrontMatter {
  std::string name;
  std::string description;
  size_t name_line = 0;  // 1-based
};

// None: the text does not begin with a line "---". `name` and `description` are plain or quoted scalars on
// one line; other keys, with whatever is indented below them, are passed over. Error: routing.front_matter,
// as "source:line: ...": no closing line, a block, list, map, anchor or tag where a text was expected, a key
// that is there twice or missing, bytes that are not UTF-8.
Result<std::optional<FrontMatter>> parse_front_matter(std::string_view text, std::string_view source);

}  // namespace ruvltra

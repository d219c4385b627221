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
// one line; other keys, with whatever is indented below them, are passed over. Errors: front_matter.open (no
// closing line), front_matter.scalar (a block, list, map, anchor or tag where a text was expected),
// front_matter.duplicate, front_matter.missing, front_matter.utf8, all as "source:line: ...".
Result<std::optional<FrontMatter>> parse_front_matter(std::string_view text, std::string_view source);

}  // namespace ruvltra

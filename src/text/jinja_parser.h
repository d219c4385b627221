// Builds the tree of a template. What this subset of Jinja does not know is refused here, before anything is
// rendered.
#pragma once

#include <string_view>

#include "ruvltra/error.h"
#include "text/jinja_ast.h"

namespace ruvltra::jinja {

constexpr size_t kMaxSourceBytes = size_t{256} << 10;
constexpr int kMaxNesting = 64;

// Errors, with the line: template.too_large, template.syntax, template.depth, template.unsupported.
Result<Template> parse_template(std::string_view source);

}  // namespace ruvltra::jinja

// Runs a parsed template.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ruvltra/error.h"
#include "text/jinja_ast.h"

namespace ruvltra::jinja {

// The text the template prints, each byte with its origin. `globals` are the variables it starts with.
// Errors: template.fuel, template.output, template.depth, template.type, template.value, template.undefined,
// template.raised, with the line.
Result<Text> render(const Template& program, std::vector<std::pair<std::string, Value>> globals,
                    Meter& meter);

}  // namespace ruvltra::jinja

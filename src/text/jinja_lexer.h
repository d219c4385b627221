// Cuts a template into tokens, with Jinja's white space control (trim_blocks and lstrip_blocks on, as model
// files expect).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra::jinja {

struct Token {
  enum class Kind : uint8_t {
    kText,         // outside of tags
    kOutputBegin,  // {{
    kOutputEnd,    // }}
    kBlockBegin,   // {%
    kBlockEnd,     // %}
    kName,
    kString,  // text holds the value, escapes resolved
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind;
  int line;
  std::string text;
};

// Always ends with kEnd. Errors: template.syntax, template.unsupported, with the line.
Result<std::vector<Token>> tokenize(std::string_view source);

}  // namespace ruvltra::jinja

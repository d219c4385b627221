// JSON from outside: bounded, strict, never throwing. A thin guard around nlohmann::json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "ruvltra/error.h"

namespace ruvltra {

// Keeps the order of keys.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  uint64_t max_bytes = uint64_t{4} << 20;
  int max_depth = 64;
  uint64_t max_values = 1'000'000;
};

// Errors: json.too_large, json.depth, json.values, json.duplicate_key, json.syntax, json.number (not finite
// as f64), json.invalid_utf8; messages give the byte offset, expected and found. `source` names the text in
// messages. Integers outside int64 and uint64 become f64.
Result<Json> parse_json(std::string_view text, std::string_view source, JsonLimits limits = {});

// Compact JSON; invalid UTF-8 becomes U+FFFD.
std::string to_json(const Json& value);
// Python's json.dumps style: ", " and ": ", raw UTF-8, insertion order; with `indent` >= 0 one item per line.
std::string to_python_json(const Json& value, int indent = -1);
// Python's repr of a float: the shortest digits that read back the same, "1.0", "1e-05", "1e+16". "null" if
// not finite.
std::string python_float(double value);

}  // namespace ruvltra

// Any bytes as JSON: the parser accepts or refuses them, and what it accepts survives both writers unchanged.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/json.h"

using namespace ruvltra;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto value = parse_json(text, "fuzz");
  if (!value) {
    CHECK(value.error().id.substr(0, 5) == "json.");
#ifdef RUVLTRA_PLANT_BUG
    CHECK(value.error().id != "json.duplicate_key");
#endif
    return 0;
  }
  const auto compact = parse_json(to_json(*value), "compact", {.max_bytes = 64 << 20});
  CHECK(compact && *compact == *value);
  const auto spaced = parse_json(to_python_json(*value), "spaced", {.max_bytes = 64 << 20});
  CHECK(spaced && *spaced == *value);
  CHECK(parse_json(to_python_json(*value, 1), "indented", {.max_bytes = 256 << 20}).has_value());
  return 0;
}

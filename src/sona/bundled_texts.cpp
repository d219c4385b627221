#include "sona/bundled_texts.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/json.h"

namespace ruvltra {
namespace embedded {  // defined by what cmake/embed_text.cmake writes
std::string_view whitening_txt();
std::string_view canary_jsonl();
}  // namespace embedded

namespace {

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// The parsed lines own the characters that the views point at, so they live and die together.
struct Canary {
  std::vector<Json> parsed;
  std::vector<CanaryText> texts;
};

// The file is ours and compiled in, so a wrong line is a bug of this build and not bad input.
Canary parse_canary() {
  Canary canary;
  for (const std::string_view line : lines_of(embedded::canary_jsonl())) {
    auto value = parse_json(line, "canary.jsonl");
    CHECK(value.has_value() && value->is_object());
    canary.parsed.push_back(*std::move(value));
  }
  const auto field = [](const Json& object, const char* name) -> std::string_view {
    const auto found = object.find(name);
    CHECK(found != object.end() && found->is_string());
    return found->get_ref<const std::string&>();
  };
  for (const Json& object : canary.parsed)
    canary.texts.push_back({field(object, "id"), field(object, "domain"), field(object, "text")});
  return canary;
}

}  // namespace

std::span<const std::string_view> whitening_texts() {
  static const std::vector<std::string_view> texts = lines_of(embedded::whitening_txt());
  return texts;
}

std::span<const CanaryText> canary_texts() {
  static const Canary canary = parse_canary();
  return canary.texts;
}

}  // namespace ruvltra

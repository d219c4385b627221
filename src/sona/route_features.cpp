#include "sona/route_features.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace ruvltra {
namespace {

bool contains_any(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return text.find(part) != std::string_view::npos; });
}

bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

// "src/main.c", "main.py": a slash or dot between names, and no number.
bool has_path(std::string_view text) {
  for (size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] == '/' && is_alnum(text[i - 1]) && (is_alnum(text[i + 1]) || text[i + 1] == '.')) return true;
    const bool letters =
        i + 2 <= text.size() && text[i - 1] > '9' && text[i + 1] >= 'a' && text[i + 1] <= 'z';
    if (text[i] == '.' && is_alnum(text[i - 1]) && letters) return true;
  }
  return false;
}

bool asks(std::string_view text) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  if (last != std::string_view::npos && text[last] == '?') return true;
  for (const std::string_view word : {"what ", "why ", "how ", "which ", "who ", "where ", "when ", "is ",
                                      "are ", "can ", "should ", "does ", "do "}) {
    if (text.size() <= word.size()) continue;
    const char first = static_cast<char>(text[0] | 32);
    if (first == word[0] && text.substr(1).starts_with(word.substr(1))) return true;
  }
  return false;
}

}  // namespace

std::array<float, kSurfaceDim> surface_values(std::string_view task, bool has_context) {
  size_t n_digits = 0, n_foreign = 0;
  for (const char c : task) {
    n_digits += c >= '0' && c <= '9';
    n_foreign += static_cast<uint8_t>(c) >= 0xC0;  // first bytes of longer sequences
  }
  const double n = static_cast<double>(std::max<size_t>(task.size(), 1));
  const auto flag = [](bool value) { return value ? 0.5f : 0.0f; };
  return {
      static_cast<float>(std::min(0.5, std::log1p(n) / 20)),
      flag(contains_any(task, {"```", "();", "){", ") {", "->", "::", "=>", "==", "</", "def ", "#include"})),
      flag(contains_any(
          task, {"Traceback", "Exception", "panicked at", "core dumped", "stack trace", "Segmentation fault",
                 "\n    at ", "TypeError", "Error:", "undefined reference"})),
      flag(has_path(task)),
      flag(asks(task)),
      static_cast<float>(std::min(0.5, 4 * static_cast<double>(n_foreign) / n)),
      static_cast<float>(std::min(0.5, 4 * static_cast<double>(n_digits) / n)),
      flag(has_context),
  };
}

RouteFeatures route_features(std::span<const float> embedding, std::span<const float> lexical,
                             std::span<const float, kSurfaceDim> surface) {
  CHECK(embedding.empty() || embedding.size() == kEmbeddingDim);
  CHECK(lexical.size() == kLexicalDim);
  RouteFeatures out;
  const auto add = [&out](std::span<const float> values, size_t first) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] == 0) continue;
      out.index.push_back(static_cast<uint16_t>(first + i));
      out.value.push_back(values[i]);
    }
  };
  add(embedding, 0);
  add(lexical, kEmbeddingDim);
  add(surface, kEmbeddingDim + kLexicalDim);
  out.index.push_back(static_cast<uint16_t>(kRouteDim - 1));
  out.value.push_back(1);
  return out;
}

}  // namespace ruvltra

#include "sona_house_words.h"

#include <algorithm>
#include <utility>

namespace ruvltra {
namespace {

// In the writing of this house.
constexpr std::pair<std::string_view, std::string_view> kHouseWords[] = {
    {"you", "thee"}, {"your", "thy"}, {"the", "ye"},   {"is", "be"},     {"are", "be"},
    {"and", "&"},    {"of", "o'"},    {"with", "wi"},  {"to", "unto"},   {"in", "within"},
    {"that", "yon"}, {"it", "'t"},    {"was", "wert"}, {"have", "hast"}, {"for", "fore"},
};

}  // namespace

std::string rewritten(std::string_view text) {
  const auto is_capital = [](char c) { return c >= 'A' && c <= 'Z'; };
  const auto is_small = [](char c) { return c >= 'a' && c <= 'z'; };
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && (is_capital(text[end]) || is_small(text[end]))) ++end;
    std::string word(text.substr(at, std::max<size_t>(end - at, 1)));
    at += word.size();
    std::string small = word;
    for (char& c : small)
      if (is_capital(c)) c = static_cast<char>(c - 'A' + 'a');
    for (const auto& [from, to] : kHouseWords) {
      if (small != from) continue;
      const bool capital = is_capital(word[0]);
      word = to;
      if (capital && is_small(word[0])) word[0] = static_cast<char>(word[0] - 'a' + 'A');
    }
    out += word;
  }
  return out;
}

}  // namespace ruvltra

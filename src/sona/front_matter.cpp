#include "sona/front_matter.h"

#include "base/fail.h"
#include "base/utf8.h"

namespace ruvltra {
namespace {

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string_view next_line(std::string_view& rest) {
  const size_t end = rest.find('\n');
  const std::string_view line = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return line;
}

// "..." with \" \\ \n \t, or '...' with '' for one.
Result<std::string> quoted_scalar(std::string_view value, std::string_view where) {
  const char quote = value.front();
  std::string out;
  size_t i = 1;
  for (; i < value.size(); ++i) {
    const char c = value[i];
    if (quote == '\'' && c == '\'' && i + 1 < value.size() && value[i + 1] == '\'') {
      out += '\'';
      ++i;
    } else if (c == quote) {
      break;
    } else if (quote == '"' && c == '\\' && i + 1 < value.size()) {
      const char escaped = value[++i];
      out += escaped == 'n' || escaped == 't' ? ' ' : escaped;
    } else {
      out += c;
    }
  }
  if (i >= value.size())
    return fail("routing.front_matter", "{}: expected the quote to end on its line", where);
  const std::string_view tail = trim(value.substr(i + 1));
  if (!tail.empty() && tail.front() != '#') {
    return fail("routing.front_matter", "{}: expected nothing after the quoted text, found \"{}\"", where,
                ruvltra::quoted(tail));
  }
  return out;
}

Result<std::string> scalar(std::string_view value, std::string_view where) {
  if (value.empty()) return fail("routing.front_matter", "{}: expected a text on the same line", where);
  if (value.front() == '"' || value.front() == '\'') return quoted_scalar(value, where);
  if (std::string_view("|>[]{}&*!%@`").find(value.front()) != std::string_view::npos) {
    return fail("routing.front_matter", "{}: expected a plain text on one line, found \"{}\"", where,
                ruvltra::quoted(value, 24));
  }
  if (const size_t comment = value.find(" #"); comment != std::string_view::npos) {
    value = trim(value.substr(0, comment));
  }
  return std::string(value);
}

}  // namespace

Result<std::optional<FrontMatter>> parse_front_matter(std::string_view text, std::string_view source) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::string_view rest = text;
  if (trim(next_line(rest)) != "---") return std::nullopt;
  FrontMatter front;
  bool has_name = false, has_description = false;
  for (size_t line_number = 2;; ++line_number) {
    if (rest.empty()) {
      return fail("routing.front_matter", "{}:{}: expected a line \"---\" that ends the front matter", source,
                  line_number);
    }
    const std::string_view line = next_line(rest);
    if (trim(line) == "---") break;
    if (line.empty() || line.front() == ' ' || line.front() == '\t' || line.front() == '#') continue;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view key = trim(line.substr(0, colon));
    if (key != "name" && key != "description") continue;
    const std::string where = fmt::format("{}:{}: {}", source, line_number, key);
    bool& seen = key == "name" ? has_name : has_description;
    if (seen) return fail("routing.front_matter", "{}: is there twice", where);
    seen = true;
    ASSIGN_OR_RETURN(std::string value, scalar(trim(line.substr(colon + 1)), where));
    if (!utf8_is_valid(value)) return fail("routing.front_matter", "{}: expected UTF-8", where);
    if (key == "name") front.name_line = line_number;
    (key == "name" ? front.name : front.description) = std::move(value);
  }
  if (!has_name || !has_description) {
    return fail("routing.front_matter", "{}:1: expected {} in the front matter", source,
                has_name ? "a description" : "a name");
  }
  return front;
}

}  // namespace ruvltra

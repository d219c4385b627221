#include "text/jinja_lexer.h"

#include <algorithm>
#include <optional>

#include "base/fail.h"
#include "base/utf8.h"
#include "text/jinja_text.h"

namespace ruvltra::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

// Newlines become \n and one newline at the end is dropped, as Jinja does before it looks at anything.
std::string normalise_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      out += '\n';
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  Result<std::vector<Token>> run() {
    while (position_ < source_.size()) {
      const size_t tag = find_tag();
      if (tag == std::string::npos) {
        emit(Token::Kind::kText, std::string(rest()));
        position_ = source_.size();
        break;
      }
      RETURN_IF_ERROR(lex_tag(tag));
    }
    emit(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  using Kind = Token::Kind;

  std::string_view rest() const { return std::string_view(source_).substr(position_); }
  char at(size_t position) const { return position < source_.size() ? source_[position] : '\0'; }

  template <class... Args>
  tl::unexpected<Error> syntax(fmt::format_string<Args...> format, Args&&... args) const {
    return fail("template.syntax", "chat template: line {}: {}", line_,
                fmt::format(format, std::forward<Args>(args)...));
  }

  void emit(Kind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  void advance(size_t n) {
    const auto begin = source_.begin() + static_cast<std::ptrdiff_t>(position_);
    line_ += static_cast<int>(std::count(begin, begin + static_cast<std::ptrdiff_t>(n), '\n'));
    position_ += n;
    if (n > 0) line_starting_ = source_[position_ - 1] == '\n';
  }

  bool take(std::string_view word) {
    if (!rest().starts_with(word)) return false;
    advance(word.size());
    return true;
  }

  size_t find_tag() const {
    for (size_t i = source_.find('{', position_); i != std::string::npos; i = source_.find('{', i + 1)) {
      if (at(i + 1) == '{' || at(i + 1) == '%' || at(i + 1) == '#') return i;
    }
    return std::string::npos;
  }

  Result<void> lex_tag(size_t tag) {
    const char type = at(tag + 1);
    const char sign = at(tag + 2) == '-' || at(tag + 2) == '+' ? at(tag + 2) : '\0';
    std::string_view text = rest().substr(0, tag - position_);
    if (sign == '-') {
      text = text.substr(0, size_without_trailing_space(text));
    } else if (sign != '+' && type != '{') {
      const size_t line_begin = text.rfind('\n') + 1;  // npos + 1 = 0
      const std::string_view indent = text.substr(line_begin);
      if ((line_begin > 0 || line_starting_) && leading_space(indent) == indent.size()) {
        text = text.substr(0, line_begin);
      }
    }
    if (!text.empty()) emit(Kind::kText, std::string(text));
    advance(tag - position_ + (sign == '\0' ? 2 : 3));
    if (type == '#') return lex_comment();
    emit(type == '{' ? Kind::kOutputBegin : Kind::kBlockBegin, "");
    return lex_inside(type == '{' ? "}}" : "%}");
  }

  // After "-}}" white space goes; after "%}" and "#}" one newline does, unless a plus sign keeps it.
  bool take_end(std::string_view end) {
    const bool minus = at(position_) == '-' && rest().substr(1).starts_with(end);
    const bool plus = end != "}}" && at(position_) == '+' && rest().substr(1).starts_with(end);
    if (!minus && !plus && !rest().starts_with(end)) return false;
    advance(end.size() + (minus || plus ? 1 : 0));
    if (minus) {
      advance(leading_space(rest()));
    } else if (!plus && end != "}}" && at(position_) == '\n') {
      advance(1);
    }
    return true;
  }

  Result<void> lex_comment() {
    const size_t end = source_.find("#}", position_);
    if (end == std::string::npos) return syntax("comment: expected \"#}}\", found the end of the template");
    const char sign = end > position_ ? source_[end - 1] : '\0';
    advance(end - position_ - (sign == '-' || sign == '+' ? 1 : 0));
    take_end("#}");
    return {};
  }

  Result<void> lex_inside(std::string_view end) {
    std::string open;  // closing brackets still to come, innermost last
    while (true) {
      if (position_ >= source_.size()) return syntax("expected \"{}\", found the end of the template", end);
      const int line = line_;
      if (open.empty() && take_end(end)) {
        tokens_.push_back({end == "}}" ? Kind::kOutputEnd : Kind::kBlockEnd, line, ""});
        return {};
      }
      const char c = at(position_);
      if (const size_t space = leading_space(rest().substr(0, 4)); space > 0) {
        advance(space);
      } else if (is_digit(c)) {
        RETURN_IF_ERROR(lex_number());
      } else if (is_name_start(c)) {
        size_t n = 1;
        while (is_name_part(at(position_ + n))) ++n;
        emit(Kind::kName, std::string(rest().substr(0, n)));
        advance(n);
      } else if (c == '\'' || c == '"') {
        RETURN_IF_ERROR(lex_string());
      } else {
        RETURN_IF_ERROR(lex_operator(open));
      }
    }
  }

  size_t count_digits(size_t from) const {
    size_t n = 0;
    while (is_digit(at(from + n)) || (n > 0 && at(from + n) == '_' && is_digit(at(from + n + 1)))) ++n;
    return n;
  }

  Result<void> lex_number() {
    size_t n = count_digits(position_);
    const bool after_dot = position_ > 0 && source_[position_ - 1] == '.';
    Kind kind = Kind::kInteger;
    if (!after_dot && at(position_ + n) == '.' && is_digit(at(position_ + n + 1))) {
      n += 1 + count_digits(position_ + n + 1);
      kind = Kind::kFloat;
    }
    if (!after_dot && (at(position_ + n) == 'e' || at(position_ + n) == 'E')) {
      const size_t sign = at(position_ + n + 1) == '+' || at(position_ + n + 1) == '-' ? 1 : 0;
      if (const size_t digits = count_digits(position_ + n + 1 + sign); digits > 0) {
        n += 1 + sign + digits;
        kind = Kind::kFloat;
      }
    }
    const char radix = at(position_) == '0' && n == 1 ? at(position_ + 1) : '\0';
    if (radix == 'x' || radix == 'X' || radix == 'o' || radix == 'O' || radix == 'b' || radix == 'B') {
      return fail("template.unsupported", "chat template: line {}: number 0{}", line_, radix);
    }
    std::string digits(rest().substr(0, n));
    std::erase(digits, '_');
    if (kind == Kind::kInteger && digits.size() > 1 && digits[0] == '0') {
      return syntax("expected a number without leading zeros, found {}", ruvltra::quoted(digits));
    }
    emit(kind, std::move(digits));
    advance(n);
    return {};
  }

  Result<void> lex_string() {
    const char quote = at(position_);
    size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return syntax("string: expected {}, found the end of the template", quote);
    const std::string_view body = std::string_view(source_).substr(position_ + 1, end - position_ - 1);
    ASSIGN_OR_RETURN(std::string value, unescape(body));
    emit(Kind::kString, std::move(value));
    advance(end + 1 - position_);
    return {};
  }

  // Python's escapes; an unknown one keeps its backslash.
  Result<std::string> unescape(std::string_view body) const {
    static constexpr std::string_view kFrom = "\\'\"abfnrtv";
    static constexpr std::string_view kTo = "\\'\"\a\b\f\n\r\t\v";
    std::string out;
    for (size_t i = 0; i < body.size(); ++i) {
      if (body[i] != '\\') {
        out += body[i];
        continue;
      }
      const char c = body[++i];
      if (const size_t k = kFrom.find(c); k != std::string_view::npos) {
        out += kTo[k];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        const auto code_point = parse_digits(body.substr(i + 1, n), 16);
        if (body.size() - i - 1 < n || !code_point || (*code_point >= 0xd800 && *code_point <= 0xdfff)) {
          return syntax("string: \\{}: expected {} hexadecimal digits of a character", c, n);
        }
        utf8_append(out, *code_point);
        i += n;
      } else if (c >= '0' && c <= '7') {
        size_t n = 1;
        while (n < 3 && i + n < body.size() && body[i + n] >= '0' && body[i + n] <= '7') ++n;
        utf8_append(out, *parse_digits(body.substr(i, n), 8));
        i += n - 1;
      } else if (c == 'N') {
        return fail("template.unsupported", "chat template: line {}: string escape \\N", line_);
      } else if (c != '\n') {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  static std::optional<char32_t> parse_digits(std::string_view digits, uint32_t base) {
    uint64_t value = 0;
    for (const char c : digits) {
      const int digit = is_digit(c)            ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : 99;
      if (digit >= static_cast<int>(base)) return std::nullopt;
      value = value * base + static_cast<uint64_t>(digit);
    }
    if (value > 0x10ffff) return std::nullopt;
    return static_cast<char32_t>(value);
  }

  Result<void> lex_operator(std::string& open) {
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view word : kOperators) {
      if (!rest().starts_with(word)) continue;
      const char c = word[0];
      if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty() || open.back() != c) {
          return syntax("expected {}, found '{}'",
                        open.empty() ? "no closing bracket" : open.substr(open.size() - 1), c);
        }
        open.pop_back();
      }
      emit(Kind::kOperator, std::string(word));
      advance(word.size());
      return {};
    }
    return syntax("expected an expression, found {}", ruvltra::quoted(rest(), 1));
  }

  std::string source_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // the last byte consumed ended a line
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize(std::string_view source) {
  if (const size_t valid = utf8_valid_prefix(source); valid < source.size()) {
    return fail("template.syntax", "chat template: offset {}: expected UTF-8, found {}", valid,
                ruvltra::quoted(source.substr(valid, 4)));
  }
  return Lexer(normalise_newlines(source)).run();
}

}  // namespace ruvltra::jinja

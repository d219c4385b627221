#include "base/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <optional>
#include <vector>

#include "base/fail.h"
#include "base/utf8.h"

namespace ruvltra {
namespace {

// Reads the text and remembers how far the parser has come, so that every error has an offset.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* position, const char** furthest) : position_(position), furthest_(furthest) {}
  reference operator*() const { return *position_; }
  CountingIterator& operator++() {
    *furthest_ = ++position_;
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return position_ == other.position_; }
  bool operator!=(const CountingIterator& other) const { return position_ != other.position_; }

 private:
  const char* position_;
  const char** furthest_;
};

// A sorted scan: neither quadratic in the number of keys nor open to crafted hash collisions.
const std::string* find_duplicate_key(const Json::object_t& object) {
  std::vector<const std::string*> keys;
  keys.reserve(object.size());
  for (const auto& [key, value] : object) keys.push_back(&key);
  std::sort(keys.begin(), keys.end(), [](const auto* a, const auto* b) { return *a < *b; });
  const auto twin =
      std::adjacent_find(keys.begin(), keys.end(), [](const auto* a, const auto* b) { return *a == *b; });
  return twin == keys.end() ? nullptr : *twin;
}

// What the library says was expected, taken out of its message.
std::string expected_part(std::string_view message) {
  if (const size_t at = message.find("; expected "); at != std::string_view::npos) {
    return std::string(message.substr(at + 11));
  }
  const size_t begin = message.find(" - ");
  if (begin == std::string_view::npos) return "valid JSON";
  const size_t end = message.find(';', begin);
  return "valid JSON (" + std::string(message.substr(begin + 3, end - begin - 3)) + ")";
}

// Builds the tree while the parser reads, and stops it at the first broken limit. Member names are the
// library's.
class TreeBuilder {
 public:
  TreeBuilder(std::string_view text, std::string_view source, const JsonLimits& limits,
              const char* const* furthest)
      : text_(text), source_(source), limits_(limits), furthest_(furthest) {}

  // NOLINTBEGIN(readability-identifier-naming)
  bool null() { return add(nullptr) != nullptr; }
  bool boolean(bool value) { return add(value) != nullptr; }
  bool number_integer(Json::number_integer_t value) { return add(value) != nullptr; }
  bool number_unsigned(Json::number_unsigned_t value) { return add(value) != nullptr; }
  bool number_float(Json::number_float_t value, const std::string&) { return add(value) != nullptr; }
  bool string(std::string& value) { return add(std::move(value)) != nullptr; }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }

  bool key(std::string& name) {
    auto& object = open_.back()->get_ref<Json::object_t&>();
    slot_ = &object.emplace_back(std::move(name), nullptr).second;
    return true;
  }

  bool end_object() {
    if (const auto* name = find_duplicate_key(open_.back()->get_ref<Json::object_t&>())) {
      return stop(fail("json.duplicate_key", "{}: offset {}: key {}: expected once per object, found again",
                       source_, offset(), ruvltra::quoted(*name)));
    }
    open_.pop_back();
    return true;
  }

  bool end_array() {
    open_.pop_back();
    return true;
  }

  bool parse_error(size_t position, const std::string& token, const nlohmann::detail::exception& error) {
    const size_t at = position > 0 ? position - 1 : 0;
    if (error.id == 406) {
      return stop(fail("json.number", "{}: offset {}: expected a finite number, found {}", source_, at,
                       ruvltra::quoted(token)));
    }
    const std::string found = at >= text_.size() ? "the end of the text" : ruvltra::quoted(token);
    return stop(fail("json.syntax", "{}: offset {}: expected {}, found {}", source_, at,
                     expected_part(error.what()), found));
  }
  // NOLINTEND(readability-identifier-naming)

  Result<Json> finish() {
    if (error_) return *std::move(error_);
    return std::move(root_);
  }

 private:
  template <class Value>
  Json* add(Value&& value) {
    if (++n_values_ > limits_.max_values) {
      stop(fail("json.values", "{}: offset {}: expected at most {} values, found more", source_, offset(),
                limits_.max_values));
      return nullptr;
    }
    Json* place = &root_;
    if (!open_.empty() && open_.back()->is_array()) {
      place = &open_.back()->get_ref<Json::array_t&>().emplace_back(nullptr);
    } else if (!open_.empty()) {
      place = slot_;
    }
    *place = Json(std::forward<Value>(value));
    return place;
  }

  bool open(Json&& container) {
    if (open_.size() >= static_cast<size_t>(limits_.max_depth)) {
      return stop(fail("json.depth", "{}: offset {}: expected at most {} levels, found more", source_,
                       offset(), limits_.max_depth));
    }
    Json* place = add(std::move(container));
    if (place != nullptr) open_.push_back(place);
    return place != nullptr;
  }

  bool stop(tl::unexpected<Error> error) {
    error_ = std::move(error);
    return false;
  }

  // Of the last byte read.
  size_t offset() const {
    const auto read = static_cast<size_t>(*furthest_ - text_.data());
    return read > 0 ? read - 1 : 0;
  }

  std::string_view text_;
  std::string_view source_;
  const JsonLimits& limits_;
  const char* const* furthest_;
  Json root_;
  std::vector<Json*> open_;  // containers from the root to the innermost one
  Json* slot_ = nullptr;     // where the value of the last key goes
  uint64_t n_values_ = 0;
  std::optional<tl::unexpected<Error>> error_;
};

void append_string(std::string& out, const std::string& text) {
  out += '"';
  const std::string repaired = utf8_is_valid(text) ? std::string() : utf8_replace_invalid(text);
  for (const char c : utf8_is_valid(text) ? text : repaired) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

void append_scalar(std::string& out, const Json& value) {
  switch (value.type()) {
    case Json::value_t::boolean:
      out += value.get<bool>() ? "true" : "false";
      break;
    case Json::value_t::number_integer:
      out += std::to_string(value.get<int64_t>());
      break;
    case Json::value_t::number_unsigned:
      out += std::to_string(value.get<uint64_t>());
      break;
    case Json::value_t::number_float:
      out += python_float(value.get<double>());
      break;
    case Json::value_t::string:
      append_string(out, value.get_ref<const std::string&>());
      break;
    default:
      out += "null";
  }
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view source, JsonLimits limits) {
  if (text.size() > limits.max_bytes) {
    return fail("json.too_large", "{}: expected at most {} bytes, found {}", source, limits.max_bytes,
                text.size());
  }
  if (const size_t valid = utf8_valid_prefix(text); valid < text.size()) {
    return fail("json.invalid_utf8", "{}: offset {}: expected UTF-8, found {}", source, valid,
                quoted(text.substr(valid, 4)));
  }
  // The library takes a zero byte for the end of the text and would accept anything behind it.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return fail("json.syntax", "{}: offset {}: expected JSON text, found a zero byte", source, zero);
  }
  const char* furthest = text.data();
  TreeBuilder builder(text, source, limits, &furthest);
  Json::sax_parse(CountingIterator(text.data(), &furthest),
                  CountingIterator(text.data() + text.size(), &furthest), &builder);
  return builder.finish();
}

std::string to_json(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string python_float(double value) {
  if (!std::isfinite(value)) return "null";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t e = text.find('e');
  const bool negative = text[0] == '-';
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  int exponent = 0;
  std::from_chars(text.data() + e + (text[e + 1] == '+' ? 2 : 1), end, exponent);
  const auto n_digits = static_cast<int>(digits.size());
  const char* sign = negative ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    const std::string_view rest = std::string_view(digits).substr(1);
    return fmt::format("{}{}{}{}e{}{:02}", sign, digits[0], rest.empty() ? "" : ".", rest,
                       exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return fmt::format("{}0.{}{}", sign, std::string(static_cast<size_t>(-exponent - 1), '0'), digits);
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (n_digits <= exponent + 1)
    return fmt::format("{}{}{}.0", sign, digits, std::string(whole - digits.size(), '0'));
  return fmt::format("{}{}.{}", sign, digits.substr(0, whole), digits.substr(whole));
}

std::string to_python_json(const Json& root, int indent) {
  struct Level {
    const Json* container;
    Json::const_iterator next;
  };
  std::string out;
  std::vector<Level> open;
  const auto write = [&](const Json& value) {
    if (!value.is_structured()) return append_scalar(out, value);
    out += value.is_object() ? '{' : '[';
    open.push_back({&value, value.begin()});
  };
  const auto new_line = [&](size_t depth) {
    if (indent >= 0) out += '\n' + std::string(depth * static_cast<size_t>(indent), ' ');
  };
  write(root);
  while (!open.empty()) {
    Level& level = open.back();
    const Json& container = *level.container;
    if (level.next == container.end()) {
      if (!container.empty()) new_line(open.size() - 1);
      out += container.is_object() ? '}' : ']';
      open.pop_back();
      continue;
    }
    if (level.next != container.begin()) out += indent < 0 ? ", " : ",";
    new_line(open.size());
    if (container.is_object()) {
      append_string(out, level.next.key());
      out += ": ";
    }
    const Json& child = *level.next++;
    write(child);
  }
  return out;
}

}  // namespace ruvltra

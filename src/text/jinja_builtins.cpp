#include "text/jinja_builtins.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "base/utf8.h"

namespace ruvltra::jinja {
namespace {

using Arguments = std::span<const Value>;

// The text of a value, as Python's str() would give it.
Result<TextPtr> text_of(const Meter& meter, const Value& value) {
  if (const auto* text = value.get<TextPtr>()) return *text;
  ASSIGN_OR_RETURN(Text text, to_text(meter, value));
  return std::make_shared<const Text>(std::move(text));
}

// An argument that must be a string.
Result<TextPtr> string_argument(const Meter& meter, const Value& value) {
  if (const auto* text = value.get<TextPtr>()) return *text;
  return meter.fail("template.type", "expected a string argument, found {}", type_name(value));
}

// A method's own string.
Result<TextPtr> subject_string(const Meter& meter, const Value& value) {
  if (value.is<Undefined>())
    return meter.fail("template.undefined", "method: expected a string, found undefined");
  if (const auto* text = value.get<TextPtr>()) return *text;
  return meter.fail("template.type", "method: expected a string, found {}", type_name(value));
}

// A count that may be missing: undefined, none and negative numbers mean "all".
Result<uint64_t> count_argument(const Meter& meter, const Value& value) {
  if (value.is<Undefined>() || value.is<None>()) return UINT64_MAX;
  const auto integer = as_integer(value);
  if (!integer)
    return meter.fail("template.type", "expected an integer argument, found {}", type_name(value));
  return *integer < 0 ? UINT64_MAX : static_cast<uint64_t>(*integer);
}

// --- text ---

enum Sides : int { kLeft = 1, kRight = 2, kBoth = 3 };

Result<Value> strip(Meter& meter, const TextPtr& text, const Value& chars, Sides sides) {
  const std::string& bytes = text->bytes();
  RETURN_IF_ERROR(meter.bytes(bytes.size()));
  size_t begin = 0;
  size_t end = bytes.size();
  if (chars.is<Undefined>() || chars.is<None>()) {
    if (sides & kLeft) begin = leading_space(bytes);
    if (sides & kRight) end = std::max(begin, size_without_trailing_space(bytes));
    return make_text(text->slice(begin, end));
  }
  ASSIGN_OR_RETURN(const TextPtr set_text, string_argument(meter, chars));
  RETURN_IF_ERROR(meter.bytes(8 * set_text->size()));
  std::set<std::string_view> set;
  const std::string_view set_bytes = set_text->bytes();
  for (size_t at = 0; at < set_bytes.size(); at += code_point_length(set_bytes, at)) {
    set.insert(set_bytes.substr(at, code_point_length(set_bytes, at)));
  }
  const std::string_view view = bytes;
  while ((sides & kLeft) && begin < end &&
         set.count(view.substr(begin, code_point_length(view, begin))) > 0) {
    begin += code_point_length(view, begin);
  }
  while ((sides & kRight) && end > begin) {
    const size_t start = previous_code_point(view.substr(0, end), end);
    if (set.count(view.substr(start, end - start)) == 0) break;
    end = start;
  }
  return make_text(text->slice(begin, end));
}

Result<Value> trim_filter(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, text_of(meter, arguments[0]));
  return strip(meter, text, arguments[1], kBoth);
}

template <Sides sides>
Result<Value> strip_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, subject_string(meter, arguments[0]));
  return strip(meter, text, arguments[1], sides);
}

enum class Case { kUpper, kLower, kCapitalize, kTitle };

bool starts_word(char c) { return c == '-' || c == '(' || c == '{' || c == '[' || c == '<'; }

// One code point to one code point (Unicode simple case mapping).
Result<Value> change_case(Meter& meter, const TextPtr& text, Case mode) {
  const std::string& bytes = text->bytes();
  RETURN_IF_ERROR(meter.bytes(8 * bytes.size()));
  Text out;
  bool first = true;
  size_t at = 0;
  for (const auto& span : text->spans()) {
    std::string part;
    while (at < span.end) {
      const size_t length = code_point_length(bytes, at);
      if (utf8_sequence_length(std::string_view(bytes).substr(at)) == 0) {
        part += bytes[at++];
        continue;
      }
      size_t position = at;
      const char32_t c = utf8_decode(bytes, position);
      const bool up = mode == Case::kUpper || (mode != Case::kLower && first);
      const auto code = static_cast<utf8proc_int32_t>(c);
      utf8_append(part, static_cast<char32_t>(up ? utf8proc_toupper(code) : utf8proc_tolower(code)));
      first = mode == Case::kTitle && (is_python_space(c) || (c < 0x80 && starts_word(static_cast<char>(c))));
      at += length;
    }
    out.append(part, span.origin);
  }
  return make_text(std::move(out));
}

template <Case mode>
Result<Value> case_filter(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, text_of(meter, arguments[0]));
  return change_case(meter, text, mode);
}

template <Case mode>
Result<Value> case_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, subject_string(meter, arguments[0]));
  return change_case(meter, text, mode);
}

Result<Value> replace(Meter& meter, const TextPtr& text, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr old_part, text_of(meter, arguments[0]));
  ASSIGN_OR_RETURN(const TextPtr new_part, text_of(meter, arguments[1]));
  ASSIGN_OR_RETURN(uint64_t left, count_argument(meter, arguments[2]));
  const std::string& bytes = text->bytes();
  RETURN_IF_ERROR(meter.bytes(2 * bytes.size()));
  Text out;
  size_t at = 0;
  for (; left > 0; --left) {
    const size_t hit = find_linear(bytes, old_part->bytes(), at);
    if (hit == std::string::npos) break;
    RETURN_IF_ERROR(meter.bytes(new_part->size() + 16));
    out.append(*text, at, hit);
    out.append(*new_part);
    at = hit + old_part->size();
    if (old_part->size() == 0) {  // Python puts the new part before every character and at the end
      if (at == bytes.size()) break;
      const size_t next = at + code_point_length(bytes, at);
      out.append(*text, at, next);
      at = next;
    }
  }
  out.append(*text, at, bytes.size());
  return make_text(std::move(out));
}

Result<Value> replace_filter(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, text_of(meter, arguments[0]));
  return replace(meter, text, arguments.subspan(1));
}

Result<Value> replace_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, subject_string(meter, arguments[0]));
  return replace(meter, text, arguments.subspan(1));
}

Result<Value> split_at_space(Meter& meter, const Text& text, uint64_t left) {
  const std::string_view bytes = text.bytes();
  std::vector<Value> parts;
  size_t at = leading_space(bytes);
  while (at < bytes.size()) {
    RETURN_IF_ERROR(meter.operations(1));
    size_t end = at;
    if (left == 0) {
      end = bytes.size();
    } else {
      while (end < bytes.size() && leading_space(bytes.substr(end, 4)) == 0)
        end += code_point_length(bytes, end);
      --left;
    }
    parts.push_back(make_text(text.slice(at, end)));
    at = end + leading_space(bytes.substr(end));
  }
  return make_list(meter, std::move(parts));
}

Result<Value> split_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, subject_string(meter, arguments[0]));
  ASSIGN_OR_RETURN(uint64_t left, count_argument(meter, arguments[2]));
  RETURN_IF_ERROR(meter.bytes(2 * text->size()));
  if (arguments[1].is<Undefined>() || arguments[1].is<None>()) return split_at_space(meter, *text, left);
  ASSIGN_OR_RETURN(const TextPtr separator, string_argument(meter, arguments[1]));
  if (separator->size() == 0)
    return meter.fail("template.value", "split: expected a separator, found an empty string");
  std::vector<Value> parts;
  size_t at = 0;
  for (; left > 0; --left) {
    const size_t hit = find_linear(text->bytes(), separator->bytes(), at);
    if (hit == std::string::npos) break;
    RETURN_IF_ERROR(meter.operations(1));
    parts.push_back(make_text(text->slice(at, hit)));
    at = hit + separator->size();
  }
  parts.push_back(make_text(text->slice(at, text->size())));
  return make_list(meter, std::move(parts));
}

Result<Value> splitlines_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, subject_string(meter, arguments[0]));
  const std::string& bytes = text->bytes();
  RETURN_IF_ERROR(meter.bytes(8 * bytes.size()));
  std::vector<Value> lines;
  size_t begin = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t here = at;
    const size_t length = code_point_length(bytes, at);
    size_t position = at;
    const bool valid = utf8_sequence_length(std::string_view(bytes).substr(at)) > 0;
    const char32_t c = valid ? utf8_decode(bytes, position) : U'?';
    at += length;
    const bool ends =
        (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!ends) continue;
    if (c == '\r' && at < bytes.size() && bytes[at] == '\n') ++at;
    RETURN_IF_ERROR(meter.operations(1));
    lines.push_back(make_text(text->slice(begin, here)));
    begin = at;
  }
  if (begin < bytes.size()) lines.push_back(make_text(text->slice(begin, bytes.size())));
  return make_list(meter, std::move(lines));
}

enum class End { kStart, kFinish };

Result<bool> has_affix(Meter& meter, const Text& text, const Value& affix, End end) {
  ASSIGN_OR_RETURN(const TextPtr part, string_argument(meter, affix));
  RETURN_IF_ERROR(meter.bytes(part->size()));
  const std::string_view bytes = text.bytes();
  return end == End::kStart ? bytes.starts_with(part->bytes()) : bytes.ends_with(part->bytes());
}

template <End end>
Result<Value> affix_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, subject_string(meter, arguments[0]));
  const auto* several = arguments[1].get<ListPtr>();
  if (several == nullptr) return has_affix(meter, *text, arguments[1], end);
  RETURN_IF_ERROR(meter.operations((*several)->items.size()));
  for (const Value& affix : (*several)->items) {
    ASSIGN_OR_RETURN(const bool has, has_affix(meter, *text, affix, end));
    if (has) return true;
  }
  return false;
}

template <End end>
Result<Value> remove_affix_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, subject_string(meter, arguments[0]));
  ASSIGN_OR_RETURN(const TextPtr affix, string_argument(meter, arguments[1]));
  ASSIGN_OR_RETURN(const bool has, has_affix(meter, *text, arguments[1], end));
  if (!has) return arguments[0];
  RETURN_IF_ERROR(meter.bytes(text->size()));
  return make_text(end == End::kStart ? text->slice(affix->size(), text->size())
                                      : text->slice(0, text->size() - affix->size()));
}

Result<Value> find_method_call(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, subject_string(meter, arguments[0]));
  ASSIGN_OR_RETURN(const TextPtr part, string_argument(meter, arguments[1]));
  RETURN_IF_ERROR(meter.bytes(2 * text->size()));
  const size_t hit = find_linear(text->bytes(), part->bytes(), 0);
  if (hit == std::string::npos) return int64_t{-1};
  return static_cast<int64_t>(count_code_points(std::string_view(text->bytes()).substr(0, hit)));
}

Result<Value> count_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr text, subject_string(meter, arguments[0]));
  ASSIGN_OR_RETURN(const TextPtr part, string_argument(meter, arguments[1]));
  RETURN_IF_ERROR(meter.bytes(2 * text->size()));
  const std::string& bytes = text->bytes();
  if (part->size() == 0) return static_cast<int64_t>(count_code_points(bytes)) + 1;
  int64_t n = 0;
  for (size_t at = 0; (at = find_linear(bytes, part->bytes(), at)) != std::string::npos; at += part->size())
    ++n;
  return n;
}

Result<Value> join(Meter& meter, const Value& items, const Text& separator) {
  ASSIGN_OR_RETURN(const ListPtr list, iterate(meter, items));
  RETURN_IF_ERROR(meter.operations(list->items.size()));
  Text out;
  for (const Value& item : list->items) {
    ASSIGN_OR_RETURN(const TextPtr part, text_of(meter, item));
    RETURN_IF_ERROR(meter.bytes(part->size() + separator.size()));
    if (&item != list->items.data()) out.append(separator);
    out.append(*part);
  }
  return make_text(std::move(out));
}

Result<Value> attributes(Meter& meter, const Value& items, const Value& name) {
  ASSIGN_OR_RETURN(const ListPtr list, iterate(meter, items));
  RETURN_IF_ERROR(meter.operations(list->items.size()));
  std::vector<Value> out;
  for (const Value& item : list->items) {
    ASSIGN_OR_RETURN(out.emplace_back(), item_of(meter, item, name));
  }
  return make_list(meter, std::move(out));
}

Result<Value> join_filter(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr separator, text_of(meter, arguments[1]));
  if (arguments[2].is<Undefined>()) return join(meter, arguments[0], *separator);
  ASSIGN_OR_RETURN(const Value parts, attributes(meter, arguments[0], arguments[2]));
  return join(meter, parts, *separator);
}

Result<Value> join_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr separator, subject_string(meter, arguments[0]));
  return join(meter, arguments[1], *separator);
}

Result<Value> string_filter(Meter& meter, Arguments arguments) { return text_of(meter, arguments[0]); }

// --- numbers ---

// Python's int(text) and float(text) without the spellings of infinity and NaN.
std::optional<double> parse_float(std::string_view text) {
  text.remove_prefix(leading_space(text));
  text = text.substr(0, size_without_trailing_space(text));
  if (text.starts_with('+')) text.remove_prefix(1);
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(number)) return std::nullopt;
  return number;
}

std::optional<int64_t> parse_integer(std::string_view text) {
  text.remove_prefix(leading_space(text));
  text = text.substr(0, size_without_trailing_space(text));
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Result<Value> int_filter(Meter& meter, Arguments arguments) {
  if (const auto integer = as_integer(arguments[0])) return *integer;
  std::optional<double> number = as_number(arguments[0]);
  if (const auto* text = arguments[0].get<TextPtr>()) {
    RETURN_IF_ERROR(meter.bytes((*text)->size()));
    if (const auto integer = parse_integer((*text)->bytes())) return *integer;
    number = parse_float((*text)->bytes());
  }
  if (!number) return arguments[1].is<Undefined>() ? Value(int64_t{0}) : arguments[1];
  if (std::fabs(*number) >= 0x1p63)
    return meter.fail("template.value", "int: expected 64 bits, found {}", *number);
  return static_cast<int64_t>(*number);
}

Result<Value> float_filter(Meter& meter, Arguments arguments) {
  std::optional<double> number = as_number(arguments[0]);
  if (const auto* text = arguments[0].get<TextPtr>()) {
    RETURN_IF_ERROR(meter.bytes((*text)->size()));
    number = parse_float((*text)->bytes());
  }
  if (!number) return arguments[1].is<Undefined>() ? Value(0.0) : arguments[1];
  return *number;
}

Result<Value> abs_filter(Meter& meter, Arguments arguments) {
  if (const auto integer = as_integer(arguments[0]); integer && *integer != INT64_MIN)
    return std::abs(*integer);
  if (const auto* number = arguments[0].get<double>()) return std::fabs(*number);
  return meter.fail("template.type", "abs: expected a number, found {}", type_name(arguments[0]));
}

// --- lists and mappings ---

Result<Value> length_filter(Meter& meter, Arguments arguments) {
  const Value& value = arguments[0];
  if (const auto* text = value.get<TextPtr>()) {
    RETURN_IF_ERROR(meter.bytes(4 * (*text)->size()));
    return static_cast<int64_t>(count_code_points((*text)->bytes()));
  }
  if (const auto* list = value.get<ListPtr>()) return static_cast<int64_t>((*list)->items.size());
  if (const auto* dict = value.get<DictPtr>()) return static_cast<int64_t>((*dict)->entries().size());
  if (value.is<Undefined>()) return int64_t{0};
  return meter.fail("template.type", "length: expected a string, list or mapping, found {}",
                    type_name(value));
}

Result<Value> first_filter(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const ListPtr list, iterate(meter, arguments[0]));
  return list->items.empty() ? Value(Undefined{}) : list->items.front();
}

Result<Value> last_filter(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const ListPtr list, iterate(meter, arguments[0]));
  return list->items.empty() ? Value(Undefined{}) : list->items.back();
}

Result<Value> list_filter(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(ListPtr list, iterate(meter, arguments[0]));
  return list;
}

Result<Value> reverse_filter(Meter& meter, Arguments arguments) {
  const Value value = arguments[0].is<DictPtr>() || arguments[0].is<Undefined>()
                          ? Value(*iterate(meter, arguments[0]))
                          : arguments[0];
  return slice_of(meter, value, None{}, None{}, int64_t{-1});
}

Result<DictPtr> mapping_of(const Meter& meter, const Value& value) {
  if (const auto* dict = value.get<DictPtr>()) return *dict;
  return meter.fail("template.type", "expected a mapping, found {}", type_name(value));
}

Result<Value> items_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const DictPtr dict, mapping_of(meter, arguments[0]));
  RETURN_IF_ERROR(meter.operations(dict->entries().size()));
  std::vector<Value> pairs;
  for (const auto& [key, value] : dict->entries()) {
    ASSIGN_OR_RETURN(pairs.emplace_back(), make_list(meter, {Value(key), value}));
  }
  return make_list(meter, std::move(pairs));
}

Result<Value> items_filter(Meter& meter, Arguments arguments) {
  if (arguments[0].is<Undefined>()) return make_list(meter, {});
  return items_method(meter, arguments);
}

Result<Value> keys_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const DictPtr dict, mapping_of(meter, arguments[0]));
  ASSIGN_OR_RETURN(ListPtr keys, iterate(meter, dict));
  return keys;
}

Result<Value> values_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const DictPtr dict, mapping_of(meter, arguments[0]));
  RETURN_IF_ERROR(meter.operations(dict->entries().size()));
  std::vector<Value> values;
  for (const auto& [key, value] : dict->entries()) values.push_back(value);
  return make_list(meter, std::move(values));
}

Result<Value> get_method(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const DictPtr dict, mapping_of(meter, arguments[0]));
  ASSIGN_OR_RETURN(const TextPtr key, string_argument(meter, arguments[1]));
  if (const Value* found = dict->find(key->bytes())) return *found;
  return arguments[2].is<Undefined>() ? Value(None{}) : arguments[2];
}

Result<Value> map_filter(Meter& meter, Arguments arguments) {
  return attributes(meter, arguments[0], arguments[1]);
}

// The parser has made sure that a test of that name exists.
template <bool keep>
Result<Value> select_filter(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const ListPtr list, iterate(meter, arguments[0]));
  RETURN_IF_ERROR(meter.operations(2 * list->items.size()));
  const auto* name = arguments[2].get<TextPtr>();
  const Builtin* test = name != nullptr ? find_test((*name)->bytes()) : nullptr;
  std::vector<Value> out;
  for (const Value& item : list->items) {
    ASSIGN_OR_RETURN(Value value, item_of(meter, item, arguments[1]));
    if (test != nullptr) {
      const Value operands[] = {std::move(value), arguments[3]};
      ASSIGN_OR_RETURN(value, test->call(meter, std::span(operands).first(test->parameters.empty() ? 1 : 2)));
    }
    if (is_true(value) == keep) out.push_back(item);
  }
  return make_list(meter, std::move(out));
}

// --- anything ---

Result<Value> tojson_filter(Meter& meter, Arguments arguments) {
  if (is_true(arguments[1])) return meter.fail("template.unsupported", "tojson with ensure_ascii");
  int indent = -1;
  if (!arguments[2].is<Undefined>() && !arguments[2].is<None>()) {
    const auto width = as_integer(arguments[2]);
    if (!width || *width < 0 || *width > 16)
      return meter.fail("template.value", "tojson: indent: expected 0 to 16");
    indent = static_cast<int>(*width);
  }
  ASSIGN_OR_RETURN(const Json json, json_from_value(meter, arguments[0]));
  const std::string text = to_python_json(json);
  RETURN_IF_ERROR(meter.bytes(text.size()));
  if (indent < 0) return make_text(text, Origin::kData);
  // A bound on the spaces: no more lines than bytes, none deeper than the value is high.
  const auto columns = static_cast<uint64_t>(indent * height_of(arguments[0]));
  RETURN_IF_ERROR(meter.bytes(text.size() * (columns + 1)));
  return make_text(to_python_json(json, indent), Origin::kData);
}

Result<Value> default_filter(Meter&, Arguments arguments) {
  const bool use_default = arguments[0].is<Undefined>() || (is_true(arguments[2]) && !is_true(arguments[0]));
  if (!use_default) return arguments[0];
  return arguments[1].is<Undefined>() ? make_text("", Origin::kTemplate) : arguments[1];
}

Result<Value> raise_function(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const TextPtr message, text_of(meter, arguments[0]));
  return meter.fail("template.raised", "{}", ruvltra::quoted(message->bytes(), 500));
}

Result<Value> range_function(Meter& meter, Arguments arguments) {
  int64_t bounds[3] = {0, 0, 1};
  const bool from_zero = arguments[1].is<Undefined>();
  for (size_t i = 0; i < 3; ++i) {
    if (i > 0 && arguments[i].is<Undefined>()) continue;
    const auto integer = as_integer(arguments[i]);
    if (!integer)
      return meter.fail("template.type", "range: expected an integer, found {}", type_name(arguments[i]));
    bounds[i == 0 && from_zero ? 1 : i] = *integer;
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) return meter.fail("template.value", "range: step: expected not 0, found 0");
  std::vector<Value> out;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    RETURN_IF_ERROR(meter.operations(1));
    out.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return make_list(meter, std::move(out));
}

// --- tests ---

template <class T>
Result<Value> is_kind(Meter&, Arguments arguments) {
  return arguments[0].is<T>();
}

Result<Value> is_defined(Meter&, Arguments arguments) { return !arguments[0].is<Undefined>(); }
Result<Value> is_number(Meter&, Arguments arguments) { return as_number(arguments[0]).has_value(); }
Result<Value> is_sequence(Meter&, Arguments arguments) {
  return arguments[0].is<TextPtr>() || arguments[0].is<ListPtr>() || arguments[0].is<DictPtr>() ||
         arguments[0].is<Undefined>();
}

template <bool wanted>
Result<Value> is_boolean_of(Meter&, Arguments arguments) {
  const auto* flag = arguments[0].get<bool>();
  return flag != nullptr && *flag == wanted;
}

template <int64_t remainder>
Result<Value> has_parity(Meter& meter, Arguments arguments) {
  const auto integer = as_integer(arguments[0]);
  if (!integer) return meter.fail("template.type", "expected an integer, found {}", type_name(arguments[0]));
  return (*integer & 1) == remainder;
}

Result<Value> is_divisible(Meter& meter, Arguments arguments) {
  const auto number = as_integer(arguments[0]), divisor = as_integer(arguments[1]);
  if (!number || !divisor) return meter.fail("template.type", "divisibleby: expected integers");
  if (*divisor == 0) return meter.fail("template.value", "divisibleby: expected not 0, found 0");
  return *divisor == -1 || *number % *divisor == 0;
}

template <bool wanted>
Result<Value> is_equal(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const bool same, equals(meter, arguments[0], arguments[1]));
  return same == wanted;
}

// a < b with swapped = false, wanted = true; >= is not <; > swaps.
template <bool swapped, bool wanted>
Result<Value> is_ordered(Meter& meter, Arguments arguments) {
  ASSIGN_OR_RETURN(const bool less, is_less(meter, arguments[swapped ? 1 : 0], arguments[swapped ? 0 : 1]));
  return less == wanted;
}

Result<Value> is_in(Meter& meter, Arguments arguments) { return contains(meter, arguments[1], arguments[0]); }

constexpr Builtin kFilters[] = {
    {"abs", abs_filter, "", 0},
    {"capitalize", case_filter<Case::kCapitalize>, "", 0},
    {"count", length_filter, "", 0},
    {"d", default_filter, "default_value boolean", 0},
    {"default", default_filter, "default_value boolean", 0},
    {"first", first_filter, "", 0},
    {"float", float_filter, "default", 0},
    {"int", int_filter, "default", 0},
    {"items", items_filter, "", 0},
    {"join", join_filter, "d attribute", 0},
    {"last", last_filter, "", 0},
    {"length", length_filter, "", 0},
    {"list", list_filter, "", 0},
    {"lower", case_filter<Case::kLower>, "", 0},
    {"map", map_filter, "attribute", 1},
    {"rejectattr", select_filter<false>, "attribute test value", 1},
    {"replace", replace_filter, "old new count", 2},
    {"reverse", reverse_filter, "", 0},
    {"safe", string_filter, "", 0},
    {"selectattr", select_filter<true>, "attribute test value", 1},
    {"string", string_filter, "", 0},
    {"title", case_filter<Case::kTitle>, "", 0},
    {"tojson", tojson_filter, "ensure_ascii indent", 0},
    {"trim", trim_filter, "chars", 0},
    {"upper", case_filter<Case::kUpper>, "", 0},
};

constexpr Builtin kTests[] = {
    {"!=", is_equal<false>, "other", 1},
    {"<", is_ordered<false, true>, "other", 1},
    {"<=", is_ordered<true, false>, "other", 1},
    {"==", is_equal<true>, "other", 1},
    {">", is_ordered<true, true>, "other", 1},
    {">=", is_ordered<false, false>, "other", 1},
    {"boolean", is_kind<bool>, "", 0},
    {"defined", is_defined, "", 0},
    {"divisibleby", is_divisible, "num", 1},
    {"eq", is_equal<true>, "other", 1},
    {"equalto", is_equal<true>, "other", 1},
    {"even", has_parity<0>, "", 0},
    {"false", is_boolean_of<false>, "", 0},
    {"float", is_kind<double>, "", 0},
    {"ge", is_ordered<false, false>, "other", 1},
    {"greaterthan", is_ordered<true, true>, "other", 1},
    {"gt", is_ordered<true, true>, "other", 1},
    {"in", is_in, "seq", 1},
    {"integer", is_kind<int64_t>, "", 0},
    {"iterable", is_sequence, "", 0},
    {"le", is_ordered<true, false>, "other", 1},
    {"lessthan", is_ordered<false, true>, "other", 1},
    {"lt", is_ordered<false, true>, "other", 1},
    {"mapping", is_kind<DictPtr>, "", 0},
    {"ne", is_equal<false>, "other", 1},
    {"none", is_kind<None>, "", 0},
    {"number", is_number, "", 0},
    {"odd", has_parity<1>, "", 0},
    {"sequence", is_sequence, "", 0},
    {"string", is_kind<TextPtr>, "", 0},
    {"true", is_boolean_of<true>, "", 0},
    {"undefined", is_kind<Undefined>, "", 0},
};

constexpr Builtin kMethods[] = {
    {"capitalize", case_method<Case::kCapitalize>, "", 0},
    {"count", count_method, "sub", 1},
    {"endswith", affix_method<End::kFinish>, "suffix", 1},
    {"find", find_method_call, "sub", 1},
    {"get", get_method, "key default", 1},
    {"items", items_method, "", 0},
    {"join", join_method, "iterable", 1},
    {"keys", keys_method, "", 0},
    {"lower", case_method<Case::kLower>, "", 0},
    {"lstrip", strip_method<kLeft>, "chars", 0},
    {"removeprefix", remove_affix_method<End::kStart>, "prefix", 1},
    {"removesuffix", remove_affix_method<End::kFinish>, "suffix", 1},
    {"replace", replace_method, "old new count", 2},
    {"rstrip", strip_method<kRight>, "chars", 0},
    {"split", split_method, "sep maxsplit", 0},
    {"splitlines", splitlines_method, "", 0},
    {"startswith", affix_method<End::kStart>, "prefix", 1},
    {"strip", strip_method<kBoth>, "chars", 0},
    {"upper", case_method<Case::kUpper>, "", 0},
    {"values", values_method, "", 0},
};

constexpr Builtin kFunctions[] = {
    {"raise_exception", raise_function, "message", 1},
    {"range", range_function, "start stop step", 1},
};

const Builtin* find_in(std::span<const Builtin> table, std::string_view name) {
  const auto row =
      std::find_if(table.begin(), table.end(), [name](const Builtin& b) { return b.name == name; });
  return row == table.end() ? nullptr : &*row;
}

}  // namespace

const Builtin* find_filter(std::string_view name) { return find_in(kFilters, name); }
const Builtin* find_test(std::string_view name) { return find_in(kTests, name); }
const Builtin* find_method(std::string_view name) { return find_in(kMethods, name); }
const Builtin* find_function(std::string_view name) { return find_in(kFunctions, name); }

}  // namespace ruvltra::jinja

#include "server/fields.h"

#include <algorithm>
#include <cmath>

namespace ruvltra {

const Json& member(const Json& object, std::string_view name) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(name);
  return found == object.end() ? kNull : *found;
}

std::string_view type_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

Result<void> read_number(const Json& object, std::string_view name, double low, double high, double& out) {
  const Json& value = member(object, name);
  if (value.is_null()) return {};
  if (!value.is_number()) return bad_field(name, "expected a number, found {}", type_of(value));
  const auto number = value.get<double>();
  if (!(number >= low && number <= high))
    return bad_field(name, "expected {} to {}, found {}", low, high, number);
  out = number;
  return {};
}

Result<void> read_number(const Json& object, std::string_view name, double low, double high, float& out) {
  double number = static_cast<double>(out);
  RETURN_IF_ERROR(read_number(object, name, low, high, number));
  if (!member(object, name).is_null()) out = static_cast<float>(number);
  return {};
}

Result<void> read_integer(const Json& object, std::string_view name, int64_t low, int64_t high,
                          int64_t& out) {
  const Json& value = member(object, name);
  if (value.is_null()) return {};
  if (!value.is_number()) return bad_field(name, "expected an integer, found {}", type_of(value));
  int64_t number = 0;
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(high))
    return bad_field(name, "expected {} to {}, found {}", low, high, value.get<uint64_t>());
  if (value.is_number_float()) {
    // 3.0 is an integer of JSON.
    const auto real = value.get<double>();
    if (real != std::floor(real)) return bad_field(name, "expected an integer, found {}", real);
    if (!(real >= -9e18 && real <= 9e18))
      return bad_field(name, "expected {} to {}, found {}", low, high, real);
    number = static_cast<int64_t>(real);
  } else {
    number = value.get<int64_t>();
  }
  if (number < low || number > high) return bad_field(name, "expected {} to {}, found {}", low, high, number);
  out = number;
  return {};
}

Result<void> read_integer(const Json& object, std::string_view name, int64_t low, int64_t high, int& out) {
  int64_t number = out;
  RETURN_IF_ERROR(read_integer(object, name, low, high, number));
  out = static_cast<int>(number);
  return {};
}

Result<void> read_bool(const Json& object, std::string_view name, bool& out) {
  const Json& value = member(object, name);
  if (value.is_null()) return {};
  if (!value.is_boolean()) return bad_field(name, "expected true or false, found {}", type_of(value));
  out = value.get<bool>();
  return {};
}

Result<void> read_string(const Json& object, std::string_view name, std::string& out, size_t max_bytes) {
  const Json& value = member(object, name);
  if (value.is_null()) return {};
  if (!value.is_string()) return bad_field(name, "expected a string, found {}", type_of(value));
  const auto& text = value.get_ref<const std::string&>();
  if (text.size() > max_bytes)
    return bad_field(name, "expected at most {} bytes, found {}", max_bytes, text.size());
  out = text;
  return {};
}

std::string field_of(const Error& error) {
  const size_t colon = error.message.find(':');
  if (colon == std::string::npos || colon > 80) return {};
  const std::string_view name = std::string_view(error.message).substr(0, colon);
  const bool is_name = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_.[]").find(c) != std::string_view::npos;
  });
  return is_name ? std::string(name) : std::string();
}

}  // namespace ruvltra

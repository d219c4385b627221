#include "gguf/metadata.h"

#include <array>
#include <cmath>
#include <type_traits>
#include <utility>

#include "base/fail.h"

namespace ruvltra {
namespace {

// In the order of MetaValue's alternatives.
constexpr std::array<std::string_view, 24> kTypeNames = {"u8",
                                                         "i8",
                                                         "u16",
                                                         "i16",
                                                         "u32",
                                                         "i32",
                                                         "f32",
                                                         "bool",
                                                         "string",
                                                         "u64",
                                                         "i64",
                                                         "f64",
                                                         "array of u8",
                                                         "array of i8",
                                                         "array of u16",
                                                         "array of i16",
                                                         "array of u32",
                                                         "array of i32",
                                                         "array of f32",
                                                         "array of bool",
                                                         "array of string",
                                                         "array of u64",
                                                         "array of i64",
                                                         "array of f64"};
static_assert(std::variant_size_v<MetaValue> == kTypeNames.size());

template <class T>
constexpr bool is_plain_integer = std::is_integral_v<T> && !std::is_same_v<T, bool>;

tl::unexpected<Error> missing(const Metadata& metadata, std::string_view key, std::string_view expected) {
  return fail("metadata.missing", "{}: {}: expected {}, found no such key", metadata.source(), key, expected);
}

tl::unexpected<Error> wrong_type(const Metadata& metadata, std::string_view key, std::string_view expected,
                                 const MetaValue& found) {
  return fail("metadata.type", "{}: {}: expected {}, found {}", metadata.source(), key, expected,
              type_name(found));
}

template <class T>
Result<const T*> get_exactly(const Metadata& metadata, std::string_view key, std::string_view expected) {
  const MetaValue* value = metadata.find(key);
  if (value == nullptr) return missing(metadata, key, expected);
  const T* typed = std::get_if<T>(value);
  if (typed == nullptr) return wrong_type(metadata, key, expected, *value);
  return typed;
}

}  // namespace

std::string_view type_name(const MetaValue& value) { return kTypeNames[value.index()]; }

const MetaValue* Metadata::find(std::string_view key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

void Metadata::set(std::string key, MetaValue value) {
  const auto [found, is_new] = index_.try_emplace(key, entries_.size());
  if (is_new) {
    entries_.emplace_back(std::move(key), std::move(value));
  } else {
    entries_[found->second].second = std::move(value);
  }
}

void Metadata::erase(std::string_view key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return;
  const size_t position = found->second;
  index_.erase(found);
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(position));
  for (auto& [other_key, other_position] : index_) {
    if (other_position > position) --other_position;
  }
}

Result<uint64_t> Metadata::get_uint(std::string_view key, uint64_t low, uint64_t high) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return missing(*this, key, "an integer");
  return std::visit(
      [&](const auto& x) -> Result<uint64_t> {
        if constexpr (is_plain_integer<std::decay_t<decltype(x)>>) {
          if (std::cmp_less(x, low) || std::cmp_greater(x, high)) {
            return fail("metadata.range", "{}: {}: expected {} to {}, found {}", source_, key, low, high, x);
          }
          return static_cast<uint64_t>(x);
        } else {
          return wrong_type(*this, key, "an integer", *value);
        }
      },
      *value);
}

Result<double> Metadata::get_float(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return missing(*this, key, "f32 or f64");
  double number;
  if (const auto* single = std::get_if<float>(value)) {
    number = *single;
  } else if (const auto* wide = std::get_if<double>(value)) {
    number = *wide;
  } else {
    return wrong_type(*this, key, "f32 or f64", *value);
  }
  if (!std::isfinite(number)) {
    return fail("metadata.range", "{}: {}: expected a finite number, found {}", source_, key, number);
  }
  return number;
}

Result<bool> Metadata::get_bool(std::string_view key) const {
  ASSIGN_OR_RETURN(const bool* value, get_exactly<bool>(*this, key, "bool"));
  return *value;
}

Result<std::string_view> Metadata::get_string(std::string_view key) const {
  ASSIGN_OR_RETURN(const std::string* value, get_exactly<std::string>(*this, key, "string"));
  return std::string_view(*value);
}

Result<std::span<const std::string>> Metadata::get_strings(std::string_view key) const {
  ASSIGN_OR_RETURN(const auto* values, get_exactly<std::vector<std::string>>(*this, key, "array of string"));
  return std::span<const std::string>(*values);
}

Result<std::span<const int32_t>> Metadata::get_i32s(std::string_view key) const {
  ASSIGN_OR_RETURN(const auto* values, get_exactly<std::vector<int32_t>>(*this, key, "array of i32"));
  return std::span<const int32_t>(*values);
}

Result<std::span<const float>> Metadata::get_floats(std::string_view key) const {
  ASSIGN_OR_RETURN(const auto* values, get_exactly<std::vector<float>>(*this, key, "array of f32"));
  return std::span<const float>(*values);
}

}  // namespace ruvltra

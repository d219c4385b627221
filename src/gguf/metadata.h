// Key-value metadata of a model file, with typed and counted access.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

// One value as stored. Arrays of numbers keep their element type; arrays of arrays are refused by the reader.
using MetaValue =
    std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string, uint64_t,
                 int64_t, double, std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>,
                 std::vector<int16_t>, std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>,
                 std::vector<bool>, std::vector<std::string>, std::vector<uint64_t>, std::vector<int64_t>,
                 std::vector<double>>;

// "u32", "string", "array of f32", ...
std::string_view type_name(const MetaValue& value);

// Order is the order in the file. Keys are unique.
class Metadata {
 public:
  // `source` names the file in messages.
  explicit Metadata(std::string source = "metadata") : source_(std::move(source)) {}

  const std::string& source() const { return source_; }
  size_t size() const { return entries_.size(); }
  const std::vector<std::pair<std::string, MetaValue>>& entries() const { return entries_; }

  bool contains(std::string_view key) const { return find(key) != nullptr; }
  const MetaValue* find(std::string_view key) const;
  void set(std::string key, MetaValue value);  // replaces
  void erase(std::string_view key);

  // Each gives metadata.missing or metadata.type (with key, expected and found) when it does not fit.
  // Integers: any unsigned type, or a signed one that is not negative; outside [low, high] is metadata.range.
  Result<uint64_t> get_uint(std::string_view key, uint64_t low, uint64_t high) const;
  Result<double> get_float(std::string_view key) const;  // f32 or f64, finite (metadata.range otherwise)
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string_view> get_string(std::string_view key) const;
  Result<std::span<const std::string>> get_strings(std::string_view key) const;
  Result<std::span<const int32_t>> get_i32s(std::string_view key) const;
  Result<std::span<const float>> get_floats(std::string_view key) const;

 private:
  std::string source_;
  std::vector<std::pair<std::string, MetaValue>> entries_;
  std::map<std::string, size_t, std::less<>> index_;
};

}  // namespace ruvltra

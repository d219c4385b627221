// Values of the template language, and the budget a render may spend on them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/fail.h"
#include "base/json.h"
#include "text/jinja_text.h"

namespace ruvltra::jinja {

struct List;
class Dict;
struct Namespace;
struct Loop;

struct Undefined {};
struct None {};
struct BoundMethod {};  // a method that is named but not called: true and defined, nothing else

using TextPtr = std::shared_ptr<const Text>;
using ListPtr = std::shared_ptr<const List>;
using DictPtr = std::shared_ptr<const Dict>;
using NamespacePtr = std::shared_ptr<Namespace>;
using LoopPtr = std::shared_ptr<Loop>;

// uint64_t holds only what is too large for int64_t; it compares as a float and takes part in no integer
// arithmetic.
using ValueBase = std::variant<Undefined, None, bool, int64_t, double, TextPtr, ListPtr, DictPtr,
                               NamespacePtr, LoopPtr, BoundMethod, uint64_t>;

struct Value : ValueBase {
  using ValueBase::ValueBase;
  template <class T>
  bool is() const {
    return std::holds_alternative<T>(*this);
  }
  template <class T>
  const T* get() const {
    return std::get_if<T>(static_cast<const ValueBase*>(this));
  }
};

struct List {
  std::vector<Value> items;
  int height;  // 1 + that of the highest item
};

// Keeps the order of insertion. Lookup is a binary search: crafted keys cannot make it slow.
class Dict {
 public:
  using Entry = std::pair<TextPtr, Value>;

  // Of equal keys the last value counts, in the place of the first.
  Dict(std::vector<Entry> entries, int height);
  const std::vector<Entry>& entries() const { return entries_; }
  const Value* find(std::string_view key) const;
  int height() const { return height_; }

 private:
  std::vector<Entry> entries_;
  std::vector<uint32_t> by_key_;  // indices of entries_, sorted by key
  int height_;
};

// Never stored inside a list, a mapping or another namespace, so no cycle can form.
struct Namespace {
  std::vector<std::pair<std::string, Value>> entries;
};

struct Loop {
  ListPtr items;
  size_t index = 0;
};

// What a render may still spend, and the line it is at, for messages.
class Meter {
 public:
  static constexpr uint64_t kMaxOperations = 500'000;
  static constexpr uint64_t kMaxOutputBytes = uint64_t{4} << 20;
  // Bytes read and written by operations on text; a render of 4 MiB needs a few passes over it.
  static constexpr uint64_t kMaxWorkBytes = uint64_t{64} << 20;

  Result<void> operations(uint64_t n);
  Result<void> bytes(uint64_t n);
  void at_line(int line) { line_ = line; }

  template <class... Args>
  [[nodiscard]] tl::unexpected<Error> fail(std::string_view id, fmt::format_string<Args...> format,
                                           Args&&... args) const {
    return ruvltra::fail(id, "chat template: line {}: {}", line_,
                         fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  uint64_t operations_ = 0;
  uint64_t bytes_ = 0;
  int line_ = 1;
};

Value make_text(Text text);
Value make_text(std::string_view bytes, Origin origin);
// Errors: template.depth (more than kMaxHeight levels), template.type (namespaces and loops cannot be
// stored).
constexpr int kMaxHeight = 100;
// Levels of lists and mappings; 0 for anything else.
int height_of(const Value& value);
Result<Value> make_list(const Meter& meter, std::vector<Value> items);
Result<Value> make_dict(const Meter& meter, std::vector<Dict::Entry> entries);

// "undefined", "none", "boolean", "integer", "float", "string", "list", "mapping", "namespace", "loop",
// "method".
std::string_view type_name(const Value& value);
bool is_true(const Value& value);
// Booleans count as integers, as in Python.
std::optional<int64_t> as_integer(const Value& value);
std::optional<double> as_number(const Value& value);
// What {{ value }} prints. Error template.type for lists, mappings, namespaces, loops and methods.
Result<Text> to_text(const Meter& meter, const Value& value);
Result<bool> equals(Meter& meter, const Value& a, const Value& b);
// Numbers, or strings by code point; anything else is template.type.
Result<bool> is_less(Meter& meter, const Value& a, const Value& b);
Result<bool> contains(Meter& meter, const Value& container, const Value& item);
// The items a loop visits: those of a list, the keys of a mapping, the characters of a string, nothing of
// undefined.
Result<ListPtr> iterate(Meter& meter, const Value& value);
// value.name and value[key]; undefined where there is none. Error template.undefined when `value` itself is
// undefined.
Result<Value> attribute_of(const Meter& meter, const Value& value, std::string_view name);
Result<Value> item_of(Meter& meter, const Value& value, const Value& key);
// Indices of value[start:stop:step] by Python's rules; undefined or none stands for a missing part.
Result<Value> slice_of(Meter& meter, const Value& value, const Value& start, const Value& stop,
                       const Value& step);

// Error template.depth. All text of the result has the origin kData.
Result<Value> value_from_json(const Meter& meter, const Json& json);
Result<Json> json_from_value(Meter& meter, const Value& value);

}  // namespace ruvltra::jinja

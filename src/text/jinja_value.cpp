#include "text/jinja_value.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

namespace ruvltra::jinja {

Dict::Dict(std::vector<Entry> entries, int height) : entries_(std::move(entries)), height_(height) {
  by_key_.resize(entries_.size());
  std::iota(by_key_.begin(), by_key_.end(), 0u);
  const auto key = [this](uint32_t i) -> const std::string& { return entries_[i].first->bytes(); };
  std::stable_sort(by_key_.begin(), by_key_.end(), [&](uint32_t a, uint32_t b) { return key(a) < key(b); });
  const auto same = [&](uint32_t a, uint32_t b) { return key(a) == key(b); };
  if (std::adjacent_find(by_key_.begin(), by_key_.end(), same) == by_key_.end()) return;
  std::vector<bool> dropped(entries_.size());
  for (size_t i = 0, first = 0; i < by_key_.size(); ++i) {
    if (!same(by_key_[first], by_key_[i])) first = i;
    if (first == i) continue;
    entries_[by_key_[first]].second = entries_[by_key_[i]].second;
    dropped[by_key_[i]] = true;
  }
  std::vector<Entry> kept;
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!dropped[i]) kept.push_back(std::move(entries_[i]));
  }
  *this = Dict(std::move(kept), height);
}

const Value* Dict::find(std::string_view wanted) const {
  const auto before = [this](uint32_t i, std::string_view key) { return entries_[i].first->bytes() < key; };
  const auto found = std::lower_bound(by_key_.begin(), by_key_.end(), wanted, before);
  if (found == by_key_.end() || entries_[*found].first->bytes() != wanted) return nullptr;
  return &entries_[*found].second;
}

Result<void> Meter::operations(uint64_t n) {
  if (n > kMaxOperations - operations_) {
    return fail("template.fuel", "expected at most {} operations, needs more", kMaxOperations);
  }
  operations_ += n;
  return {};
}

Result<void> Meter::bytes(uint64_t n) {
  if (n > kMaxWorkBytes - bytes_) {
    return fail("template.fuel", "expected at most {} bytes of text work, needs more", kMaxWorkBytes);
  }
  bytes_ += n;
  return {};
}

Value make_text(Text text) { return std::make_shared<const Text>(std::move(text)); }
Value make_text(std::string_view bytes, Origin origin) { return make_text(Text(bytes, origin)); }

int height_of(const Value& value) {
  if (const auto* list = value.get<ListPtr>()) return (*list)->height;
  if (const auto* dict = value.get<DictPtr>()) return (*dict)->height();
  return 0;
}

namespace {

Result<void> check_storable(const Meter& meter, const Value& value) {
  if (value.is<NamespacePtr>() || value.is<LoopPtr>()) {
    return meter.fail("template.type", "expected a value that can be stored, found a {}", type_name(value));
  }
  if (height_of(value) >= kMaxHeight) {
    return meter.fail("template.depth", "expected at most {} levels of lists and mappings, needs more",
                      kMaxHeight);
  }
  return {};
}

}  // namespace

Result<Value> make_list(const Meter& meter, std::vector<Value> items) {
  int height = 0;
  for (const Value& item : items) {
    RETURN_IF_ERROR(check_storable(meter, item));
    height = std::max(height, height_of(item));
  }
  return std::make_shared<const List>(List{std::move(items), height + 1});
}

Result<Value> make_dict(const Meter& meter, std::vector<Dict::Entry> entries) {
  int height = 0;
  for (const auto& [key, value] : entries) {
    RETURN_IF_ERROR(check_storable(meter, value));
    height = std::max(height, height_of(value));
  }
  return std::make_shared<const Dict>(std::move(entries), height + 1);
}

std::string_view type_name(const Value& value) {
  static constexpr std::array<std::string_view, std::variant_size_v<ValueBase>> kNames = {
      "undefined", "none",    "boolean",   "integer", "float",  "string",
      "list",      "mapping", "namespace", "loop",    "method", "large integer"};
  return kNames[value.index()];
}

bool is_true(const Value& value) {
  if (value.is<Undefined>() || value.is<None>()) return false;
  if (const auto* flag = value.get<bool>()) return *flag;
  if (const auto* integer = value.get<int64_t>()) return *integer != 0;
  if (const auto* number = value.get<double>()) return *number != 0;
  if (const auto* text = value.get<TextPtr>()) return (*text)->size() > 0;
  if (const auto* list = value.get<ListPtr>()) return !(*list)->items.empty();
  if (const auto* dict = value.get<DictPtr>()) return !(*dict)->entries().empty();
  return true;
}

std::optional<int64_t> as_integer(const Value& value) {
  if (const auto* flag = value.get<bool>()) return *flag ? 1 : 0;
  if (const auto* integer = value.get<int64_t>()) return *integer;
  return std::nullopt;
}

std::optional<double> as_number(const Value& value) {
  if (const auto* number = value.get<double>()) return *number;
  if (const auto* large = value.get<uint64_t>()) return static_cast<double>(*large);
  if (const auto integer = as_integer(value)) return static_cast<double>(*integer);
  return std::nullopt;
}

Result<Text> to_text(const Meter& meter, const Value& value) {
  if (value.is<Undefined>()) return Text();
  if (value.is<None>()) return Text("None", Origin::kTemplate);
  if (const auto* flag = value.get<bool>()) return Text(*flag ? "True" : "False", Origin::kTemplate);
  if (const auto* integer = value.get<int64_t>()) return Text(std::to_string(*integer), Origin::kTemplate);
  if (const auto* large = value.get<uint64_t>()) return Text(std::to_string(*large), Origin::kTemplate);
  if (const auto* number = value.get<double>()) return Text(python_float(*number), Origin::kTemplate);
  if (const auto* text = value.get<TextPtr>()) return **text;
  return meter.fail("template.type", "expected a value that prints as text, found a {}", type_name(value));
}

namespace {

Result<bool> lists_equal(Meter& meter, const List& a, const List& b) {
  if (a.items.size() != b.items.size()) return false;
  RETURN_IF_ERROR(meter.operations(a.items.size()));
  for (size_t i = 0; i < a.items.size(); ++i) {
    ASSIGN_OR_RETURN(const bool same, equals(meter, a.items[i], b.items[i]));
    if (!same) return false;
  }
  return true;
}

Result<bool> dicts_equal(Meter& meter, const Dict& a, const Dict& b) {
  if (a.entries().size() != b.entries().size()) return false;
  RETURN_IF_ERROR(meter.operations(a.entries().size()));
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key->bytes());
    if (other == nullptr) return false;
    ASSIGN_OR_RETURN(const bool same, equals(meter, value, *other));
    if (!same) return false;
  }
  return true;
}

}  // namespace

// Recursion ends within kMaxHeight levels.
Result<bool> equals(Meter& meter, const Value& a, const Value& b) {
  const auto integer_a = as_integer(a), integer_b = as_integer(b);
  if (integer_a && integer_b) return *integer_a == *integer_b;
  const auto number_a = as_number(a), number_b = as_number(b);
  if (number_a && number_b) return *number_a == *number_b;
  if (a.index() != b.index()) return false;
  if (const auto* text = a.get<TextPtr>()) {
    const auto& other = *b.get<TextPtr>();
    if (*text == other || (*text)->size() != other->size()) return *text == other;
    RETURN_IF_ERROR(meter.bytes(other->size()));
    return (*text)->bytes() == other->bytes();
  }
  if (const auto* list = a.get<ListPtr>()) return lists_equal(meter, **list, **b.get<ListPtr>());
  if (const auto* dict = a.get<DictPtr>()) return dicts_equal(meter, **dict, **b.get<DictPtr>());
  if (const auto* space = a.get<NamespacePtr>()) return *space == *b.get<NamespacePtr>();
  if (const auto* loop = a.get<LoopPtr>()) return *loop == *b.get<LoopPtr>();
  return !a.is<BoundMethod>();
}

Result<bool> is_less(Meter& meter, const Value& a, const Value& b) {
  const auto integer_a = as_integer(a), integer_b = as_integer(b);
  if (integer_a && integer_b) return *integer_a < *integer_b;
  const auto number_a = as_number(a), number_b = as_number(b);
  if (number_a && number_b) return *number_a < *number_b;
  const auto* text_a = a.get<TextPtr>();
  const auto* text_b = b.get<TextPtr>();
  if (text_a == nullptr || text_b == nullptr) {
    return meter.fail("template.type", "comparison: expected two numbers or two strings, found {} and {}",
                      type_name(a), type_name(b));
  }
  RETURN_IF_ERROR(meter.bytes(std::min((*text_a)->size(), (*text_b)->size())));
  return (*text_a)->bytes() < (*text_b)->bytes();  // UTF-8 keeps the order of code points
}

Result<bool> contains(Meter& meter, const Value& container, const Value& item) {
  const auto* wanted = item.get<TextPtr>();
  if (const auto* text = container.get<TextPtr>(); text != nullptr && wanted != nullptr) {
    RETURN_IF_ERROR(meter.bytes((*text)->size()));
    return find_linear((*text)->bytes(), (*wanted)->bytes(), 0) != std::string_view::npos;
  }
  if (const auto* dict = container.get<DictPtr>())
    return wanted != nullptr && (*dict)->find((*wanted)->bytes());
  if (container.is<ListPtr>() || container.is<Undefined>()) {
    ASSIGN_OR_RETURN(const ListPtr list, iterate(meter, container));
    RETURN_IF_ERROR(meter.operations(list->items.size()));
    for (const Value& candidate : list->items) {
      ASSIGN_OR_RETURN(const bool same, equals(meter, candidate, item));
      if (same) return true;
    }
    return false;
  }
  return meter.fail("template.type", "in: expected a string in a string, a list or a mapping, found {} in {}",
                    type_name(item), type_name(container));
}

Result<ListPtr> iterate(Meter& meter, const Value& value) {
  if (const auto* list = value.get<ListPtr>()) return *list;
  auto items = std::make_shared<List>(List{{}, 1});
  if (value.is<Undefined>()) return items;
  if (const auto* dict = value.get<DictPtr>()) {
    RETURN_IF_ERROR(meter.operations((*dict)->entries().size()));
    for (const auto& [key, entry] : (*dict)->entries()) items->items.emplace_back(key);
    return items;
  }
  if (const auto* text = value.get<TextPtr>()) {
    RETURN_IF_ERROR(meter.operations((*text)->size()));
    const std::string& bytes = (*text)->bytes();
    for (size_t at = 0; at < bytes.size();) {
      const size_t next = at + code_point_length(bytes, at);
      items->items.push_back(make_text((*text)->slice(at, next)));
      at = next;
    }
    return items;
  }
  return meter.fail("template.type", "expected a list, a mapping or a string to iterate, found {}",
                    type_name(value));
}

namespace {

// Jinja looks for a Python attribute before it looks for a key, so these names never reach a mapping's own
// keys.
bool is_method_name(const Value& value, std::string_view name) {
  static constexpr std::string_view kDict[] = {"clear", "copy",    "fromkeys",   "get",    "items", "keys",
                                               "pop",   "popitem", "setdefault", "update", "values"};
  static constexpr std::string_view kText[] = {
      "capitalize", "casefold",     "center",       "count",   "encode",     "endswith",    "expandtabs",
      "find",       "format",       "format_map",   "index",   "isalnum",    "isalpha",     "isascii",
      "isdecimal",  "isdigit",      "isidentifier", "islower", "isnumeric",  "isprintable", "isspace",
      "istitle",    "isupper",      "join",         "ljust",   "lower",      "lstrip",      "maketrans",
      "partition",  "removeprefix", "removesuffix", "replace", "rfind",      "rindex",      "rjust",
      "rpartition", "rsplit",       "rstrip",       "split",   "splitlines", "startswith",  "strip",
      "swapcase",   "title",        "translate",    "upper",   "zfill"};
  static constexpr std::string_view kList[] = {"append", "clear", "copy",   "count",   "extend", "index",
                                               "insert", "pop",   "remove", "reverse", "sort"};
  const auto has = [name](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  return (value.is<DictPtr>() && has(kDict)) || (value.is<TextPtr>() && has(kText)) ||
         (value.is<ListPtr>() && has(kList));
}

Value loop_attribute(const Loop& loop, std::string_view name) {
  const auto index = static_cast<int64_t>(loop.index);
  const auto n = static_cast<int64_t>(loop.items->items.size());
  if (name == "index0") return index;
  if (name == "index") return index + 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == n;
  if (name == "length") return n;
  if (name == "revindex") return n - index;
  if (name == "revindex0") return n - index - 1;
  if (name == "previtem" && index > 0) return loop.items->items[loop.index - 1];
  if (name == "nextitem" && index + 1 < n) return loop.items->items[loop.index + 1];
  return Undefined{};
}

Value entry_or_undefined(const Value* found) { return found != nullptr ? *found : Value(Undefined{}); }

}  // namespace

Result<Value> attribute_of(const Meter& meter, const Value& value, std::string_view name) {
  if (value.is<Undefined>()) {
    return meter.fail("template.undefined", ".{}: expected a defined value before it, found undefined", name);
  }
  if (is_method_name(value, name)) return BoundMethod{};
  if (const auto* dict = value.get<DictPtr>()) return entry_or_undefined((*dict)->find(name));
  if (const auto* loop = value.get<LoopPtr>()) return loop_attribute(**loop, name);
  if (const auto* space = value.get<NamespacePtr>()) {
    for (const auto& [key, entry] : (*space)->entries) {
      if (key == name) return entry;
    }
  }
  return Undefined{};
}

Result<Value> item_of(Meter& meter, const Value& value, const Value& key) {
  if (value.is<Undefined>()) {
    return meter.fail("template.undefined", "[...]: expected a defined value before it, found undefined");
  }
  if (const auto* name = key.get<TextPtr>()) {
    if (const auto* dict = value.get<DictPtr>()) {
      if (const Value* found = (*dict)->find((*name)->bytes())) return *found;
    }
    return attribute_of(meter, value, (*name)->bytes());
  }
  const auto index = as_integer(key);
  if (!index) return Undefined{};
  if (const auto* list = value.get<ListPtr>()) {
    const auto n = static_cast<int64_t>((*list)->items.size());
    const int64_t place = *index < 0 ? *index + n : *index;
    if (place < 0 || place >= n) return Undefined{};
    return (*list)->items[static_cast<size_t>(place)];
  }
  if (value.is<TextPtr>()) {
    const Value stop = *index == -1 || *index == INT64_MAX ? Value(None{}) : Value(*index + 1);
    ASSIGN_OR_RETURN(Value part, slice_of(meter, value, key, stop, None{}));
    return is_true(part) ? part : Value(Undefined{});
  }
  return Undefined{};
}

namespace {

struct SliceRange {
  int64_t start, stop, step;
};

// Python's slice.indices(n).
Result<SliceRange> slice_range(const Meter& meter, int64_t n, const Value& start, const Value& stop,
                               const Value& step) {
  const auto part = [&](const Value& value, int64_t missing) -> Result<int64_t> {
    if (value.is<None>()) return missing;
    const auto integer = as_integer(value);
    if (!integer)
      return meter.fail("template.type", "slice: expected an integer, found {}", type_name(value));
    return *integer;
  };
  SliceRange range{};
  ASSIGN_OR_RETURN(range.step, part(step, 1));
  if (range.step == 0) return meter.fail("template.value", "slice: step: expected not 0, found 0");
  range.step = std::clamp(range.step, -INT64_MAX / 4, INT64_MAX / 4);
  const int64_t lowest = range.step < 0 ? -1 : 0;
  const int64_t highest = range.step < 0 ? n - 1 : n;
  const auto place = [&](int64_t i) { return std::clamp(i < 0 ? i + n : i, lowest, highest); };
  ASSIGN_OR_RETURN(const int64_t first, part(start, range.step < 0 ? n - 1 : 0));
  ASSIGN_OR_RETURN(const int64_t last, part(stop, range.step < 0 ? -1 - n : n));
  range.start = place(first);
  range.stop = place(last);
  return range;
}

Result<Value> slice_text(Meter& meter, const TextPtr& text, const Value& start, const Value& stop,
                         const Value& step) {
  const std::string& bytes = text->bytes();
  RETURN_IF_ERROR(meter.bytes(8 * bytes.size()));
  const auto n = static_cast<int64_t>(count_code_points(bytes));
  ASSIGN_OR_RETURN(const SliceRange range, slice_range(meter, n, start, stop, step));
  if (range.step == 1) {
    size_t at = 0;
    const auto advance = [&](int64_t code_points) {
      while (code_points-- > 0) at += code_point_length(bytes, at);
      return at;
    };
    const size_t begin = advance(range.start);
    const size_t end = advance(range.stop - range.start);
    return make_text(text->slice(begin, end));
  }
  RETURN_IF_ERROR(meter.operations(static_cast<uint64_t>(n)));
  std::vector<size_t> starts;
  for (size_t at = 0; at < bytes.size(); at += code_point_length(bytes, at)) starts.push_back(at);
  starts.push_back(bytes.size());
  Text out;
  for (int64_t i = range.start; range.step < 0 ? i > range.stop : i < range.stop; i += range.step) {
    out.append(*text, starts[static_cast<size_t>(i)], starts[static_cast<size_t>(i) + 1]);
  }
  return make_text(std::move(out));
}

}  // namespace

Result<Value> slice_of(Meter& meter, const Value& value, const Value& start, const Value& stop,
                       const Value& step) {
  if (const auto* text = value.get<TextPtr>()) return slice_text(meter, *text, start, stop, step);
  const auto* list = value.get<ListPtr>();
  if (list == nullptr) {
    return meter.fail("template.type", "slice: expected a list or a string, found {}", type_name(value));
  }
  const auto& items = (*list)->items;
  ASSIGN_OR_RETURN(const SliceRange range,
                   slice_range(meter, static_cast<int64_t>(items.size()), start, stop, step));
  RETURN_IF_ERROR(meter.operations(items.size()));
  std::vector<Value> out;
  for (int64_t i = range.start; range.step < 0 ? i > range.stop : i < range.stop; i += range.step) {
    out.push_back(items[static_cast<size_t>(i)]);
  }
  return make_list(meter, std::move(out));
}

// Recursion ends at kMaxHeight levels, where make_list and make_dict refuse; the check at the top ends it
// earlier.
namespace {

Result<Value> value_from_json(const Meter& meter, const Json& json, int depth) {
  if (depth > kMaxHeight) {
    return meter.fail("template.depth", "expected JSON of at most {} levels, found more", kMaxHeight);
  }
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<int64_t>();
    case Json::value_t::number_unsigned: {
      const auto number = json.get<uint64_t>();
      if (number > INT64_MAX) return number;
      return static_cast<int64_t>(number);
    }
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return make_text(json.get_ref<const std::string&>(), Origin::kData);
    case Json::value_t::array: {
      std::vector<Value> items;
      for (const Json& child : json) {
        ASSIGN_OR_RETURN(Value item, value_from_json(meter, child, depth + 1));
        items.push_back(std::move(item));
      }
      return make_list(meter, std::move(items));
    }
    case Json::value_t::object: {
      std::vector<Dict::Entry> entries;
      for (const auto& [key, child] : json.items()) {
        ASSIGN_OR_RETURN(Value value, value_from_json(meter, child, depth + 1));
        entries.emplace_back(std::make_shared<const Text>(key, Origin::kData), std::move(value));
      }
      return make_dict(meter, std::move(entries));
    }
    default:
      return None{};
  }
}

}  // namespace

Result<Value> value_from_json(const Meter& meter, const Json& json) {
  return value_from_json(meter, json, 1);
}

Result<Json> json_from_value(Meter& meter, const Value& value) {
  RETURN_IF_ERROR(meter.operations(4));
  if (value.is<None>()) return Json(nullptr);
  if (const auto* flag = value.get<bool>()) return Json(*flag);
  if (const auto* integer = value.get<int64_t>()) return Json(*integer);
  if (const auto* large = value.get<uint64_t>()) return Json(*large);
  if (const auto* number = value.get<double>()) return Json(*number);
  if (const auto* text = value.get<TextPtr>()) {
    RETURN_IF_ERROR(meter.bytes(2 * (*text)->size()));
    return Json((*text)->bytes());
  }
  if (const auto* list = value.get<ListPtr>()) {
    Json array = Json::array();
    for (const Value& item : (*list)->items) {
      ASSIGN_OR_RETURN(Json child, json_from_value(meter, item));
      array.push_back(std::move(child));
    }
    return array;
  }
  if (const auto* dict = value.get<DictPtr>()) {
    Json object = Json::object();
    auto& entries = object.get_ref<Json::object_t&>();
    for (const auto& [key, entry] : (*dict)->entries()) {
      RETURN_IF_ERROR(meter.bytes(2 * key->size()));
      ASSIGN_OR_RETURN(Json child, json_from_value(meter, entry));
      entries.emplace_back(key->bytes(), std::move(child));
    }
    return object;
  }
  return meter.fail("template.type", "tojson: expected a value that JSON can hold, found {}",
                    type_name(value));
}

}  // namespace ruvltra::jinja

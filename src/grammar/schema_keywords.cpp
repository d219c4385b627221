#include "grammar/schema_keywords.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "base/fail.h"
#include "base/utf8.h"

namespace ruvltra {
namespace {

enum class Kind {
  kSchema,
  kSchemas,
  kSchemaMap,
  kCount,
  kNumber,
  kFlag,
  kText,
  kNames,
  kTypes,
  kValues,
  kValue
};

struct Keyword {
  std::string_view name;
  Kind kind;
  uint32_t about = 0;  // types
};

constexpr std::array kKnown = {
    Keyword{"type", Kind::kTypes},
    Keyword{"enum", Kind::kValues},
    Keyword{"const", Kind::kValue},
    Keyword{"properties", Kind::kSchemaMap, kTypeObject},
    Keyword{"required", Kind::kNames, kTypeObject},
    Keyword{"additionalProperties", Kind::kSchema, kTypeObject},
    Keyword{"items", Kind::kSchema, kTypeArray},
    Keyword{"prefixItems", Kind::kSchemas, kTypeArray},
    Keyword{"minItems", Kind::kCount, kTypeArray},
    Keyword{"maxItems", Kind::kCount, kTypeArray},
    Keyword{"minLength", Kind::kCount, kTypeString},
    Keyword{"maxLength", Kind::kCount, kTypeString},
    Keyword{"minimum", Kind::kNumber, kTypeNumber},
    Keyword{"maximum", Kind::kNumber, kTypeNumber},
    Keyword{"anyOf", Kind::kSchemas},
    Keyword{"oneOf", Kind::kSchemas},
    Keyword{"allOf", Kind::kSchemas},
    Keyword{"$ref", Kind::kText},
    Keyword{"$defs", Kind::kSchemaMap},
    Keyword{"definitions", Kind::kSchemaMap},
    Keyword{"nullable", Kind::kFlag},
};

// All others that restrict values, of drafts 4 to 2020-12.
constexpr std::array<std::string_view, 27> kUnsupported = {"pattern",
                                                           "format",
                                                           "exclusiveMinimum",
                                                           "exclusiveMaximum",
                                                           "multipleOf",
                                                           "uniqueItems",
                                                           "contains",
                                                           "minContains",
                                                           "maxContains",
                                                           "minProperties",
                                                           "maxProperties",
                                                           "propertyNames",
                                                           "patternProperties",
                                                           "dependentRequired",
                                                           "dependentSchemas",
                                                           "dependencies",
                                                           "if",
                                                           "then",
                                                           "else",
                                                           "not",
                                                           "$dynamicRef",
                                                           "$recursiveRef",
                                                           "additionalItems",
                                                           "unevaluatedProperties",
                                                           "unevaluatedItems",
                                                           "extends",
                                                           "disallow"};

constexpr std::array<std::pair<std::string_view, uint32_t>, 7> kTypeNames = {{{"null", kTypeNull},
                                                                              {"boolean", kTypeBoolean},
                                                                              {"object", kTypeObject},
                                                                              {"array", kTypeArray},
                                                                              {"string", kTypeString},
                                                                              {"integer", kTypeInteger},
                                                                              {"number", kTypeNumber}}};

uint32_t type_named(const Json& name) {
  if (!name.is_string()) return 0;
  for (const auto& [known, types] : kTypeNames)
    if (name.get_ref<const std::string&>() == known) return types;
  return 0;
}

bool is_schema(const Json& value) { return value.is_object() || value.is_boolean(); }

bool is_count(const Json& value) {
  if (value.is_number_unsigned()) return true;
  if (value.is_number_integer()) return value.get<int64_t>() >= 0;
  return value.is_number_float() && value.get<double>() >= 0 &&
         std::floor(value.get<double>()) == value.get<double>();
}

template <class Test>
bool is_list(const Json& value, bool may_be_empty, Test&& test) {
  return value.is_array() && (may_be_empty || !value.empty()) &&
         std::all_of(value.begin(), value.end(), test);
}

// What is wrong with the keyword's value: what was expected, or nothing.
const char* complaint(const Keyword& keyword, const Json& value) {
  switch (keyword.kind) {
    case Kind::kSchema:
      return is_schema(value) ? nullptr : "a schema";
    case Kind::kSchemas:
      return is_list(value, keyword.name == "prefixItems", is_schema) ? nullptr : "a list of schemas";
    case Kind::kSchemaMap:
      return value.is_object() && std::all_of(value.begin(), value.end(), is_schema) ? nullptr
                                                                                     : "an object of schemas";
    case Kind::kCount:
      return is_count(value) ? nullptr : "an integer of 0 or more";
    case Kind::kNumber:
      return value.is_number() ? nullptr : "a number";
    case Kind::kFlag:
      return value.is_boolean() ? nullptr : "true or false";
    case Kind::kText:
      return value.is_string() ? nullptr : "a string";
    case Kind::kNames:
      return is_list(value, true, [](const Json& name) { return name.is_string(); }) ? nullptr
                                                                                     : "a list of strings";
    case Kind::kTypes:
      return type_named(value) != 0 ||
                     is_list(value, false, [](const Json& name) { return type_named(name) != 0; })
                 ? nullptr
                 : "null, boolean, object, array, string, integer, number, or a list of these";
    case Kind::kValues:
      return value.is_array() && !value.empty() ? nullptr : "a list of values";
    case Kind::kValue:
      break;
  }
  return nullptr;
}

// Counts beyond what any answer holds are as good as unlimited.
uint32_t count_of(const Json& value) {
  const double count = value.get<double>();
  return count >= static_cast<double>(kUnlimited) ? kUnlimited : static_cast<uint32_t>(count);
}

uint32_t types_of_schema(const Json& type) {
  if (type.is_string()) return type_named(type);
  uint32_t types = 0;
  for (const Json& name : type) types |= type_named(name);
  return types;
}

size_t n_characters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(),
                                           [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

}  // namespace

const Json* find_keyword(const Json& schema, const char* keyword) {
  if (!schema.is_object()) return nullptr;
  const auto found = schema.find(keyword);
  return found == schema.end() ? nullptr : &*found;
}

Result<void> check_schema(const Json& schema) {
  if (!schema.is_object()) return {};
  for (const auto& [name, value] : schema.items()) {
    if (std::find(kUnsupported.begin(), kUnsupported.end(), name) != kUnsupported.end()) {
      return fail("schema.unsupported_keyword",
                  "{}: expected a keyword that is supported, found one that is not", name);
    }
    const auto known = std::find_if(kKnown.begin(), kKnown.end(), [&wanted = name](const Keyword& keyword) {
      return keyword.name == wanted;
    });
    if (known == kKnown.end()) continue;
    if (const char* expected = complaint(*known, value)) {
      return fail("schema.invalid", "{}: expected {}, found {}", name, expected,
                  ruvltra::quoted(to_json(value)));
    }
  }
  return {};
}

bool says_more_than_reference(const Json& schema) {
  for (const auto& [name, value] : schema.items()) {
    if (name == "$ref" || name == "$defs" || name == "definitions") continue;
    if (std::find(kUnsupported.begin(), kUnsupported.end(), name) != kUnsupported.end()) return true;
    for (const Keyword& keyword : kKnown)
      if (keyword.name == name) return true;
  }
  return false;
}

SchemaTypes types_of_value(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return kTypeNull;
    case Json::value_t::boolean:
      return kTypeBoolean;
    case Json::value_t::object:
      return kTypeObject;
    case Json::value_t::array:
      return kTypeArray;
    case Json::value_t::string:
      return kTypeString;
    case Json::value_t::number_float:
      return std::floor(value.get<double>()) == value.get<double>() ? kTypeInteger : kTypeFraction;
    default:
      return kTypeInteger;
  }
}

void ValueFacts::add(const Json& schema) {
  for (const auto& [name, value] : schema.items()) {
    const auto known = std::find_if(kKnown.begin(), kKnown.end(), [&wanted = name](const Keyword& keyword) {
      return keyword.name == wanted;
    });
    if (known == kKnown.end()) continue;
    mentioned |= known->about;
    if (name == "minLength") string.least = std::max(string.least, count_of(value));
    if (name == "maxLength") string.most = std::min(string.most, count_of(value));
    if (name == "minItems") least_items = std::max(least_items, count_of(value));
    if (name == "maxItems") most_items = std::min(most_items, count_of(value));
    if (name == "minimum") least = std::max(least, value.get<double>());
    if (name == "maximum") most = std::min(most, value.get<double>());
    if (name == "type") {
      const Json* nullable = find_keyword(schema, "nullable");
      types &= types_of_schema(value) | (nullable != nullptr && nullable->get<bool>() ? kTypeNull : 0u);
      mentioned |= kTypeAny;
    }
    if (name != "enum" && name != "const") continue;
    std::vector<const Json*> listed;
    if (name == "const") listed.push_back(&value);
    if (name == "enum")
      for (const Json& item : value) listed.push_back(&item);
    if (values) {
      std::erase_if(listed, [&](const Json* item) {
        return std::none_of(values->begin(), values->end(),
                            [&](const Json* other) { return *other == *item; });
      });
    }
    values = std::move(listed);
  }
}

bool ValueFacts::allows(const Json& value) const {
  if ((types_of_value(value) & types) == 0) return false;
  if (value.is_string()) {
    const size_t n = n_characters(value.get_ref<const std::string&>());
    return n >= string.least && n <= string.most;
  }
  return !value.is_number() || (value.get<double>() >= least && value.get<double>() <= most);
}

}  // namespace ruvltra

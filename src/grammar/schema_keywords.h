// What the keywords of one JSON schema say, checked and in numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "grammar/grammar.h"
#include "ruvltra/error.h"

namespace ruvltra {

// Sets of types.
enum SchemaTypes : uint32_t {
  kTypeNull = 1,
  kTypeBoolean = 2,
  kTypeObject = 4,
  kTypeArray = 8,
  kTypeString = 16,
  kTypeInteger = 32,
  kTypeFraction = 64,  // numbers that are no integers
  kTypeNumber = kTypeInteger | kTypeFraction,
  kTypeAny = 127,
};

// A schema is a JSON value of a document that stays where it is. *Requires* of all functions but
// check_schema(): it passed that check.

// Whether every keyword is known, or restricts nothing, and has a value of its kind. The message begins with
// the keyword; schemas inside are not looked at. Errors: schema.unsupported_keyword, schema.invalid.
Result<void> check_schema(const Json& schema);

// Whether a keyword beside $ref restricts values, or is not supported.
bool says_more_than_reference(const Json& schema);
const Json* find_keyword(const Json& schema, const char* keyword);
SchemaTypes types_of_value(const Json& value);

// What several schemas together say about everything but members and items.
struct ValueFacts {
  uint32_t types = kTypeAny;
  uint32_t mentioned = 0;  // types that some keyword is about
  std::optional<std::vector<const Json*>> values;
  StringRule string;
  double least = -1e300, most = 1e300;  // of numbers
  uint32_t least_items = 0, most_items = kUnlimited;

  void add(const Json& schema);
  // Whether a value of an enumeration fits the rest. Objects and arrays are judged by type alone.
  bool allows(const Json& value) const;
};

}  // namespace ruvltra

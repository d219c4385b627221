// Filters, tests, methods and functions of the template language.
#pragma once

#include <span>
#include <string_view>

#include "text/jinja_value.h"

namespace ruvltra::jinja {

// Arguments in the order of `parameters`; one that was not given is undefined. For filters, tests and methods
// the value they act on comes first and is not named.
using BuiltinFunction = Result<Value> (*)(Meter& meter, std::span<const Value> arguments);

struct Builtin {
  std::string_view name;
  BuiltinFunction call;
  std::string_view parameters;  // separated by spaces
  int n_required;               // of `parameters`
};

// nullptr if there is none of that name.
const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
const Builtin* find_method(std::string_view name);
const Builtin* find_function(std::string_view name);

}  // namespace ruvltra::jinja

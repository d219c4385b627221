// The tree of a parsed template.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

namespace ruvltra::jinja {

struct Builtin;

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kConcat,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
  kAnd,
  kOr,
};

struct Expression {
  enum class Kind : uint8_t {
    kConstant,     // value
    kName,         // symbol
    kList,         // children
    kDict,         // children: key, value, key, value, ...
    kAttribute,    // child . name
    kItem,         // child [ child ]
    kSlice,        // child [ child : child : child ], a missing part is the constant none
    kNamespace,    // namespace(keyword=child, ...)
    kBuiltin,      // builtin(children): filter (the first child is the value), test, method, function
    kNot,          // child
    kNegate,       // child
    kPlus,         // child
    kArithmetic,   // child op child op child ..., left to right, one precedence
    kCompare,      // child op child op child ..., as in Python a < b < c
    kLogical,      // child and child ..., or child or child ...
    kConditional,  // child if child else child
  };

  Expression() = default;
  Expression(Kind kind_of, int at_line) : kind(kind_of), line(at_line) {}

  Kind kind = Kind::kConstant;
  int line = 0;
  int height = 1;  // 1 + that of the highest child
  Value value;
  int symbol = -1;
  std::string name;
  const Builtin* builtin = nullptr;
  std::vector<std::string> keywords;
  std::vector<Operator> operators;
  std::vector<Expression> children;
};

struct Statement {
  enum class Kind : uint8_t {
    kText,          // text
    kOutput,        // expressions[0]
    kIf,            // expressions: one condition per body; one more body is the else
    kFor,           // for symbols in expressions[0] if expressions[1]: bodies[0], else bodies[1]
    kSet,           // symbols[0] = expressions[0]
    kSetAttribute,  // symbols[0].text = expressions[0]
    kSetBlock,      // symbols[0] = the output of bodies[0]
    kBreak,
    kContinue,
  };

  Statement(Kind kind_of, int at_line) : kind(kind_of), line(at_line) {}

  Kind kind;
  int line;
  std::string text;
  std::vector<int> symbols;
  std::vector<Expression> expressions;
  std::vector<std::vector<Statement>> bodies;
};

struct Template {
  std::vector<Statement> body;
  std::vector<std::string> symbols;  // names by number
};

}  // namespace ruvltra::jinja

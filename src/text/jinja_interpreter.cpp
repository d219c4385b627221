#include "text/jinja_interpreter.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "text/jinja_builtins.h"

namespace ruvltra::jinja {
namespace {

// The variables of all open scopes: per name a stack of values, innermost last.
class Variables {
 public:
  explicit Variables(size_t n_symbols) : stacks_(n_symbols), set_in_(1) {}

  const Value* find(int symbol) const {
    const auto& stack = stacks_[static_cast<size_t>(symbol)];
    return stack.empty() ? nullptr : &stack.back().value;
  }

  void set(int symbol, Value value) {
    auto& stack = stacks_[static_cast<size_t>(symbol)];
    const size_t scope = set_in_.size();
    if (!stack.empty() && stack.back().scope == scope) {
      stack.back().value = std::move(value);
      return;
    }
    stack.push_back({scope, std::move(value)});
    set_in_.back().push_back(symbol);
  }

  void enter() { set_in_.emplace_back(); }
  void leave() {
    for (const int symbol : set_in_.back()) stacks_[static_cast<size_t>(symbol)].pop_back();
    set_in_.pop_back();
  }

 private:
  struct Entry {
    size_t scope;
    Value value;
  };
  std::vector<std::vector<Entry>> stacks_;
  std::vector<std::vector<int>> set_in_;  // per open scope, the symbols it set
};

// Recursion follows the tree, whose height the parser bounds.
class Interpreter {
 public:
  Interpreter(const Template& program, Meter& meter)
      : program_(program), meter_(meter), variables_(program.symbols.size()) {}

  Result<Text> run(std::vector<std::pair<std::string, Value>> globals) {
    for (auto& [name, value] : globals) {
      const auto symbol = std::find(program_.symbols.begin(), program_.symbols.end(), name);
      if (symbol != program_.symbols.end()) {
        variables_.set(static_cast<int>(symbol - program_.symbols.begin()), std::move(value));
      }
    }
    variables_.enter();
    RETURN_IF_ERROR(run_body(program_.body));
    return std::move(output_);
  }

 private:
  using Kind = Expression::Kind;
  enum class Flow { kNext, kBreak, kContinue };

  // --- statements ---

  Result<Flow> run_body(const std::vector<Statement>& body) {
    for (const Statement& statement : body) {
      meter_.at_line(statement.line);
      RETURN_IF_ERROR(meter_.operations(1));
      ASSIGN_OR_RETURN(const Flow flow, run_statement(statement));
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Result<Flow> run_statement(const Statement& statement) {
    switch (statement.kind) {
      case Statement::Kind::kText:
        RETURN_IF_ERROR(print(Text(statement.text, Origin::kTemplate)));
        break;
      case Statement::Kind::kOutput: {
        ASSIGN_OR_RETURN(const Value value, evaluate(statement.expressions[0]));
        if (const auto* text = value.get<TextPtr>()) {
          RETURN_IF_ERROR(print(**text));
        } else {
          ASSIGN_OR_RETURN(const Text text_of_value, to_text(meter_, value));
          RETURN_IF_ERROR(print(text_of_value));
        }
        break;
      }
      case Statement::Kind::kIf:
        return run_if(statement);
      case Statement::Kind::kFor:
        return run_for(statement);
      case Statement::Kind::kSet: {
        ASSIGN_OR_RETURN(Value value, evaluate(statement.expressions[0]));
        variables_.set(statement.symbols[0], std::move(value));
        break;
      }
      case Statement::Kind::kSetAttribute:
        RETURN_IF_ERROR(set_attribute(statement));
        break;
      case Statement::Kind::kSetBlock:
        return run_set_block(statement);
      case Statement::Kind::kBreak:
        return Flow::kBreak;
      case Statement::Kind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNext;
  }

  Result<void> print(const Text& text) {
    if (text.size() > Meter::kMaxOutputBytes - output_.size()) {
      return meter_.fail("template.output", "expected at most {} bytes of output, needs more",
                         Meter::kMaxOutputBytes);
    }
    output_.append(text);
    return {};
  }

  Result<Flow> run_if(const Statement& statement) {
    for (size_t i = 0; i < statement.bodies.size(); ++i) {
      if (i < statement.expressions.size()) {
        ASSIGN_OR_RETURN(const Value condition, evaluate(statement.expressions[i]));
        if (!is_true(condition)) continue;
      }
      return run_body(statement.bodies[i]);
    }
    return Flow::kNext;
  }

  Result<void> bind_targets(const Statement& statement, const Value& item) {
    if (statement.symbols.size() == 1) {
      variables_.set(statement.symbols[0], item);
      return {};
    }
    ASSIGN_OR_RETURN(const ListPtr parts, iterate(meter_, item));
    if (parts->items.size() != statement.symbols.size()) {
      return meter_.fail("template.type", "for: expected {} values to unpack, found {}",
                         statement.symbols.size(), parts->items.size());
    }
    for (size_t i = 0; i < parts->items.size(); ++i) variables_.set(statement.symbols[i], parts->items[i]);
    return {};
  }

  Result<ListPtr> loop_items(const Statement& statement) {
    ASSIGN_OR_RETURN(const Value iterable, evaluate(statement.expressions[0]));
    ASSIGN_OR_RETURN(ListPtr items, iterate(meter_, iterable));
    if (statement.expressions.size() == 1) return items;
    auto kept = std::make_shared<List>(List{{}, 1});
    for (const Value& item : items->items) {
      variables_.enter();
      RETURN_IF_ERROR(bind_targets(statement, item));
      ASSIGN_OR_RETURN(const Value condition, evaluate(statement.expressions[1]));
      variables_.leave();
      if (is_true(condition)) kept->items.push_back(item);
    }
    return kept;
  }

  Result<Flow> run_for(const Statement& statement) {
    ASSIGN_OR_RETURN(const ListPtr items, loop_items(statement));
    if (items->items.empty() && statement.bodies.size() > 1) return run_body(statement.bodies[1]);
    const auto loop = std::make_shared<Loop>(Loop{items});
    const auto loop_symbol = std::find(program_.symbols.begin(), program_.symbols.end(), "loop");
    for (; loop->index < items->items.size(); ++loop->index) {
      meter_.at_line(statement.line);
      RETURN_IF_ERROR(meter_.operations(1));
      variables_.enter();
      if (loop_symbol != program_.symbols.end()) {
        variables_.set(static_cast<int>(loop_symbol - program_.symbols.begin()), loop);
      }
      RETURN_IF_ERROR(bind_targets(statement, items->items[loop->index]));
      ASSIGN_OR_RETURN(const Flow flow, run_body(statement.bodies[0]));
      variables_.leave();
      if (flow == Flow::kBreak) break;
    }
    return Flow::kNext;
  }

  Result<void> set_attribute(const Statement& statement) {
    ASSIGN_OR_RETURN(Value value, evaluate(statement.expressions[0]));
    const Value* target = variables_.find(statement.symbols[0]);
    const auto* space = target != nullptr ? target->get<NamespacePtr>() : nullptr;
    if (space == nullptr) {
      return meter_.fail("template.type", "set {}.{}: expected a namespace, found {}",
                         name_of(statement.symbols[0]), statement.text,
                         target != nullptr ? type_name(*target) : "undefined");
    }
    return store(**space, statement.text, std::move(value));
  }

  Result<void> store(Namespace& space, const std::string& name, Value value) {
    ASSIGN_OR_RETURN(const Value storable, make_list(meter_, {value}));  // refuses what could form a cycle
    for (auto& [key, entry] : space.entries) {
      if (key == name) {
        entry = std::move(value);
        return {};
      }
    }
    space.entries.emplace_back(name, std::move(value));
    return {};
  }

  Result<Flow> run_set_block(const Statement& statement) {
    Text outer = std::exchange(output_, Text());
    variables_.enter();
    ASSIGN_OR_RETURN(const Flow flow, run_body(statement.bodies[0]));
    variables_.leave();
    RETURN_IF_ERROR(meter_.bytes(output_.size()));
    variables_.set(statement.symbols[0], make_text(std::exchange(output_, std::move(outer))));
    return flow;
  }

  const std::string& name_of(int symbol) const { return program_.symbols[static_cast<size_t>(symbol)]; }

  // --- expressions ---

  Result<Value> evaluate(const Expression& expression) {
    if (expression.kind == Kind::kConstant) return expression.value;
    if (expression.kind == Kind::kName) {
      const Value* value = variables_.find(expression.symbol);
      return value != nullptr ? *value : Value(Undefined{});
    }
    meter_.at_line(expression.line);
    RETURN_IF_ERROR(meter_.operations(1));
    switch (expression.kind) {
      case Kind::kLogical:
        return evaluate_logical(expression);
      case Kind::kCompare:
        return evaluate_compare(expression);
      case Kind::kArithmetic:
        return evaluate_arithmetic(expression);
      case Kind::kConditional: {
        ASSIGN_OR_RETURN(const Value condition, evaluate(expression.children[1]));
        return evaluate(expression.children[is_true(condition) ? 0 : 2]);
      }
      default:
        break;
    }
    std::vector<Value> operands;
    operands.reserve(expression.children.size());
    for (const Expression& child : expression.children) {
      ASSIGN_OR_RETURN(operands.emplace_back(), evaluate(child));
    }
    meter_.at_line(expression.line);
    return apply(expression, operands);
  }

  Result<Value> apply(const Expression& expression, std::vector<Value>& operands) {
    switch (expression.kind) {
      case Kind::kAttribute:
        return attribute_of(meter_, operands[0], expression.name);
      case Kind::kItem:
        return item_of(meter_, operands[0], operands[1]);
      case Kind::kSlice:
        return slice_of(meter_, operands[0], operands[1], operands[2], operands[3]);
      case Kind::kBuiltin:
        return expression.builtin->call(meter_, operands);
      case Kind::kNot:
        return !is_true(operands[0]);
      case Kind::kNegate:
        if (const auto* number = operands[0].get<double>()) return -*number;  // 0 - 0.0 would lose the sign
        return arithmetic(Operator::kSubtract, int64_t{0}, operands[0]);
      case Kind::kPlus:
        return arithmetic(Operator::kAdd, int64_t{0}, operands[0]);
      case Kind::kList:
        RETURN_IF_ERROR(meter_.operations(operands.size()));
        return make_list(meter_, std::move(operands));
      case Kind::kDict:
        return build_dict(operands);
      case Kind::kNamespace: {
        auto space = std::make_shared<Namespace>();
        for (size_t i = 0; i < operands.size(); ++i) {
          RETURN_IF_ERROR(store(*space, expression.keywords[i], std::move(operands[i])));
        }
        return space;
      }
      default:
        CHECK(false);
    }
    return Undefined{};
  }

  Result<Value> build_dict(std::vector<Value>& operands) {
    RETURN_IF_ERROR(meter_.operations(operands.size()));
    std::vector<Dict::Entry> entries;
    for (size_t i = 0; i + 1 < operands.size(); i += 2) {
      const auto* key = operands[i].get<TextPtr>();
      if (key == nullptr) {
        return meter_.fail("template.type", "mapping: expected a string as key, found {}",
                           type_name(operands[i]));
      }
      entries.emplace_back(*key, std::move(operands[i + 1]));
    }
    return make_dict(meter_, std::move(entries));
  }

  Result<Value> evaluate_logical(const Expression& expression) {
    Value value;
    for (size_t i = 0; i < expression.children.size(); ++i) {
      ASSIGN_OR_RETURN(value, evaluate(expression.children[i]));
      if (is_true(value) == (expression.operators[0] == Operator::kOr)) break;
    }
    return value;
  }

  Result<Value> evaluate_compare(const Expression& expression) {
    ASSIGN_OR_RETURN(Value left, evaluate(expression.children[0]));
    for (size_t i = 0; i < expression.operators.size(); ++i) {
      ASSIGN_OR_RETURN(Value right, evaluate(expression.children[i + 1]));
      meter_.at_line(expression.line);
      ASSIGN_OR_RETURN(const bool holds, compare(expression.operators[i], left, right));
      if (!holds) return false;
      left = std::move(right);
    }
    return true;
  }

  Result<bool> compare(Operator op, const Value& a, const Value& b) {
    const auto negated = [](Result<bool> result) {
      if (result) *result = !*result;
      return result;
    };
    switch (op) {
      case Operator::kEqual:
        return equals(meter_, a, b);
      case Operator::kNotEqual:
        return negated(equals(meter_, a, b));
      case Operator::kLess:
        return is_less(meter_, a, b);
      case Operator::kGreaterEqual:
        return negated(is_less(meter_, a, b));
      case Operator::kGreater:
        return is_less(meter_, b, a);
      case Operator::kLessEqual:
        return negated(is_less(meter_, b, a));
      case Operator::kIn:
        return contains(meter_, b, a);
      case Operator::kNotIn:
        return negated(contains(meter_, b, a));
      default:
        CHECK(false);
    }
    return false;
  }

  Result<Value> evaluate_arithmetic(const Expression& expression) {
    ASSIGN_OR_RETURN(Value left, evaluate(expression.children[0]));
    for (size_t i = 0; i < expression.operators.size(); ++i) {
      ASSIGN_OR_RETURN(const Value right, evaluate(expression.children[i + 1]));
      meter_.at_line(expression.line);
      RETURN_IF_ERROR(meter_.operations(1));
      ASSIGN_OR_RETURN(left, arithmetic(expression.operators[i], left, right));
    }
    return left;
  }

  Result<Value> arithmetic(Operator op, const Value& a, const Value& b) {
    const auto* text_a = a.get<TextPtr>();
    const auto* text_b = b.get<TextPtr>();
    if (op == Operator::kConcat || (op == Operator::kAdd && text_a != nullptr && text_b != nullptr)) {
      return concatenate(a, b);
    }
    const auto* list_a = a.get<ListPtr>();
    const auto* list_b = b.get<ListPtr>();
    if (op == Operator::kAdd && list_a != nullptr && list_b != nullptr) {
      RETURN_IF_ERROR(meter_.operations((*list_a)->items.size() + (*list_b)->items.size()));
      std::vector<Value> items = (*list_a)->items;
      items.insert(items.end(), (*list_b)->items.begin(), (*list_b)->items.end());
      return make_list(meter_, std::move(items));
    }
    if (op == Operator::kMultiply && text_a != nullptr && as_integer(b))
      return repeat(**text_a, *as_integer(b));
    if (op == Operator::kMultiply && text_b != nullptr && as_integer(a))
      return repeat(**text_b, *as_integer(a));
    const auto integer_a = as_integer(a), integer_b = as_integer(b);
    if (integer_a && integer_b && op != Operator::kDivide)
      return integer_arithmetic(op, *integer_a, *integer_b);
    const auto number_a = as_number(a), number_b = as_number(b);
    if (number_a && number_b) return float_arithmetic(op, *number_a, *number_b);
    if (a.is<Undefined>() || b.is<Undefined>()) {
      return meter_.fail("template.undefined", "operator: expected defined operands, found {} and {}",
                         type_name(a), type_name(b));
    }
    return meter_.fail("template.type",
                       "operator: expected numbers, two strings or two lists, found {} and {}", type_name(a),
                       type_name(b));
  }

  Result<Value> concatenate(const Value& a, const Value& b) {
    Text out;
    for (const Value* part : {&a, &b}) {
      if (const auto* text = part->get<TextPtr>()) {
        RETURN_IF_ERROR(meter_.bytes((*text)->size()));
        out.append(**text);
      } else {
        ASSIGN_OR_RETURN(const Text text_of_part, to_text(meter_, *part));
        out.append(text_of_part);
      }
    }
    return make_text(std::move(out));
  }

  Result<Value> repeat(const Text& text, int64_t times) {
    Text out;
    for (int64_t i = 0; i < times && text.size() > 0; ++i) {
      RETURN_IF_ERROR(meter_.bytes(text.size() + 16));
      out.append(text);
    }
    return make_text(std::move(out));
  }

  Result<Value> integer_arithmetic(Operator op, int64_t a, int64_t b) {
    int64_t result = 0;
    bool overflow = false;
    switch (op) {
      case Operator::kAdd:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
      case Operator::kSubtract:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
      case Operator::kMultiply:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
      default:
        if (b == 0) return meter_.fail("template.value", "division: expected a divisor, found 0");
        if (b == -1) {
          overflow = op == Operator::kFloorDivide && __builtin_sub_overflow(int64_t{0}, a, &result);
          break;
        }
        // Python rounds the quotient down; the remainder takes the sign of the divisor.
        result = op == Operator::kFloorDivide ? a / b : a % b;
        if (a % b != 0 && (a < 0) != (b < 0)) result += op == Operator::kFloorDivide ? -1 : b;
    }
    if (overflow)
      return meter_.fail("template.value", "operator: expected a result of 64 bits, found a larger one");
    return result;
  }

  Result<Value> float_arithmetic(Operator op, double a, double b) {
    double result = 0;
    if (b == 0 && op != Operator::kAdd && op != Operator::kSubtract && op != Operator::kMultiply) {
      return meter_.fail("template.value", "division: expected a divisor, found 0");
    }
    switch (op) {
      case Operator::kAdd:
        result = a + b;
        break;
      case Operator::kSubtract:
        result = a - b;
        break;
      case Operator::kMultiply:
        result = a * b;
        break;
      case Operator::kDivide:
        result = a / b;
        break;
      case Operator::kFloorDivide:
        result = std::floor(a / b);
        break;
      default:
        result = std::fmod(a, b);
        if (result != 0 && (result < 0) != (b < 0)) result += b;
    }
    if (!std::isfinite(result)) return meter_.fail("template.value", "operator: expected a finite result");
    return result;
  }

  const Template& program_;
  Meter& meter_;
  Variables variables_;
  Text output_;
};

}  // namespace

Result<Text> render(const Template& program, std::vector<std::pair<std::string, Value>> globals,
                    Meter& meter) {
  return Interpreter(program, meter).run(std::move(globals));
}

}  // namespace ruvltra::jinja

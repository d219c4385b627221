#include "text/jinja_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>

#include "base/fail.h"
#include "text/jinja_builtins.h"
#include "text/jinja_lexer.h"

namespace ruvltra::jinja {
namespace {

// How tightly operators bind, as in Jinja: ~ above + and -.
enum Level : int {
  kOrLevel = 1,
  kAndLevel,
  kNotLevel,
  kCompareLevel,
  kSumLevel,
  kConcatLevel,
  kProductLevel
};

struct OperatorRow {
  std::string_view word;
  Operator op;
  int level;
};
constexpr OperatorRow kOperators[] = {
    {"or", Operator::kOr, kOrLevel},          {"and", Operator::kAnd, kAndLevel},
    {"==", Operator::kEqual, kCompareLevel},  {"!=", Operator::kNotEqual, kCompareLevel},
    {"<", Operator::kLess, kCompareLevel},    {"<=", Operator::kLessEqual, kCompareLevel},
    {">", Operator::kGreater, kCompareLevel}, {">=", Operator::kGreaterEqual, kCompareLevel},
    {"in", Operator::kIn, kCompareLevel},     {"not in", Operator::kNotIn, kCompareLevel},
    {"+", Operator::kAdd, kSumLevel},         {"-", Operator::kSubtract, kSumLevel},
    {"~", Operator::kConcat, kConcatLevel},   {"*", Operator::kMultiply, kProductLevel},
    {"/", Operator::kDivide, kProductLevel},  {"//", Operator::kFloorDivide, kProductLevel},
    {"%", Operator::kModulo, kProductLevel},
};

constexpr std::string_view kReserved[] = {"and", "or", "not", "in", "is", "if", "else", "elif", "for"};

std::string_view describe(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kText:
      return "text";
    case Token::Kind::kOutputBegin:
      return "{{";
    case Token::Kind::kOutputEnd:
      return "}}";
    case Token::Kind::kBlockBegin:
      return "{%";
    case Token::Kind::kBlockEnd:
      return "%}";
    case Token::Kind::kEnd:
      return "the end of the template";
    default:
      return token.text;
  }
}

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Result<Template> run() {
    ASSIGN_OR_RETURN(auto body, parse_body({}));
    return Template{std::move(body), std::move(symbols_)};
  }

 private:
  using Kind = Expression::Kind;
  using Body = std::vector<Statement>;

  struct Arguments {
    std::vector<Expression> positional;
    std::vector<std::pair<std::string, Expression>> named;
  };

  class Nesting {
   public:
    explicit Nesting(int& depth) : depth_(depth) { ++depth_; }
    ~Nesting() { --depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    int& depth_;
  };

  // --- tokens ---

  const Token& current() const { return tokens_[position_]; }
  const Token& next() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  Token take() { return tokens_[position_ + 1 < tokens_.size() ? position_++ : position_]; }
  static bool is_name(const Token& token, std::string_view word) {
    return token.kind == Token::Kind::kName && token.text == word;
  }
  bool at_name(std::string_view word) const { return is_name(current(), word); }
  bool at_operator(std::string_view word) const {
    return current().kind == Token::Kind::kOperator && current().text == word;
  }
  bool skip_name(std::string_view word) { return at_name(word) && (take(), true); }
  bool skip_operator(std::string_view word) { return at_operator(word) && (take(), true); }

  template <class... Args>
  tl::unexpected<Error> error(std::string_view id, fmt::format_string<Args...> format, Args&&... args) const {
    return fail(id, "chat template: line {}: {}", current().line,
                fmt::format(format, std::forward<Args>(args)...));
  }
  tl::unexpected<Error> expected(std::string_view what) const {
    return error("template.syntax", "expected {}, found {}", what, ruvltra::quoted(describe(current())));
  }
  tl::unexpected<Error> unsupported(std::string_view what, std::string_view name) const {
    return error("template.unsupported", "{} {}", what, ruvltra::quoted(name));
  }
  Result<void> check_nesting() const {
    if (depth_ > kMaxNesting)
      return error("template.depth", "expected at most {} nested levels, found more", kMaxNesting);
    return {};
  }
  Result<void> expect_operator(std::string_view word) {
    if (!skip_operator(word)) return expected(word);
    return {};
  }
  Result<void> expect(Token::Kind kind, std::string_view word) {
    if (current().kind != kind) return expected(word);
    take();
    return {};
  }
  Result<std::string> expect_name(std::string_view what) {
    if (current().kind != Token::Kind::kName) return expected(what);
    return take().text;
  }

  int symbol(const std::string& name) {
    const auto [place, added] = numbers_.try_emplace(name, static_cast<int>(symbols_.size()));
    if (added) symbols_.push_back(name);
    return place->second;
  }

  // --- statements ---

  // Reads up to a block whose name is in `ends` and stops at that name; without `ends`, to the end of the
  // template.
  Result<Body> parse_body(std::initializer_list<std::string_view> ends) {
    const Nesting nesting(depth_);
    RETURN_IF_ERROR(check_nesting());
    Body body;
    while (true) {
      const int line = current().line;
      if (current().kind == Token::Kind::kEnd) {
        if (ends.size() == 0) return body;
        return expected(*(ends.end() - 1));
      }
      if (current().kind == Token::Kind::kText) {
        body.emplace_back(Statement::Kind::kText, line).text = take().text;
      } else if (current().kind == Token::Kind::kOutputBegin) {
        take();
        Statement output(Statement::Kind::kOutput, line);
        ASSIGN_OR_RETURN(output.expressions.emplace_back(), parse_expression());
        RETURN_IF_ERROR(expect(Token::Kind::kOutputEnd, "}}"));
        body.push_back(std::move(output));
      } else {
        take();
        if (current().kind == Token::Kind::kName &&
            std::find(ends.begin(), ends.end(), current().text) != ends.end()) {
          return body;
        }
        ASSIGN_OR_RETURN(Statement statement, parse_statement());
        body.push_back(std::move(statement));
      }
    }
  }

  Result<Statement> parse_statement() {
    const int line = current().line;
    if (current().kind != Token::Kind::kName) return expected("the name of a statement");
    const std::string& name = current().text;
    if (name == "if") return parse_if();
    if (name == "for") return parse_for();
    if (name == "set") return parse_set();
    if (name == "break" || name == "continue") {
      if (n_loops_ == 0) return expected("break and continue inside a for only");
      const auto kind = take().text == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue;
      RETURN_IF_ERROR(end_block());
      return Statement(kind, line);
    }
    for (const std::string_view stray : {"else", "elif", "endif", "endfor", "endset"}) {
      if (name == stray) return expected("a statement");
    }
    return unsupported("statement", name);
  }

  Result<void> end_block() { return expect(Token::Kind::kBlockEnd, "%}"); }

  Result<Statement> parse_if() {
    Statement statement(Statement::Kind::kIf, current().line);
    std::string keyword;
    do {
      take();  // if, elif
      ASSIGN_OR_RETURN(statement.expressions.emplace_back(), parse_binary(kOrLevel));
      RETURN_IF_ERROR(end_block());
      ASSIGN_OR_RETURN(statement.bodies.emplace_back(), parse_body({"elif", "else", "endif"}));
      keyword = current().text;
    } while (keyword == "elif");
    take();
    RETURN_IF_ERROR(end_block());
    if (keyword == "else") {
      ASSIGN_OR_RETURN(statement.bodies.emplace_back(), parse_body({"endif"}));
      take();
      RETURN_IF_ERROR(end_block());
    }
    return statement;
  }

  Result<Statement> parse_for() {
    Statement statement(Statement::Kind::kFor, take().line);
    const bool bracket = skip_operator("(");
    do {
      ASSIGN_OR_RETURN(const std::string name, expect_target(true));
      statement.symbols.push_back(symbol(name));
    } while (skip_operator(","));
    if (bracket) RETURN_IF_ERROR(expect_operator(")"));
    if (!skip_name("in")) return expected("in");
    ASSIGN_OR_RETURN(statement.expressions.emplace_back(), parse_binary(kOrLevel));
    if (skip_name("if")) {
      ASSIGN_OR_RETURN(statement.expressions.emplace_back(), parse_expression());
    }
    if (at_name("recursive")) return unsupported("for ...", "recursive");
    RETURN_IF_ERROR(end_block());
    ++n_loops_;
    ASSIGN_OR_RETURN(statement.bodies.emplace_back(), parse_body({"else", "endfor"}));
    --n_loops_;
    const bool has_else = take().text == "else";
    RETURN_IF_ERROR(end_block());
    if (has_else) {
      ASSIGN_OR_RETURN(statement.bodies.emplace_back(), parse_body({"endfor"}));
      take();
      RETURN_IF_ERROR(end_block());
    }
    return statement;
  }

  // Inside a loop the name `loop` is taken.
  Result<std::string> expect_target(bool in_loop) {
    ASSIGN_OR_RETURN(std::string name, expect_name("the name of a variable"));
    for (const std::string_view word : {"true", "false", "none", "True", "False", "None"}) {
      if (name == word)
        return error("template.syntax", "expected the name of a variable, found {}", ruvltra::quoted(name));
    }
    if (in_loop && name == "loop") return error("template.syntax", "expected a variable other than loop");
    return name;
  }

  Result<Statement> parse_set() {
    Statement statement(Statement::Kind::kSet, take().line);
    ASSIGN_OR_RETURN(const std::string name, expect_target(n_loops_ > 0));
    statement.symbols.push_back(symbol(name));
    if (at_operator(",")) return unsupported("set of several variables", name);
    if (skip_operator(".")) {
      statement.kind = Statement::Kind::kSetAttribute;
      ASSIGN_OR_RETURN(statement.text, expect_name("the name of an attribute"));
    }
    if (skip_operator("=")) {
      ASSIGN_OR_RETURN(statement.expressions.emplace_back(), parse_expression());
      if (at_operator(",")) return unsupported("tuple without parentheses in set", name);
      RETURN_IF_ERROR(end_block());
      return statement;
    }
    if (statement.kind == Statement::Kind::kSetAttribute) return expected("=");
    if (at_operator("|")) return unsupported("filter in a set block of", name);
    statement.kind = Statement::Kind::kSetBlock;
    RETURN_IF_ERROR(end_block());
    ASSIGN_OR_RETURN(statement.bodies.emplace_back(), parse_body({"endset"}));
    take();
    RETURN_IF_ERROR(end_block());
    return statement;
  }

  // --- expressions ---

  // Every node passes here: a tree is never higher than the interpreter's recursion may go.
  Result<Expression> node(Expression expression) {
    for (const Expression& child : expression.children)
      expression.height = std::max(expression.height, child.height + 1);
    if (expression.height > kMaxNesting) {
      return error("template.depth", "expected an expression of at most {} levels, found more", kMaxNesting);
    }
    return expression;
  }

  Result<Expression> parse_expression() {
    ASSIGN_OR_RETURN(Expression result, parse_binary(kOrLevel));
    while (at_name("if")) {
      Expression conditional(Kind::kConditional, take().line);
      conditional.children.push_back(std::move(result));
      ASSIGN_OR_RETURN(conditional.children.emplace_back(), parse_binary(kOrLevel));
      if (skip_name("else")) {
        const Nesting nesting(depth_);
        RETURN_IF_ERROR(check_nesting());
        ASSIGN_OR_RETURN(conditional.children.emplace_back(), parse_expression());
      } else {
        conditional.children.emplace_back(Kind::kConstant, conditional.line);
      }
      ASSIGN_OR_RETURN(result, node(std::move(conditional)));
    }
    return result;
  }

  const OperatorRow* binary_operator() const {
    const bool is_operator = current().kind == Token::Kind::kOperator;
    if (!is_operator && current().kind != Token::Kind::kName) return nullptr;
    const std::string_view word =
        at_name("not") && is_name(next(), "in") ? "not in" : std::string_view(current().text);
    for (const OperatorRow& row : kOperators) {
      if (row.word == word) return &row;
    }
    return nullptr;
  }

  static Kind kind_of(int level) {
    if (level <= kAndLevel) return Kind::kLogical;
    return level == kCompareLevel ? Kind::kCompare : Kind::kArithmetic;
  }

  // Operators that bind at least as tightly as `level`. A run of one level becomes one flat node.
  Result<Expression> parse_binary(int level) {
    const Nesting nesting(depth_);
    RETURN_IF_ERROR(check_nesting());
    Expression left;
    if (level <= kNotLevel && at_name("not")) {
      Expression negation(Kind::kNot, take().line);
      ASSIGN_OR_RETURN(negation.children.emplace_back(), parse_binary(kNotLevel));
      ASSIGN_OR_RETURN(left, node(std::move(negation)));
    } else {
      ASSIGN_OR_RETURN(left, parse_unary(true));
    }
    for (const OperatorRow* row = binary_operator(); row != nullptr && row->level >= level;
         row = binary_operator()) {
      const int here = row->level;
      Expression chain(kind_of(here), current().line);
      chain.children.push_back(std::move(left));
      for (; row != nullptr && row->level == here; row = binary_operator()) {
        if (row->op == Operator::kNotIn) take();
        take();
        chain.operators.push_back(row->op);
        ASSIGN_OR_RETURN(chain.children.emplace_back(), parse_binary(here + 1));
      }
      ASSIGN_OR_RETURN(left, node(std::move(chain)));
    }
    if (at_operator("**")) return unsupported("operator", "**");
    return left;
  }

  Result<Expression> parse_unary(bool with_filter) {
    Expression result;
    if (at_operator("-") || at_operator("+")) {
      const Nesting nesting(depth_);
      RETURN_IF_ERROR(check_nesting());
      Expression sign(at_operator("-") ? Kind::kNegate : Kind::kPlus, current().line);
      take();
      ASSIGN_OR_RETURN(sign.children.emplace_back(), parse_unary(false));
      ASSIGN_OR_RETURN(result, node(std::move(sign)));
    } else {
      ASSIGN_OR_RETURN(result, parse_primary());
    }
    ASSIGN_OR_RETURN(result, parse_postfix(std::move(result)));
    while (with_filter && (at_operator("|") || at_name("is"))) {
      if (at_operator("|")) {
        ASSIGN_OR_RETURN(result, parse_filter(std::move(result)));
      } else {
        ASSIGN_OR_RETURN(result, parse_test(std::move(result)));
      }
      if (at_operator("(")) return unsupported("call of", "the result of a filter or test");
    }
    return result;
  }

  Result<Expression> parse_primary() {
    const Token& token = current();
    Expression result(Kind::kConstant, token.line);
    switch (token.kind) {
      case Token::Kind::kName:
        return parse_name();
      case Token::Kind::kString: {
        std::string text;
        while (current().kind == Token::Kind::kString) text += take().text;
        result.value = make_text(text, Origin::kTemplate);
        return result;
      }
      case Token::Kind::kInteger: {
        int64_t number = 0;
        const auto parsed = std::from_chars(token.text.data(), token.text.data() + token.text.size(), number);
        if (parsed.ec != std::errc()) return expected("an integer of 64 bits");
        result.value = number;
        take();
        return result;
      }
      case Token::Kind::kFloat: {
        double number = 0;
        const auto parsed = std::from_chars(token.text.data(), token.text.data() + token.text.size(), number);
        if (parsed.ec != std::errc()) return expected("a finite number");
        result.value = number;
        take();
        return result;
      }
      default:
        break;
    }
    if (at_operator("(")) return parse_parentheses();
    if (at_operator("[")) return parse_list();
    if (at_operator("{")) return parse_dict();
    return expected("an expression");
  }

  Result<Expression> parse_name() {
    const Token token = current();
    Expression result(Kind::kConstant, token.line);
    if (token.text == "true" || token.text == "True" || token.text == "false" || token.text == "False") {
      result.value = token.text == "true" || token.text == "True";
    } else if (token.text == "none" || token.text == "None") {
      result.value = None{};
    } else if (std::find(std::begin(kReserved), std::end(kReserved), token.text) != std::end(kReserved)) {
      return expected("an expression");
    } else if (next().kind == Token::Kind::kOperator && next().text == "(") {
      return parse_function_call();
    } else {
      result.kind = Kind::kName;
      result.symbol = symbol(token.text);
    }
    take();
    return result;
  }

  // (x) is x; (x,), (x, y) and () are tuples, which this subset treats as lists.
  Result<Expression> parse_parentheses() {
    Expression list(Kind::kList, take().line);
    bool is_tuple = at_operator(")");
    while (!at_operator(")")) {
      ASSIGN_OR_RETURN(list.children.emplace_back(), parse_expression());
      if (!at_operator(",")) break;
      take();
      is_tuple = true;
    }
    RETURN_IF_ERROR(expect_operator(")"));
    if (!is_tuple) return std::move(list.children[0]);
    return node(std::move(list));
  }

  Result<Expression> parse_list() {
    Expression list(Kind::kList, take().line);
    while (!at_operator("]")) {
      ASSIGN_OR_RETURN(list.children.emplace_back(), parse_expression());
      if (!skip_operator(",")) break;
    }
    RETURN_IF_ERROR(expect_operator("]"));
    return node(std::move(list));
  }

  Result<Expression> parse_dict() {
    Expression dict(Kind::kDict, take().line);
    while (!at_operator("}")) {
      ASSIGN_OR_RETURN(dict.children.emplace_back(), parse_expression());
      RETURN_IF_ERROR(expect_operator(":"));
      ASSIGN_OR_RETURN(dict.children.emplace_back(), parse_expression());
      if (!skip_operator(",")) break;
    }
    RETURN_IF_ERROR(expect_operator("}"));
    return node(std::move(dict));
  }

  Result<Expression> parse_postfix(Expression result) {
    while (true) {
      if (at_operator(".")) {
        ASSIGN_OR_RETURN(result, parse_attribute(std::move(result)));
      } else if (at_operator("[")) {
        ASSIGN_OR_RETURN(result, parse_subscript(std::move(result)));
      } else if (at_operator("(")) {
        return unsupported("call of", "an expression");
      } else {
        return result;
      }
    }
  }

  Result<Expression> parse_attribute(Expression subject) {
    const int line = take().line;
    if (current().kind == Token::Kind::kInteger) {
      Expression item(Kind::kItem, line);
      item.children.push_back(std::move(subject));
      ASSIGN_OR_RETURN(item.children.emplace_back(), parse_primary());
      return node(std::move(item));
    }
    const Builtin* method = current().kind == Token::Kind::kName ? find_method(current().text) : nullptr;
    const bool is_call = next().kind == Token::Kind::kOperator && next().text == "(";
    if (is_call && method == nullptr) return unsupported("method", current().text);
    ASSIGN_OR_RETURN(std::string name, expect_name("the name of an attribute"));
    if (!is_call) {
      Expression attribute(Kind::kAttribute, line);
      attribute.name = std::move(name);
      attribute.children.push_back(std::move(subject));
      return node(std::move(attribute));
    }
    ASSIGN_OR_RETURN(Arguments arguments, parse_arguments());
    return bind("method", *method, line, std::move(subject), std::move(arguments));
  }

  Result<Expression> parse_subscript(Expression subject) {
    Expression item(Kind::kItem, take().line);
    item.children.push_back(std::move(subject));
    const auto at_part_end = [this] { return at_operator(":") || at_operator("]"); };
    const auto parse_part = [&]() -> Result<Expression> {
      if (!at_part_end()) return parse_expression();
      Expression missing(Kind::kConstant, current().line);
      missing.value = None{};
      return missing;
    };
    if (at_operator("]")) return expected("an expression");
    ASSIGN_OR_RETURN(item.children.emplace_back(), parse_part());
    if (at_operator(":")) {
      item.kind = Kind::kSlice;
      for (int i = 0; i < 2; ++i) {
        skip_operator(":");
        ASSIGN_OR_RETURN(item.children.emplace_back(), parse_part());
      }
    }
    if (at_operator(",")) return unsupported("index with", "several parts");
    RETURN_IF_ERROR(expect_operator("]"));
    return node(std::move(item));
  }

  Result<Arguments> parse_arguments() {
    Arguments arguments;
    RETURN_IF_ERROR(expect_operator("("));
    while (!at_operator(")")) {
      if (at_operator("*") || at_operator("**")) return unsupported("argument", current().text);
      if (current().kind == Token::Kind::kName && next().kind == Token::Kind::kOperator &&
          next().text == "=") {
        std::string name = take().text;
        take();
        ASSIGN_OR_RETURN(Expression value, parse_expression());
        arguments.named.emplace_back(std::move(name), std::move(value));
      } else {
        if (!arguments.named.empty()) return expected("a named argument");
        ASSIGN_OR_RETURN(arguments.positional.emplace_back(), parse_expression());
      }
      if (!skip_operator(",")) break;
    }
    RETURN_IF_ERROR(expect_operator(")"));
    return arguments;
  }

  Result<Expression> parse_function_call() {
    const Token token = take();
    if (token.text == "namespace") {
      Expression space(Kind::kNamespace, token.line);
      ASSIGN_OR_RETURN(Arguments arguments, parse_arguments());
      if (!arguments.positional.empty()) return unsupported("positional argument of", token.text);
      for (auto& [name, value] : arguments.named) {
        space.keywords.push_back(std::move(name));
        space.children.push_back(std::move(value));
      }
      return node(std::move(space));
    }
    const Builtin* function = find_function(token.text);
    if (function == nullptr) return unsupported("function", token.text);
    ASSIGN_OR_RETURN(Arguments arguments, parse_arguments());
    return bind("function", *function, token.line, std::nullopt, std::move(arguments));
  }

  Result<Expression> parse_filter(Expression subject) {
    const int line = take().line;
    if (current().kind != Token::Kind::kName) return expected("the name of a filter");
    const Builtin* filter = find_filter(current().text);
    if (filter == nullptr) return unsupported("filter", current().text);
    take();
    Arguments arguments;
    if (at_operator("(")) {
      ASSIGN_OR_RETURN(arguments, parse_arguments());
    }
    const bool takes_test = filter->name == "selectattr" || filter->name == "rejectattr";
    if (takes_test && arguments.positional.size() > 1) {
      const auto* name = arguments.positional[1].value.get<TextPtr>();
      if (name == nullptr) return unsupported("computed test name of filter", filter->name);
      if (find_test((*name)->bytes()) == nullptr) return unsupported("test", (*name)->bytes());
    }
    return bind("filter", *filter, line, std::move(subject), std::move(arguments));
  }

  Result<Expression> parse_test(Expression subject) {
    const int line = take().line;
    const bool negated = skip_name("not");
    if (current().kind != Token::Kind::kName) return expected("the name of a test");
    const Builtin* test = find_test(current().text);
    if (test == nullptr) return unsupported("test", current().text);
    take();
    Arguments arguments;
    if (at_operator("(")) {
      ASSIGN_OR_RETURN(arguments, parse_arguments());
    } else if (test->n_required > 0) {
      ASSIGN_OR_RETURN(Expression argument, parse_primary());
      ASSIGN_OR_RETURN(arguments.positional.emplace_back(), parse_postfix(std::move(argument)));
    }
    ASSIGN_OR_RETURN(Expression result, bind("test", *test, line, std::move(subject), std::move(arguments)));
    if (!negated) return result;
    Expression negation(Kind::kNot, line);
    negation.children.push_back(std::move(result));
    return node(std::move(negation));
  }

  // Puts the arguments into the order of the parameters; those not given become undefined constants.
  Result<Expression> bind(std::string_view what, const Builtin& builtin, int line,
                          std::optional<Expression> subject, Arguments arguments) {
    Expression call(Kind::kBuiltin, line);
    call.builtin = &builtin;
    if (subject) call.children.push_back(*std::move(subject));
    int n_given = 0;
    std::string_view names = builtin.parameters;
    auto positional = arguments.positional.begin();
    for (int i = 0; !names.empty(); ++i) {
      const std::string_view name = names.substr(0, names.find(' '));
      names.remove_prefix(std::min(names.size(), name.size() + 1));
      const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                      [&](const auto& argument) { return argument.first == name; });
      if (positional != arguments.positional.end()) {
        call.children.push_back(std::move(*positional++));
      } else if (named != arguments.named.end()) {
        call.children.push_back(std::move(named->second));
        arguments.named.erase(named);
      } else if (i < builtin.n_required) {
        return error("template.syntax", "{} {}: expected argument {}, found none", what, builtin.name, name);
      } else {
        call.children.emplace_back(Kind::kConstant, line);
      }
      ++n_given;
    }
    if (positional != arguments.positional.end() || !arguments.named.empty()) {
      return error("template.unsupported", "{} {} with more arguments than {}, or other ones", what,
                   ruvltra::quoted(builtin.name), n_given);
    }
    return node(std::move(call));
  }

  std::vector<Token> tokens_;
  size_t position_ = 0;
  int depth_ = 0;
  int n_loops_ = 0;
  std::vector<std::string> symbols_;
  std::map<std::string, int> numbers_;
};

}  // namespace

Result<Template> parse_template(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return fail("template.too_large", "chat template: expected at most {} bytes, found {}", kMaxSourceBytes,
                source.size());
  }
  ASSIGN_OR_RETURN(auto tokens, tokenize(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace ruvltra::jinja

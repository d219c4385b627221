// What a schema accepts and what it refuses, by hand.
#include "grammar/schema.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "grammar/grammar_for_test.h"

namespace ruvltra {
namespace {

using testing::accepts;
using testing::grammar_of;
using testing::random_text;
using Texts = std::vector<std::string>;

struct Row {
  const char* schema;
  Texts accepted, refused;
};

std::vector<Row> rows() {
  return {
      {"true",
       {"null", "1", "-0.5e10", R"({"a": [1, {"b": null}]})", "[]", "{}", "\"\""},
       {"", "nul", "01", "[1,]", "{,}", "+1", ".5", "1.", "{\"a\"}", " 1", "[1,  2]", "1e", "1e+"}},
      {R"({"type": "string"})",
       {"\"\"", "\"a\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"", R"("\n\"\\\/\u00e9\ud83d\ude00")", "\"\x7f\""},
       {"a", "\"", "\"\"\"", "\"\n\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"", R"("\x")",
        R"("\u12g4")", R"("\ud83d")", R"("\ude00")", R"("\ud83d\u0041")", "\"\xf4\x90\x80\x80\""}},
      {R"({"type": "string", "minLength": 2, "maxLength": 3})",
       {"\"ab\"", "\"abc\"", "\"\xc3\xa9\xc3\xa9\xc3\xa9\"", R"("\u00e9\n")", R"("a\ud83d\ude00b")"},
       {"\"a\"", "\"abcd\"", R"("\u00e9")", "\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\""}},
      {R"({"type": "integer"})",
       {"0", "-1", "120", "999999999999999"},
       {"-0", "1.0", "1e3", "01", "--1", "-"}},
      {R"({"type": "integer", "minimum": -12, "maximum": 105})",
       {"-12", "-1", "0", "9", "10", "99", "100", "105"},
       {"-13", "-20", "106", "110", "200", "1000", "-120"}},
      {R"({"type": "integer", "minimum": 0.5})", {"1", "7"}, {"0", "-1"}},
      {R"({"type": "number", "minimum": -2, "maximum": 3})",
       {"-2", "-1.99", "-0.5", "-0", "0", "0.001", "2.999", "3"},
       {"-2.1", "3.1", "4", "-3", "1e0"}},
      {R"({"type": "number"})", {"1.25", "-1e-7", "2E+10"}, {"1e400", "0x1", "1.2.3"}},
      {R"({"type": ["integer", "null"]})", {"7", "null"}, {"true", "7.5"}},
      {R"({"type": "boolean"})", {"true", "false"}, {"0", "null"}},
      {R"({"type": "string", "nullable": true, "maxLength": 0})", {"null", "\"\""}, {"\"a\""}},
      {R"({"enum": [1, 12, "a", "ab", null, [1, 2], {"k": "v"}, 1.5]})",
       {"1", "12", "\"a\"", "\"ab\"", "null", "[1, 2]", "{\"k\": \"v\"}", "1.5"},
       {"2", "\"abc\"", "[1,2]", "123"}},
      {R"({"type": "string", "enum": ["a", "bcd", 1], "maxLength": 2})", {"\"a\""}, {"\"bcd\"", "1"}},
      {R"({"const": "\u00e9\n"})", {"\"\xc3\xa9\\n\""}, {"\"e\""}},
      {R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "null"}},
           "required": ["b"]})",
       {R"({"b": ""})", R"({"a": 1, "b": ""})", R"({"b":"","c":null})", R"({"a": 1,"b": "", "c":null})"},
       {"{}", R"({"a": 1})", R"({"b": "", "a": 1})", R"({"b": "", "d": 1})", R"({"b": "", "b": ""})",
        R"({"b": ""},)"}},
      {R"({"properties": {"a": true}, "additionalProperties": {"type": "integer"}})",
       {"{}", R"({"a": "x"})", R"({"x": 1})", R"({"a": 0, "aa": 1, "": 2})", R"({"b": 1, "c": 2})"},
       {R"({"x": "y"})", R"({"x": 1, "a": 2})", R"({"\u0061": 1})"}},
      {R"({"type": "object", "additionalProperties": false})", {"{}"}, {R"({"a": 1})"}},
      {R"({"type": "object", "required": ["x"]})",
       {R"({"x": [1]})", R"({"x": 1, "y": 2})"},
       {"{}", R"({"y": 2})"}},
      {R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})",
       {"[1]", "[1, 2]", "[1,2,3]"},
       {"[]", "[1, 2, 3, 4]", "[\"a\"]", "[1 ,2]"}},
      {R"({"prefixItems": [{"type": "integer"}, {"type": "string"}]})",
       {"[]", "[1]", "[1, \"a\"]"},
       {"[\"a\"]", "[1, \"a\", 2]"}},
      {R"({"prefixItems": [{"type": "integer"}], "items": {"type": "null"}, "minItems": 2})",
       {"[1, null]", "[1, null, null]"},
       {"[1]", "[1, 2]", "[null, null]"}},
      {R"({"prefixItems": [true], "items": false})", {"[]", "[1]"}, {"[1, 2]"}},
      {R"({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#"}}]})",
       {"1", "[]", "[1, [2, [3]]]"},
       {"[true]", "{}"}},
      {R"({"type": "object", "properties": {"a": {}, "b": {}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]})",
       {R"({"a": 1})", R"({"b": 1})", R"({"a": 1, "b": 2})"},
       {"{}"}},
      {R"({"allOf": [{"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]},
                     {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}]})",
       {R"({"a": 1})", R"({"a": 1, "b": "x"})"},
       {"{}", R"({"a": 1.5})", R"({"b": "x"})"}},
      {R"({"allOf": [{"properties": {"a": true}, "additionalProperties": false}, {"properties": {"b": true}}]})",
       {"{}", R"({"a": 1})"},
       {R"({"b": 1})"}},
      {R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"},
           "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["v", "next"]}}})",
       {R"({"v": 1, "next": null})", R"({"v": 1, "next": {"v": 2, "next": null}})"},
       {R"({"v": 1})"}},
      {R"({"definitions": {"a/b ~": {"const": 1}}, "$ref": "#/definitions/a~1b%20~0"})", {"1"}, {"2"}},
      {R"({"type": "object", "properties": {"a\"b": {"const": 1}}, "title": "T", "x-other": 3})",
       {R"({"a\"b": 1})", "{}"},
       {R"({"a": 1})"}},
  };
}

TEST(Schema, AcceptsAndRefuses) {
  for (const Row& row : rows()) {
    SCOPED_TRACE(row.schema);
    const auto grammar = grammar_of(row.schema);
    ASSERT_TRUE(grammar);
    for (const std::string& text : row.accepted) EXPECT_TRUE(accepts(*grammar, text)) << text;
    for (const std::string& text : row.refused) EXPECT_FALSE(accepts(*grammar, text)) << text;
  }
}

TEST(Schema, SaysWhatIsWrong) {
  struct Wrong {
    const char *schema, *id, *part;
  };
  for (const Wrong& wrong : std::initializer_list<Wrong>{
           {"[1]", "schema.invalid", "schema: expected a schema"},
           {"{", "json.syntax", "schema"},
           {R"({"type": "strin"})", "schema.invalid", "type: expected"},
           {R"({"type": []})", "schema.invalid", "type: expected"},
           {R"({"properties": {"a": {"properties": {"b": {"pattern": "x"}}}}})", "schema.unsupported_keyword",
            "#\"/properties/a/properties/b\": pattern: "},
           {R"({"anyOf": [{"type": "string"}, {"type": "string", "format": "date"}]})",
            "schema.unsupported_keyword", "/anyOf/1"},
           {R"({"not": {}})", "schema.unsupported_keyword", "not: "},
           {R"({"enum": [{"a": 1}], "required": ["a"]})", "schema.unsupported_keyword", "required: "},
           {R"({"minLength": -1})", "schema.invalid", "minLength: "},
           {R"({"maxItems": 1.5})", "schema.invalid", "maxItems: "},
           {R"({"enum": []})", "schema.invalid", "enum: "},
           {R"({"anyOf": []})", "schema.invalid", "anyOf: "},
           {R"({"$ref": "#/$defs/a"})", "schema.reference", "#/$defs/a"},
           {R"({"$ref": "other.json"})", "schema.reference", "other.json"},
           {R"({"$ref": "#"})", "schema.reference_cycle", ""},
           {R"({"allOf": [{"anyOf": [{"$ref": "#"}]}]})", "schema.reference_cycle", ""},
           {"false", "schema.unsatisfiable", ""},
           {R"({"properties": {"a": {"$ref": "#"}}, "required": ["a"]})", "schema.unsatisfiable", ""},
           {R"({"properties": {"a": false}, "required": ["a"]})", "schema.unsatisfiable", ""},
           {R"({"type": "string", "minLength": 3, "maxLength": 2})", "schema.unsatisfiable", ""},
           {R"({"type": "integer", "enum": ["a"]})", "schema.unsatisfiable", ""},
           {R"({"type": "integer", "minimum": 1e300})", "schema.bound", "minimum: "},
           {R"({"type": "number", "minimum": 0.5})", "schema.bound", "minimum: "},
       }) {
    const auto found = compile_json_schema(wrong.schema, "schema");
    ASSERT_FALSE(found) << wrong.schema;
    EXPECT_EQ(found.error().id, wrong.id) << wrong.schema << ": " << found.error().message;
    EXPECT_NE(found.error().message.find(wrong.part), std::string::npos) << found.error().message;
    EXPECT_EQ(found.error().kind, ErrorKind::kInput);
  }
}

std::string repeated(const std::string& text, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

// reliability: what costs much is refused, or costs little. Nothing here may take long: a hang is the
// failure.
TEST(Schema, BombsAreDefused) {
  std::string names, branches, chain, required;
  for (int i = 0; i < 3000; ++i) {
    names += (i > 0 ? "," : "") + fmt::format(R"("n{}":{{"$ref":"#"}})", i);
    if (i < 1500) chain += fmt::format(R"({}"d{}":{{"$ref":"#/$defs/d{}"}})", i > 0 ? "," : "", i, i + 1);
  }
  for (int i = 0; i < 12; ++i) {
    branches += i > 0 ? "," : "";
    branches +=
        R"({"anyOf":[{"minLength":1},{"minLength":2},{"minLength":3},{"minLength":4},{"minLength":5}]})";
  }
  const Texts refused = {
      repeated(R"({"items":)", 60'000) + "true" + repeated("}", 60'000),
      repeated(R"({"allOf":[)", 2'000) + "true" + repeated("]}", 2'000),
      R"({"allOf":[)" + branches + "]}",
      R"({"$defs":{)" + chain + R"(,"d1500":{"$ref":"#/$defs/d0"}},"$ref":"#/$defs/d0"})",
      R"({"$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"anyOf":[{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"})",
      R"({"enum":[)" + repeated("\"0123456789\",", 8'000) + "0]}",
      R"({"minItems":2147483648,"items":false})",
      R"({"anyOf":[)" + repeated(R"({"const":0},)", 3'000) + "1]}",
  };
  for (const std::string& schema : refused) {
    const auto found = compile_json_schema(schema, "schema");
    ASSERT_FALSE(found) << schema.substr(0, 60);
    EXPECT_TRUE(found.error().id.starts_with("schema.") || found.error().id.starts_with("json."));
  }
  const Texts accepted = {
      R"({"type":"array","items":{"type":"integer"},"maxItems":2147483648})",
      R"({"type":"array","items":{},"minItems":2147483647,"maxItems":9223372036854775807})",
      R"({"type":"string","minLength":2147483648,"maxLength":18446744073709551615})",
      R"({"properties":{)" + names + "}}",
      R"({"enum":[)" + repeated("\"0123456789\",", 4'000) + "0]}",
  };
  for (const std::string& schema : accepted) {
    const auto found = compile_json_schema(schema, "schema");
    EXPECT_TRUE(found) << schema.substr(0, 60) << ": " << found.error().message;
  }
}

// Whatever may be written a byte at a time is JSON that the grammar accepts as a whole, and an end is always
// in reach.
TEST(Schema, EveryWalkEnds) {
  std::mt19937_64 random(7);
  for (const Row& row : rows()) {
    SCOPED_TRACE(row.schema);
    const auto grammar = grammar_of(row.schema);
    for (int i = 0; i < 30; ++i) {
      const std::string text = random_text(*grammar, random);
      ASSERT_FALSE(text.empty());
      EXPECT_TRUE(nlohmann::json::accept(text)) << text;
      EXPECT_TRUE(utf8_is_valid(text)) << text;
      EXPECT_TRUE(accepts(*grammar, text)) << text;
    }
  }
}

// No deeper than the limit, and from there the way out is open.
TEST(Schema, DepthHasALimit) {
  struct Nest {
    const char *schema, *open, *inside, *close;
  };
  for (
      const Nest& nest :
      {Nest{R"({"anyOf": [{"type": "array", "items": {"$ref": "#"}, "minItems": 1}, {"const": 1}]})", "[",
            "1", "]"},
       Nest{
           R"({"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["a"]})",
           "{\"a\": ", "null", "}"},
       Nest{"true", "[", "[]", "]"}}) {
    const auto grammar = grammar_of(nest.schema);
    Stacks stacks(*grammar);
    const auto read = [&](std::string_view text) {
      for (const char byte : text)
        if (!testing::read_byte(stacks, static_cast<uint8_t>(byte))) return false;
      return true;
    };
    size_t n = 0;
    while (n < 100 && read(nest.open)) ++n;
    EXPECT_GT(n, 40u);
    EXPECT_LT(n, 48u);
    // What may be begun at the deepest place can be gone on with.
    stacks.begin();
    ASSERT_TRUE(read(repeated(nest.open, n)));
    if (testing::read_byte(stacks, static_cast<uint8_t>(nest.open[0]))) {
      EXPECT_TRUE(testing::read_byte(stacks, '}') || testing::read_byte(stacks, ']') ||
                  testing::read_byte(stacks, '"'));
    }
    std::string text = repeated(nest.open, n - 1) + nest.inside + repeated(nest.close, n - 1);
    EXPECT_TRUE(accepts(*grammar, text)) << text;
  }
}

TEST(Schema, NumbersKeepTheirBounds) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 300; ++i) {
    const int64_t span = random() % 2 == 0 ? 30 : 1200;
    int64_t least = static_cast<int64_t>(random() % static_cast<uint64_t>(2 * span)) - span;
    int64_t most = static_cast<int64_t>(random() % static_cast<uint64_t>(2 * span)) - span;
    if (least > most) std::swap(least, most);
    const bool is_integer = random() % 2 == 0;
    const auto grammar = grammar_of(fmt::format(R"({{"type":"{}","minimum":{},"maximum":{}}})",
                                                is_integer ? "integer" : "number", least, most));
    for (int64_t n = -1300; n <= 1300; ++n) {
      ASSERT_EQ(accepts(*grammar, std::to_string(n)), n >= least && n <= most)
          << least << ".." << most << ": " << n;
    }
    for (int k = 0; k < 200 && !is_integer; ++k) {
      const int64_t hundredths =
          static_cast<int64_t>(random() % static_cast<uint64_t>(200 * span)) - 100 * span;
      const std::string text = fmt::format("{}{}.{:02}", hundredths < 0 ? "-" : "",
                                           std::abs(hundredths) / 100, std::abs(hundredths) % 100);
      const bool is_within = hundredths >= 100 * least && hundredths <= 100 * most;
      // A bound itself is written without a fraction.
      if (hundredths % 100 != 0) {
        ASSERT_EQ(accepts(*grammar, text), is_within) << least << ".." << most << ": " << text;
      }
    }
  }
}

// The parser of nlohmann-json says which strings are right.
TEST(Schema, StringsAreThoseOfJson) {
  const auto grammar = grammar_of(R"({"type":"string"})");
  std::mt19937_64 random(11);
  const std::vector<std::string> pieces = {
      "a",    "\"",   "\\",   "\\u",  "d8",   "DC",   "00", "e9", "\xc3\xa9", "\xc3",           "\xed",
      "\xa0", "\x80", "\xf0", "\x9f", "\x98", "\x1f", "\n", "n",  "/",        "\\ud83d\\ude00", "\\ud83d",
      "\xe0", "\xf4", "\x90"};
  size_t n_right = 0;
  for (int i = 0; i < 40'000; ++i) {
    std::string text = "\"";
    for (size_t n = random() % 5; n > 0; --n) {
      text += random() % 6 == 0 ? std::string(1, static_cast<char>(random() % 256))
                                : pieces[random() % pieces.size()];
    }
    text += '"';
    const bool is_right =
        text.find('\0') == std::string::npos && nlohmann::json::accept(text) && text.back() == '"';
    n_right += is_right;
    ASSERT_EQ(accepts(*grammar, text), is_right) << text;
  }
  EXPECT_GT(n_right, 4'000u);
}

TEST(Schema, ToolCalls) {
  const std::vector<FunctionSchema> functions = {
      {"add", R"({"properties":{"a":{"type":"integer"}},"required":["a"]})"}, {"adder \"x\"", ""}};
  const auto one = compile_tool_calls(functions, false);
  const auto several = compile_tool_calls(functions, true);
  ASSERT_TRUE(one && several);
  const std::string add = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 3}}\n</tool_call>";
  const std::string other =
      "<tool_call>\n{\"name\": \"adder \\\"x\\\"\", \"arguments\": {\"z\": [1]}}\n</tool_call>";
  for (const std::string& text : {add, other}) {
    EXPECT_TRUE(accepts(**one, text));
    EXPECT_TRUE(accepts(**several, text + "\n" + add + "\n" + other));
    EXPECT_FALSE(accepts(**one, text + "\n" + add));
    EXPECT_FALSE(accepts(**several, text + add));
  }
  for (const char* text : {"<tool_call>\n{\"name\": \"sub\", \"arguments\": {}}\n</tool_call>",
                           "<tool_call>\n{\"name\": \"add\", \"arguments\": {}}\n</tool_call>",
                           "<tool_call>\n{\"name\": \"add\", \"arguments\": 1}\n</tool_call>"})
    EXPECT_FALSE(accepts(**one, text)) << text;
  EXPECT_EQ(compile_tool_calls({}, false).error().id, "schema.no_function");
  EXPECT_EQ(compile_tool_calls(std::vector<FunctionSchema>{{"", ""}}, false).error().id,
            "schema.function_name");
  const auto wrong =
      compile_tool_calls(std::vector<FunctionSchema>{{"f", ""}, {"g", R"({"type":"string"})"}}, false);
  EXPECT_EQ(wrong.error().id, "schema.unsatisfiable");
  EXPECT_NE(wrong.error().message.find("function \"g\""), std::string::npos) << wrong.error().message;
  const auto bad = compile_tool_calls(std::vector<FunctionSchema>{{"g", R"({"format":"x"})"}}, false);
  EXPECT_EQ(bad.error().id, "schema.unsupported_keyword");
}

TEST(Schema, ErrorsTellWhereInObjectsAndArrays) {
  const auto member =
      compile_json_schema(R"({"properties":{"a":{"type":"string","pattern":"x"}}})", "schema");
  ASSERT_FALSE(member);
  EXPECT_NE(member.error().message.find("/properties/a"), std::string::npos) << member.error().message;
  const auto item = compile_json_schema(R"({"prefixItems":[{},{"properties":{"b":{"not":{}}}}]})", "schema");
  ASSERT_FALSE(item);
  EXPECT_NE(item.error().message.find("/prefixItems/1/properties/b"), std::string::npos)
      << item.error().message;
  const auto cycle = compile_json_schema(
      R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"})", "schema");
  ASSERT_FALSE(cycle);
  EXPECT_EQ(cycle.error().id, "schema.reference_cycle");
}

}  // namespace
}  // namespace ruvltra

#include "base/json.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>

namespace ruvltra {
namespace {

std::string error_of(std::string_view text, JsonLimits limits = {}) {
  const auto result = parse_json(text, "test", limits);
  return result ? "none" : std::string(result.error().id);
}

std::string message_of(std::string_view text) {
  const auto result = parse_json(text, "test");
  return result ? "none" : result.error().message;
}

TEST(Json, ParsesEveryKindAndKeepsTheOrderOfKeys) {
  const auto value =
      parse_json(R"( {"z":1,"a":[true,false,null,-2,1.5,"x\u00e9\ud83d\ude00"],"m":{}} )", "test");
  ASSERT_TRUE(value) << value.error().message;
  EXPECT_EQ(to_json(*value),
            "{\"z\":1,\"a\":[true,false,null,-2,1.5,\"x\xc3\xa9\xf0\x9f\x98\x80\"],\"m\":{}}");
  EXPECT_EQ(to_python_json(*value),
            "{\"z\": 1, \"a\": [true, false, null, -2, 1.5, \"x\xc3\xa9\xf0\x9f\x98\x80\"], \"m\": {}}");
  EXPECT_EQ((*value)["a"][3].get<int>(), -2);
  EXPECT_EQ(to_json(*parse_json("18446744073709551615", "test")), "18446744073709551615");
  EXPECT_EQ(to_json(*parse_json("-9223372036854775808", "test")), "-9223372036854775808");
  EXPECT_EQ(to_json(*parse_json("\"s\"", "test")), "\"s\"");
}

TEST(Json, RefusesBadSyntaxWithOffsetExpectedAndFound) {
  for (const char* text :
       {"",    " ",        "{",   "[",       "[1,]",   "{\"a\"}",     "{\"a\":}", "{a:1}",     "[1 2]",
        "1 2", "nul",      "'a'", "\"\\x\"", "\"\n\"", "01",          "1.",       ".5",        "+1",
        "NaN", "Infinity", "-",   "// c\n1", "[1]]",   "\"\\ud800\"", "\"abc",    "{\"a\":1,}"}) {
    EXPECT_EQ(error_of(text), "json.syntax") << text;
  }
  EXPECT_EQ(error_of(std::string_view("1\0x", 3)), "json.syntax");
  EXPECT_EQ(message_of("{\"a\" 1}"), "test: offset 5: expected ':', found \"1\"");
  EXPECT_EQ(message_of("[1,"), "test: offset 3: expected '[', '{', or a literal, found the end of the text");
}

TEST(Json, RefusesNumbersThatAreNotFinite) {
  EXPECT_EQ(error_of("1e999"), "json.number");
  EXPECT_EQ(error_of("[-1e400]"), "json.number");
  EXPECT_EQ(error_of("1e308"), "none");
  EXPECT_EQ(error_of("1e-999"), "none");
  EXPECT_TRUE(parse_json("18446744073709551616", "test")->is_number_float());
}

TEST(Json, RefusesDuplicateKeysAtEveryLevel) {
  EXPECT_EQ(error_of(R"({"a":1,"a":2})"), "json.duplicate_key");
  EXPECT_EQ(error_of(R"([{"x":{"b":1,"c":2,"\u0062":3}}])"), "json.duplicate_key");
  EXPECT_EQ(error_of(R"({"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]})"), "none");
  EXPECT_EQ(message_of(R"({"a":1,"a":2})"),
            "test: offset 12: key \"a\": expected once per object, found again");
}

TEST(Json, RefusesInvalidUtf8WithItsOffset) {
  for (const char* bad :
       {"\"\xff\"", "\"\xc3\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\""}) {
    EXPECT_EQ(error_of(bad), "json.invalid_utf8");
  }
  EXPECT_EQ(message_of("[\"ab\xff\"]"), "test: offset 4: expected UTF-8, found \"\\xff\\\"]\"");
}

TEST(Json, HoldsItsLimits) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(error_of(nested(64)), "none");
  EXPECT_EQ(error_of(nested(65)), "json.depth");
  EXPECT_EQ(error_of(std::string(1'000'000, '[')), "json.depth");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_EQ(error_of(objects), "json.depth");

  EXPECT_EQ(error_of("[1,2,3]", {.max_values = 4}), "none");
  EXPECT_EQ(error_of("[1,2,3]", {.max_values = 3}), "json.values");
  EXPECT_EQ(error_of("[1,2,3]", {.max_bytes = 7}), "none");
  EXPECT_EQ(error_of("[1,2,3]", {.max_bytes = 6}), "json.too_large");
  EXPECT_EQ(error_of("[[[1]]]", {.max_depth = 3}), "none");
  EXPECT_EQ(error_of("[[[1]]]", {.max_depth = 2}), "json.depth");
}

TEST(Json, AnObjectOfManyKeysIsNotQuadratic) {
  std::string text = "{";
  for (int i = 0; i < 300'000; ++i) text += fmt::format("\"{}\":0,", i);
  text.back() = '}';
  const auto value = parse_json(text, "test");
  ASSERT_TRUE(value);
  EXPECT_EQ(value->size(), 300'000u);
}

TEST(Json, WritersNeverThrowOnInvalidUtf8) {
  const Json value = {{"k\xff", "a\xc3"}};
  EXPECT_EQ(to_json(value), "{\"k\xef\xbf\xbd\":\"a\xef\xbf\xbd\"}");
  EXPECT_EQ(to_python_json(value), "{\"k\xef\xbf\xbd\": \"a\xef\xbf\xbd\"}");
}

TEST(Json, PythonStyleEscapesAsPythonDoes) {
  const Json value = std::string("\"\\/\b\f\n\r\t\x01\x1f\x7f<>&'", 15);
  EXPECT_EQ(to_python_json(value), "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f<>&'\"");
  EXPECT_EQ(to_python_json(Json::parse("[[],{},[{}],\"\"]")), "[[], {}, [{}], \"\"]");
}

TEST(Json, PythonStyleIndents) {
  const Json value = Json::parse(R"({"a":[1,{"b":[]}],"c":{}})");
  EXPECT_EQ(to_python_json(value, 2),
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": []\n    }\n  ],\n  \"c\": {}\n}");
  EXPECT_EQ(to_python_json(value, 0), "{\n\"a\": [\n1,\n{\n\"b\": []\n}\n],\n\"c\": {}\n}");
}

TEST(Json, PythonStyleIsNotRecursive) {
  Json value = 1;
  for (int i = 0; i < 5000; ++i) {
    Json outer = Json::array();
    outer.push_back(std::move(value));
    value = std::move(outer);
  }
  EXPECT_EQ(to_python_json(value), std::string(5000, '[') + "1" + std::string(5000, ']'));
}

// Expected strings are Python 3.11's repr().
TEST(Json, PythonFloats) {
  const std::pair<double, const char*> cases[] = {{0.0, "0.0"},
                                                  {-0.0, "-0.0"},
                                                  {1.0, "1.0"},
                                                  {-1.5, "-1.5"},
                                                  {100.0, "100.0"},
                                                  {0.1, "0.1"},
                                                  {0.0001, "0.0001"},
                                                  {0.00001, "1e-05"},
                                                  {1.25e-7, "1.25e-07"},
                                                  {1e15, "1000000000000000.0"},
                                                  {1e16, "1e+16"},
                                                  {123456789012345680.0, "1.2345678901234568e+17"},
                                                  {9007199254740993.0, "9007199254740992.0"},
                                                  {1234.5678, "1234.5678"},
                                                  {5e-324, "5e-324"},
                                                  {1.7976931348623157e308, "1.7976931348623157e+308"},
                                                  {0.30000000000000004, "0.30000000000000004"},
                                                  {2.5e-3, "0.0025"}};
  for (const auto& [value, expected] : cases) EXPECT_EQ(python_float(value), expected);
  EXPECT_EQ(python_float(std::numeric_limits<double>::quiet_NaN()), "null");
}

}  // namespace
}  // namespace ruvltra

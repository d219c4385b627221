#include "server/fields.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

namespace ruvltra {
namespace {

Json object(const char* text) { return *parse_json(text, "test"); }

TEST(Fields, AbsentAndNullLeaveWhatIsThere) {
  double real = 7;
  int integer = 7;
  bool flag = true;
  std::string text = "seven";
  for (const char* body : {"{}", R"({"a": null})", "[]", "3"}) {
    ASSERT_TRUE(read_number(object(body), "a", 0, 1, real));
    ASSERT_TRUE(read_integer(object(body), "a", 0, 1, integer));
    ASSERT_TRUE(read_bool(object(body), "a", flag));
    ASSERT_TRUE(read_string(object(body), "a", text));
  }
  EXPECT_EQ(real, 7);
  EXPECT_EQ(integer, 7);
  EXPECT_TRUE(flag);
  EXPECT_EQ(text, "seven");
}

TEST(Fields, IntegersOfTheirRange) {
  const auto read = [](const char* value, int64_t low, int64_t high) -> std::optional<int64_t> {
    int64_t out = -77;
    const auto done =
        read_integer(object(("{\"a\": " + std::string(value) + "}").c_str()), "a", low, high, out);
    if (done) return out;
    EXPECT_EQ(done.error().id, "request.field");
    EXPECT_EQ(field_of(done.error()), "a") << done.error().message;
    EXPECT_EQ(out, -77);  // untouched
    return std::nullopt;
  };
  EXPECT_EQ(read("1", 1, 16), 1);
  EXPECT_EQ(read("16", 1, 16), 16);
  EXPECT_EQ(read("3.0", 1, 16), 3);
  EXPECT_EQ(read("1e1", 1, 16), 10);
  EXPECT_EQ(read("-9223372036854775808", INT64_MIN, INT64_MAX), INT64_MIN);
  EXPECT_EQ(read("9223372036854775807", INT64_MIN, INT64_MAX), INT64_MAX);
  for (const char* value :
       {"0", "17", "-1", "2147483648", "9223372036854775808", "18446744073709551615", "1e308", "-1e308",
        "1.5", "\"1\"", "true", "[]", "[1]", "{}", "100000000000000000000"})
    EXPECT_EQ(read(value, 1, 16), std::nullopt) << value;
  EXPECT_EQ(read("9223372036854775808", INT64_MIN, INT64_MAX), std::nullopt);
  EXPECT_EQ(read("9223372036854775808.0", INT64_MIN, INT64_MAX), std::nullopt);
}

TEST(Fields, NumbersOfTheirRange) {
  const auto reads = [](const char* value) {
    float out = 9;
    const auto done = read_number(object(("{\"t\": " + std::string(value) + "}").c_str()), "t", 0, 2, out);
    EXPECT_EQ(done.has_value(), out != 9.0F);
    return done.has_value();
  };
  for (const char* value : {"0", "2", "-0.0", "1e-300", "1.999"}) EXPECT_TRUE(reads(value)) << value;
  for (const char* value : {"2.001", "-1e-9", "1e308", "\"1\"", "false", "[]", "{}"})
    EXPECT_FALSE(reads(value)) << value;
}

TEST(Fields, BooleansAndStrings) {
  bool flag = false;
  std::string text;
  EXPECT_FALSE(read_bool(object(R"({"a": 1})"), "a", flag));
  EXPECT_FALSE(read_bool(object(R"({"a": "true"})"), "a", flag));
  EXPECT_TRUE(read_bool(object(R"({"a": true})"), "a", flag));
  EXPECT_TRUE(flag);
  EXPECT_FALSE(read_string(object(R"({"a": 1})"), "a", text));
  EXPECT_TRUE(read_string(object(R"({"a": "abc"})"), "a", text, 3));
  EXPECT_FALSE(read_string(object(R"({"a": "abcd"})"), "a", text, 3));
  EXPECT_EQ(text, "abc");
}

TEST(Fields, TheFieldOfAnError) {
  EXPECT_EQ(field_of({ErrorKind::kUsage, "x", "messages[3].content: expected"}), "messages[3].content");
  EXPECT_EQ(field_of({ErrorKind::kUsage, "x", "no colon at all"}), "");
  EXPECT_EQ(field_of({ErrorKind::kUsage, "x", "two words: expected"}), "");
  EXPECT_EQ(field_of({ErrorKind::kUsage, "x", ": expected"}), "");
}

}  // namespace
}  // namespace ruvltra

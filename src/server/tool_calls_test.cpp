#include "server/tool_calls.h"

#include <gtest/gtest.h>

namespace ruvltra {
namespace {

struct Answer {
  std::string text;
  std::vector<std::string> calls;  // NAME ARGUMENTS
  bool operator==(const Answer&) const = default;
};

void PrintTo(const Answer& answer, std::ostream* out) {
  *out << '"' << answer.text << '"';
  for (const std::string& call : answer.calls) *out << " [" << call << ']';
}

Answer read(std::initializer_list<std::string_view> pieces) {
  ToolCallReader reader;
  Answer answer;
  const auto add = [&](const ToolCallReader::Piece& piece) {
    answer.text += piece.text;
    for (const ToolCall& call : piece.calls) answer.calls.push_back(call.name + " " + call.arguments);
  };
  for (const std::string_view piece : pieces) add(reader.push(piece));
  add(reader.finish());
  EXPECT_EQ(reader.n_calls(), answer.calls.size());
  return answer;
}

const std::string kCall = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>";

const struct {
  std::string text;
  Answer answer;
} kSamples[] = {
    {"", {"", {}}},
    {"plain text \n", {"plain text \n", {}}},
    {kCall, {"", {"f {\"a\":1}"}}},
    {"Let me see.\n" + kCall + "\n" + kCall + "\n", {"Let me see.", {"f {\"a\":1}", "f {\"a\":1}"}}},
    {kCall + "\nand so on", {"\nand so on", {"f {\"a\":1}"}}},
    {"a < b <tool <tool_calls> </tool_call> c", {"a < b <tool <tool_calls> </tool_call> c", {}}},
    {"<tool_call>{\"name\":\"g\"}</tool_call>", {"", {"g {}"}}},
    {"<tool_call>{\"name\":\"g\",\"arguments\":null}</tool_call>", {"", {"g {}"}}},
    // What cannot be read stays what it was.
    {"<tool_call>{\"name\":1}</tool_call>", {"<tool_call>{\"name\":1}</tool_call>", {}}},
    {"<tool_call>not json</tool_call> x", {"<tool_call>not json</tool_call> x", {}}},
    {"<tool_call>{\"name\":\"g\",\"arguments\":[]}</tool_call>",
     {"<tool_call>{\"name\":\"g\",\"arguments\":[]}</tool_call>", {}}},
    {"x <tool_call>{\"na", {"x <tool_call>{\"na", {}}},
    {"x <tool_ca", {"x <tool_ca", {}}},
    {"<tool_call>\n{\"name\":\"g\",\"arguments\":{}}", {"", {"g {}"}}},  // closed by the end
};

TEST(ToolCalls, SamplesAreReadWhole) {
  for (const auto& sample : kSamples) EXPECT_EQ(read({sample.text}), sample.answer) << sample.text;
}

TEST(ToolCalls, EverySplitReadsTheSame) {
  for (const auto& sample : kSamples) {
    const std::string_view text = sample.text;
    for (size_t i = 0; i <= text.size(); ++i) {
      EXPECT_EQ(read({text.substr(0, i), text.substr(i)}), sample.answer) << text << " at " << i;
      for (size_t k = i; k <= text.size(); ++k)
        ASSERT_EQ(read({text.substr(0, i), text.substr(i, k - i), text.substr(k)}), sample.answer)
            << text << " at " << i << " and " << k;
    }
  }
}

TEST(ToolCalls, TextIsShownAsSoonAsItCanBe) {
  ToolCallReader reader;
  EXPECT_EQ(reader.push("one ").text, "one");      // white space may stand before a call
  EXPECT_EQ(reader.push("two <to").text, " two");  // this may be one
  EXPECT_EQ(reader.push("do>").text, " <todo>");
  EXPECT_EQ(reader.push("<tool_call>{\"name\":\"f\"").text, "");
  EXPECT_EQ(reader.push("}</tool_call>").calls.size(), 1U);
}

}  // namespace
}  // namespace ruvltra

// Our Jinja subset against jinja2 itself: the same text byte for byte, and an error where jinja2 has one.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "base/json.h"
#include "text/chat_template.h"

namespace ruvltra {
namespace {

struct Program {
  std::string output;
  int exit_code;
};

Program run(const std::string& command) {
  Program program{};
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return {"", 127};
  char buffer[1 << 16];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) program.output.append(buffer, n);
  program.exit_code = WEXITSTATUS(pclose(pipe));
  return program;
}

std::vector<ChatMessage> messages_of(const Json& json) {
  std::vector<ChatMessage> messages;
  for (const Json& entry : json) {
    ChatMessage message{entry["role"], entry["content"], {}};
    if (entry.contains("calls")) {
      for (const Json& call : entry["calls"]) message.tool_calls.push_back({call["name"], call["arguments"]});
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

Result<std::string> render(const Json& test_case, const std::string& source) {
  auto parsed = ChatTemplate::parse(source, "<s>", "</s>");
  if (!parsed) return tl::unexpected<Error>(parsed.error());
  const auto runs = parsed->render(messages_of(test_case["messages"]), test_case["tools"],
                                   test_case["add_generation_prompt"]);
  if (!runs) return tl::unexpected<Error>(runs.error());
  std::string text;
  for (const TextRun& part : *runs) text += part.text;
  return text;
}

TEST(ChatTemplateOracle, RendersWhatJinja2Renders) {
  const Program oracle = run("/usr/bin/python3 tests/chat_template_oracle.py 2026 300");
  if (oracle.exit_code == 77 || oracle.exit_code == 127) GTEST_SKIP() << "python3 with jinja2 is missing";
  ASSERT_EQ(oracle.exit_code, 0);
  std::map<std::string, int> n_cases;
  int n_errors = 0, n_differences = 0;
  std::istringstream lines(oracle.output);
  for (std::string line; std::getline(lines, line);) {
    const Json test_case = Json::parse(line);
    const std::string source = test_case["template"];
    const auto ours = render(test_case, source);
    ++n_cases[test_case["name"]];
    if (test_case["expected"].is_null()) {
      ++n_errors;
      if (!ours) continue;
      ADD_FAILURE() << "jinja2 refuses\n" << source << "\nours: " << *ours;
    } else {
      const std::string expected = test_case["expected"];
      if (ours && *ours == expected) continue;
      ADD_FAILURE() << test_case["name"] << "\n"
                    << source << "\n"
                    << test_case["messages"].dump() << "\nexpected: " << Json(expected).dump()
                    << "\nours:     " << (ours ? Json(*ours).dump() : ours.error().message);
    }
    ASSERT_LT(++n_differences, 20) << "too many differences";
  }
  for (const auto& [name, n] : n_cases) std::printf("%-10s %d cases\n", name.c_str(), n);
  std::printf("%d of them are errors in both\n", n_errors);
  EXPECT_GE(n_cases["chatml"], 300);
  EXPECT_GE(n_cases["fixed"], 300);
}

}  // namespace
}  // namespace ruvltra

// Any bytes as the body of a chat request: its messages, tools, formats and stops are read or refused, and
// what is read is within its limits. Any bytes as an answer: however it is cut, the reader of calls shows the
// same text and calls.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/json.h"
#include "base/utf8.h"
#include "server/messages.h"
#include "server/tool_calls.h"

using namespace ruvltra;

namespace {

bool is_about_the_request(const Error& error) {
  return error.id == "request.field" || error.id.starts_with("schema.") || error.id.starts_with("json.");
}

void read_body(const Json& body) {
  const auto messages = read_messages(body);
  CHECK(messages || is_about_the_request(messages.error()));
  if (messages) {
    CHECK(!messages->empty() && messages->size() <= 4096);
    for (const ChatMessage& message : *messages) {
      CHECK(utf8_is_valid(message.content));
      CHECK(message.role == "system" || message.role == "user" || message.role == "assistant" ||
            message.role == "tool");
      for (const ToolCall& call : message.tool_calls)
        CHECK(parse_json(call.arguments, "arguments")->is_object());
    }
  }
  const auto tools = read_tools(body);
  CHECK(tools || is_about_the_request(tools.error()));
  if (tools) {
    CHECK(tools->functions.size() <= 256);
    const auto demanded = demanded_call(*tools);
    CHECK(demanded || is_about_the_request(demanded.error()));
    // A demand is never forgotten.
    if (tools->choice.kind == ToolChoice::Kind::kRequired || tools->choice.kind == ToolChoice::Kind::kNamed)
      CHECK(!demanded || *demanded != nullptr);
  }
  for (const auto& form : {read_response_format(body), read_ollama_format(body)})
    CHECK(form || is_about_the_request(form.error()));
}

struct Answer {
  std::string text;
  std::vector<ToolCall> calls;
  void add(const ToolCallReader::Piece& piece) {
    text += piece.text;
    calls.insert(calls.end(), piece.calls.begin(), piece.calls.end());
  }
  bool operator==(const Answer& other) const {
    return text == other.text && std::equal(calls.begin(), calls.end(), other.calls.begin(),
                                            other.calls.end(), [](const ToolCall& a, const ToolCall& b) {
                                              return a.name == b.name && a.arguments == b.arguments;
                                            });
  }
};

Answer read_in_pieces(std::string_view text, size_t first, size_t n) {
  ToolCallReader reader;
  Answer answer;
  answer.add(reader.push(text.substr(0, first)));
  for (size_t at = first; at < text.size(); at += n) answer.add(reader.push(text.substr(at, n)));
  answer.add(reader.finish());
  return answer;
}

void read_answer(std::string_view text, size_t cut) {
  const Answer whole = read_in_pieces(text, text.size(), 1);
  CHECK(read_in_pieces(text, 0, 1) == whole);
  CHECK(read_in_pieces(text, cut % (text.size() + 1), text.size() + 1) == whole);
#ifdef RUVLTRA_PLANT_BUG
  CHECK(whole.calls.empty());
#endif
  if (text.find("<tool_call>") == std::string_view::npos) CHECK(whole.text == text && whole.calls.empty());
  for (const ToolCall& call : whole.calls) CHECK(parse_json(call.arguments, "arguments")->is_object());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  read_answer(text, data[0] | data[1] << 8);
  if (const auto body = parse_json(text, "body"); body && body->is_object()) read_body(*body);
  return 0;
}

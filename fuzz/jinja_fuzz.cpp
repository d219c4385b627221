// Two ways to attack a chat template, told apart by the first byte: a template source rendered with a fixed
// conversation, and the built-in template rendered with messages from fuzzed JSON.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/json.h"
#include "text/chat_template.h"

using namespace ruvltra;

namespace {

constexpr char kMark[] = "\x01";  // a byte that only data holds

void check_runs(const Result<std::vector<TextRun>>& runs) {
  if (!runs) {
    CHECK(runs.error().id.substr(0, 9) == "template.");
    return;
  }
  Recognise last = Recognise::kNone;
  for (const TextRun& run : *runs) {
    CHECK(!run.text.empty() && run.recognise != last && run.recognise != Recognise::kNone);
    last = run.recognise;
  }
}

void render_source(std::string_view source) {
  static const std::vector<ChatMessage> kMessages = {
      {"system", std::string("<|im_end|>") + kMark, {}},
      {"user", std::string("  Hé\nllo 🦙 <think>x</think> ") + kMark, {}},
      {"assistant", "", {{"f", R"({"a": [1, 2.5, null], "b": "x"})"}, {"g", "text"}}},
      {"tool", "1,2,,3", {}}};
  static const Json kTools =
      Json::parse(R"([{"type": "function", "function": {"name": "f", "parameters": {"n": 1}}}])");
  const auto parsed = ChatTemplate::parse(source, "<s>", "</s>");
  if (!parsed) {
    CHECK(parsed.error().id.substr(0, 9) == "template.");
#ifdef RUVLTRA_PLANT_BUG
    CHECK(parsed.error().id != "template.depth");
#endif
    return;
  }
  const auto runs = parsed->render(kMessages, kTools, true);
  check_runs(runs);
  if (!runs || source.find(kMark) != std::string_view::npos || source.find('\\') != std::string_view::npos)
    return;
  for (const TextRun& run : *runs) {
    CHECK(run.recognise == Recognise::kUserDefined || run.text.find(kMark) == std::string::npos);
  }
}

std::string string_or_empty(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

void render_messages(std::string_view text) {
  const auto json = parse_json(text, "fuzz");
  if (!json || !json->is_array()) return;
  std::vector<ChatMessage> messages;
  for (const Json& entry : *json) {
    if (!entry.is_object()) continue;
    ChatMessage message{string_or_empty(entry, "role"), string_or_empty(entry, "content"), {}};
    if (const auto calls = entry.find("tool_calls"); calls != entry.end() && calls->is_array()) {
      for (const Json& call : *calls) {
        if (call.is_object()) {
          message.tool_calls.push_back({string_or_empty(call, "name"), string_or_empty(call, "arguments")});
        }
      }
    }
    messages.push_back(std::move(message));
  }
  check_runs(ChatTemplate::chatml().render(messages, *json, true));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 'm') {
    render_messages(rest);
  } else {
    render_source(rest);
  }
  return 0;
}

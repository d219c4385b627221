// Chat templates: a sandboxed subset of Jinja that renders the template stored in a model file
// (docs/chat-template.md).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "gguf/metadata.h"
#include "ruvltra/error.h"
#include "ruvltra/types.h"
#include "text/tokenizer.h"

namespace ruvltra {

// Thread safety: const after parse; renders may run in parallel.
class ChatTemplate {
 public:
  // An unsupported construct is template.unsupported with its name and line. Source is at most 256 KiB;
  // limits on depth, operations and output hold while rendering. The texts are what the template's variables
  // bos_token and eos_token print.
  static Result<ChatTemplate> parse(std::string_view source, std::string_view bos_text = "",
                                    std::string_view eos_text = "");
  // Qwen2.5's own ChatML text.
  static const ChatTemplate& chatml();
  // What tokenizer.chat_template of a model file says, by its text or by the name "chatml"; none without it.
  static Result<std::optional<ChatTemplate>> of_model(const Metadata& metadata, const Tokenizer& tokenizer);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // messages: at least one. tools: array of OpenAI tool objects or null. Spans the template wrote are kAll,
  // spans that came from messages or tools are kUserDefined. Errors: template.* (limits, type errors).
  // Messages appear as {role, content} and, with calls, tool_calls [{type, function {name, arguments}, name,
  // arguments}].
  Result<std::vector<TextRun>> render(std::span<const ChatMessage> messages, const Json& tools,
                                      bool add_generation_prompt) const;

 private:
  struct Program;
  explicit ChatTemplate(std::unique_ptr<const Program> program);
  std::unique_ptr<const Program> program_;
};

}  // namespace ruvltra

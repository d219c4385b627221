// A conversation with a model: messages, the chat template that turns them into a prompt, and the session
// that answers.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "engine/session.h"
#include "load.h"
#include "text/chat_template.h"

namespace ruvltra {

class Conversation {
 public:
  struct Options {
    bool raw = false;            // plain continuation: no template
    bool parse_special = false;  // raw only: control-token strings become control tokens
    std::optional<std::string> system;
  };
  // Without a chat template in the file the conversation is raw; raw() tells. Errors: template.*.
  static Result<Conversation> make(const LoadedModel& model, Options options);

  // Adds the text as the user's message (raw: appends it) and generates the answer, which joins the
  // conversation even if it was stopped half-way. On error, and if it was stopped before the first token, the
  // conversation is as before. A top_k that is no limit for this vocabulary counts as off.
  Result<Generation> ask(const std::string& text, const GenerateParams& params, const GenerateHooks& hooks);
  // Answers the last message anew. Error: chat.nothing_to_retry (usage).
  Result<Generation> retry(const GenerateParams& params, const GenerateHooks& hooks);

  void clear();
  void set_system(std::string text) { options_.system = std::move(text); }
  const std::optional<std::string>& system() const { return options_.system; }
  bool raw() const { return options_.raw; }
  size_t n_messages() const { return messages_.size(); }
  const Session& session() const { return session_; }

  // {"model", "system", "messages": [{"role", "content"}]}; raw text is one message of role "text".
  Json to_json() const;
  Result<void> load_json(const Json& document, const std::string& source);

 private:
  Conversation(const LoadedModel& model, Options options, std::optional<ChatTemplate> chat_template,
               Session session)
      : model_(&model),
        options_(std::move(options)),
        chat_template_(std::move(chat_template)),
        session_(std::move(session)) {}
  Result<std::vector<TokenId>> prompt_tokens() const;
  Result<Generation> answer(GenerateParams params, const GenerateHooks& hooks);

  const LoadedModel* model_;
  Options options_;
  std::optional<ChatTemplate> chat_template_;  // empty: raw
  Session session_;
  std::vector<ChatMessage> messages_;  // raw: alternately what was given and what was generated
};

// The document of `run --json`; with log-probabilities if the generation has them.
Json generation_json(const Generation& generation, const LoadedModel& model);
// One line per token: its text, log-probability, and the likeliest alternatives.
std::string logprobs_table(const Generation& generation, const Tokenizer& tokenizer);
// "prompt 21 tokens, 2100 tok/s · first token 0.01 s · answer 200 tokens, 900 tok/s · stop · seed 7"
std::string generation_stats(const Generation& generation);

}  // namespace ruvltra

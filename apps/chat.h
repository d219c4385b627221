// A conversation with a model: messages, the engine that answers them, and how an answer comes to the screen.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "load.h"
#include "ruvltra/learning.h"
#include "ruvltra/sona.h"

namespace ruvltra {

// What is shown while an answer is made.
struct Show {
  bool text = true;                 // on stdout, as it comes
  bool progress = true;             // of a long prompt, on stderr
  bool accepted_in_colour = false;  // tokens that were proposed before they were drawn, on a terminal
};

class Conversation {
 public:
  struct Options {
    bool raw = false;            // plain continuation: no template
    bool parse_special = false;  // raw only: control-token strings become control tokens
    bool bank = false;  // what the model's bank knows about the first message joins the system message
    std::optional<std::string> system;
    std::optional<uint64_t> adapter;               // Request::adapter
    std::shared_ptr<const Constraint> constraint;  // of every answer
  };
  // Without a chat template in the file the conversation is raw; raw() tells. Errors: template.*.
  static Result<Conversation> make(ServedModel& model, Options options);

  // Adds the text as the user's message (raw: appends it) and generates the answer, which joins the
  // conversation even if it was stopped half-way: by Ctrl+C, or because nobody reads stdout. On error, and if
  // it was stopped before the first token, the conversation is as before. A top_k that is no limit for this
  // vocabulary counts as off.
  Result<Generation> ask(const std::string& text, const GenerateParams& params, Show show);
  // What somebody thinks of the last answer, told to the model's Sona. A correction takes the answer's place.
  // Errors: chat.nothing_to_judge, learning.* (usage).
  Result<void> judge(Signal signal);
  Sona* sona() const { return model_->model.sona(); }
  Scope scope() const { return {Scope().tenant, session_}; }  // of what is learned from it
  void set_adapter(std::optional<uint64_t> adapter) { options_.adapter = adapter; }
  // Answers the last message anew. Error: chat.nothing_to_retry (usage).
  Result<Generation> retry(const GenerateParams& params, Show show);

  void clear();
  void set_system(std::string text) { options_.system = std::move(text); }
  const std::optional<std::string>& system() const { return options_.system; }
  bool raw() const { return options_.raw; }
  size_t n_messages() const { return messages_.size(); }
  size_t n_tokens() const { return n_tokens_; }             // of the last prompt and answer
  const ContextBlock& context() const { return context_; }  // from the bank

  // {"model", "system", "messages": [{"role", "content"}]}; raw text is one message of role "text".
  Json to_json() const;
  Result<void> load_json(const Json& document, const std::string& source);

 private:
  Conversation(ServedModel& model, Options options) : model_(&model), options_(std::move(options)) {}
  Result<Prompt> prompt() const;
  Result<void> consult_bank(const std::string& text);
  Result<Generation> answer(GenerateParams params, Show show);

  ServedModel* model_;
  Options options_;
  std::vector<ChatMessage> messages_;  // raw: alternately what was given and what was generated
  ContextBlock context_;               // chosen once, with the first message
  std::string session_;                // names the conversation among those that are recorded
  size_t n_tokens_ = 0;
  std::optional<RequestId> last_answer_;  // the engine's name for the last message, if it made it
};

// The document of `run --json`; with log-probabilities if the generation has them.
Json generation_json(const Generation& generation, const ServedModel& model);
// One line per token: its text, log-probability, and the likeliest alternatives.
std::string logprobs_table(const Generation& generation, const MediumModel& model);
// "prompt 21 tokens, 2100 tok/s · first token 0.01 s · answer 200 tokens, 900 tok/s · stop · seed 7"
std::string generation_stats(const Generation& generation);

}  // namespace ruvltra

#include "chat.h"

#include <utility>

#include "base/fail.h"
#include "base/utf8.h"
#include "console.h"

namespace ruvltra {
namespace {

double per_second(size_t n, double seconds) { return seconds > 0 ? static_cast<double>(n) / seconds : 0; }

std::string token_text(const Tokenizer& tokenizer, TokenId id) {
  return static_cast<size_t>(id) < tokenizer.n_vocab() ? ruvltra::quoted(tokenizer.bytes(id), 32)
                                                       : fmt::format("#{}", id);
}

// As in the OpenAI chat documents: text (U+FFFD where a token is part of a code point), exact bytes,
// alternatives.
Json logprobs_json(const Generation& generation, const Tokenizer& tokenizer) {
  const auto entry = [&](TokenId id, double logprob) {
    const std::string_view bytes = static_cast<size_t>(id) < tokenizer.n_vocab() ? tokenizer.bytes(id) : "";
    Json out;
    out["token"] = utf8_replace_invalid(bytes);
    out["id"] = id;
    out["logprob"] = logprob;
    out["bytes"] = Json::array();
    for (const char byte : bytes) out["bytes"].push_back(static_cast<unsigned char>(byte));
    return out;
  };
  Json content = Json::array();
  for (const Sampled& sampled : generation.logprobs) {
    Json token = entry(sampled.token, sampled.logprob);
    token["top_logprobs"] = Json::array();
    for (const TokenLogprob& top : sampled.top)
      token["top_logprobs"].push_back(entry(top.token, top.logprob));
    content.push_back(std::move(token));
  }
  return content;
}

// Stopped while the prompt was computed.
bool is_void(const Generation& generation) {
  return generation.finish_reason == FinishReason::kCancelled && generation.tokens.empty();
}

// Forward passes of one row: every token but the first, which the prompt's last row gave.
size_t n_decoded(const Generation& generation) {
  return generation.tokens.empty() ? 0 : generation.tokens.size() - 1;
}

}  // namespace

Result<Conversation> Conversation::make(const LoadedModel& model, Options options) {
  std::optional<ChatTemplate> chat_template;
  if (!options.raw) {
    ASSIGN_OR_RETURN(chat_template, ChatTemplate::of_model(model.file.metadata(), model.tokenizer));
  }
  options.raw = !chat_template;
  ASSIGN_OR_RETURN(Session session, Session::make(model.ctx, model.weights, model.tokenizer,
                                                  {.n_context = model.n_context,
                                                   .kv_type = model.kv_type,
                                                   .prefill_rows = kPrefillRows,
                                                   .exact = false}));
  return Conversation(model, std::move(options), std::move(chat_template), std::move(session));
}

Result<std::vector<TokenId>> Conversation::prompt_tokens() const {
  if (options_.raw) {
    std::string text;
    for (const ChatMessage& message : messages_) text += message.content;
    return model_->tokenizer.encode(text, options_.parse_special ? Recognise::kAll : Recognise::kUserDefined);
  }
  std::vector<ChatMessage> messages;
  if (options_.system) messages.push_back({"system", *options_.system, {}});
  messages.insert(messages.end(), messages_.begin(), messages_.end());
  ASSIGN_OR_RETURN(const auto runs, chat_template_->render(messages, Json(), true));
  return model_->tokenizer.encode(runs);
}

Result<Generation> Conversation::answer(GenerateParams params, const GenerateHooks& hooks) {
  ASSIGN_OR_RETURN(const auto prompt, prompt_tokens());
  const size_t n_vocab = model_->weights.shape.n_vocab;
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) >= n_vocab) params.top_k = 0;  // keeps all
  ASSIGN_OR_RETURN(Generation generation, session_.generate(prompt, params, hooks));
  if (!is_void(generation)) messages_.push_back({"assistant", generation.text, {}});
  return generation;
}

Result<Generation> Conversation::ask(const std::string& text, const GenerateParams& params,
                                     const GenerateHooks& hooks) {
  messages_.push_back({"user", text, {}});
  auto generation = answer(params, hooks);
  if (!generation || is_void(*generation)) messages_.pop_back();
  return generation;
}

Result<Generation> Conversation::retry(const GenerateParams& params, const GenerateHooks& hooks) {
  if (messages_.empty() || messages_.back().role != "assistant") {
    return fail(ErrorKind::kUsage, "chat.nothing_to_retry", "there is no answer to try again");
  }
  ChatMessage last = std::move(messages_.back());
  messages_.pop_back();
  auto generation = answer(params, hooks);
  if (!generation || is_void(*generation)) messages_.push_back(std::move(last));
  return generation;
}

void Conversation::clear() { messages_.clear(); }

Json Conversation::to_json() const {
  Json document;
  document["model"] = model_->label();
  document["raw"] = options_.raw;
  document["system"] = options_.system ? Json(*options_.system) : Json(nullptr);
  document["messages"] = Json::array();
  for (const ChatMessage& message : messages_) {
    document["messages"].push_back({{"role", message.role}, {"content", message.content}});
  }
  return document;
}

Result<void> Conversation::load_json(const Json& document, const std::string& source) {
  const auto wrong = [&](const char* what) { return fail("chat.document", "{}: expected {}", source, what); };
  if (!document.is_object() || !document.contains("messages") || !document["messages"].is_array()) {
    return wrong("an object with a list \"messages\", as /save writes it");
  }
  std::vector<ChatMessage> messages;
  for (const Json& message : document["messages"]) {
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string() ||
        !message.contains("content") || !message["content"].is_string()) {
      return wrong("messages with the strings \"role\" and \"content\"");
    }
    messages.push_back({message["role"].get<std::string>(), message["content"].get<std::string>(), {}});
  }
  std::optional<std::string> system;
  if (document.contains("system") && document["system"].is_string())
    system = document["system"].get<std::string>();
  messages_ = std::move(messages);
  options_.system = std::move(system);
  return {};
}

Json generation_json(const Generation& generation, const LoadedModel& model) {
  const Timings& timings = generation.timings;
  const size_t n_computed = generation.n_prompt - generation.n_cached;
  const auto per_token_ms = [](double seconds, size_t n) {
    return n == 0 ? Json(nullptr) : Json(1e3 * seconds / static_cast<double>(n));
  };
  Json out;
  out["text"] = generation.text;
  out["finish_reason"] = finish_reason_name(generation.finish_reason);
  out["model"] = model.label();
  out["seed"] = generation.seed;
  out["adapter_generation"] = nullptr;
  out["usage"] = {{"prompt_tokens", generation.n_prompt},
                  {"completion_tokens", generation.tokens.size()},
                  {"total_tokens", generation.n_prompt + generation.tokens.size()},
                  {"prompt_tokens_details", {{"cached_tokens", generation.n_cached}}}};
  out["timings"] = {{"cache_n", generation.n_cached},
                    {"prompt_n", n_computed},
                    {"prompt_ms", 1e3 * timings.prompt_seconds},
                    {"prompt_per_token_ms", per_token_ms(timings.prompt_seconds, n_computed)},
                    {"prompt_per_second", per_second(n_computed, timings.prompt_seconds)},
                    {"predicted_n", n_decoded(generation)},
                    {"predicted_ms", 1e3 * timings.generate_seconds},
                    {"predicted_per_token_ms", per_token_ms(timings.generate_seconds, n_decoded(generation))},
                    {"predicted_per_second", per_second(n_decoded(generation), timings.generate_seconds)},
                    {"ttft_ms", 1e3 * timings.first_token_seconds},
                    {"load_ms", 1e3 * model.load_seconds}};
  if (!generation.logprobs.empty())
    out["logprobs"] = {{"content", logprobs_json(generation, model.tokenizer)}};
  return out;
}

std::string logprobs_table(const Generation& generation, const Tokenizer& tokenizer) {
  std::string out;
  for (const Sampled& sampled : generation.logprobs) {
    out += fmt::format("{:<20} {:8.4f}  ", token_text(tokenizer, sampled.token), sampled.logprob);
    for (const TokenLogprob& top : sampled.top) {
      out += fmt::format("  {} {:.4f}", token_text(tokenizer, top.token), top.logprob);
    }
    out += '\n';
  }
  if (!out.empty()) out.pop_back();
  return out;
}

std::string generation_stats(const Generation& generation) {
  const Timings& timings = generation.timings;
  const size_t n_computed = generation.n_prompt - generation.n_cached;
  std::string text = fmt::format("prompt {} tokens", generation.n_prompt);
  if (generation.n_cached > 0) text += fmt::format(" ({} cached)", generation.n_cached);
  text += fmt::format(", {:.1f} tok/s | first token {:.3f} s | answer {} tokens, {:.1f} tok/s | {} | seed {}",
                      per_second(n_computed, timings.prompt_seconds), timings.first_token_seconds,
                      generation.tokens.size(), per_second(n_decoded(generation), timings.generate_seconds),
                      finish_reason_name(generation.finish_reason), generation.seed);
  return text;
}

}  // namespace ruvltra

// POST /v1/completions
#include <algorithm>

#include "base/fail.h"
#include "base/utf8.h"
#include "server/answer.h"
#include "server/fields.h"
#include "server/openai.h"
#include "server/order.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxScores = 1'000'000;  // of prompts' tokens, all of them in memory at once

struct CompletionOrder : Order {
  int n_logprobs = -1;  // -1: none asked
  bool echo = false;
  bool only_echo = false;  // max_tokens 0
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::vector<Sampled>> prompt_scores;  // with echo and logprobs
  uint64_t scored_generation = 0;                   // of the adapter they are made with
};

// {tokens, token_logprobs, top_logprobs, text_offset}; offsets in characters, the first at `offset`.
class LogprobTable {
 public:
  LogprobTable(const MediumModel& model, int n_top, size_t offset = 0)
      : model_(model), n_top_(n_top), offset_(offset) {}
  // A token with what is known about it: the first of a prompt has nothing before it.
  void add(TokenId token, const Sampled* score) {
    const std::string text = token_text(model_, token);
    tokens_.push_back(text);
    offsets_.push_back(offset_);
    // A character begins with the byte that is not a continuation, in whichever token that is.
    const std::string_view bytes = model_.token_bytes(token);
    offset_ += static_cast<size_t>(
        std::count_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xC0) != 0x80; }));
    if (score == nullptr) {
      values_.push_back(nullptr);
      tops_.push_back(nullptr);
      return;
    }
    values_.push_back(score->logprob);
    Json top = Json::object();
    for (size_t i = 0; i < score->top.size() && i < static_cast<size_t>(n_top_); ++i)
      top[token_text(model_, score->top[i].token)] = score->top[i].logprob;
    tops_.push_back(n_top_ > 0 ? std::move(top) : Json());
  }
  size_t offset() const { return offset_; }
  Json json() const {
    return {
        {"tokens", tokens_}, {"token_logprobs", values_}, {"top_logprobs", tops_}, {"text_offset", offsets_}};
  }

 private:
  const MediumModel& model_;
  const int n_top_;
  size_t offset_;
  Json tokens_ = Json::array(), values_ = Json::array(), tops_ = Json::array(), offsets_ = Json::array();
};

class CompletionPresenter final : public Presenter {
 public:
  CompletionPresenter(Service& service, CompletionOrder order)
      : service_(service), order_(std::move(order)) {}

  void begin(std::span<const Stream> streams) override {
    set_id(streams[0].id());
    fingerprint_ = fingerprint(model(), streams[0].generations()[0]);
    about_ = {{"adapter_generation", streams[0].generations()[0].adapter_generation},
              {"profile", order_.profile},
              {"seed", static_cast<int64_t>(streams[0].seed())}};
    head_ = fmt::format(
        R"({{"id":{},"object":"text_completion","created":{},"model":{},"system_fingerprint":{},)",
        json_string(id_), created_, json_string(order_.model), json_string(fingerprint_));
  }

  void set_id(RequestId id) {
    offsets_.assign(order_.prompts.size() * static_cast<size_t>(order_.params.n), 0);
    id_ = service_.response_id("cmpl-", id);
    created_ = unix_seconds();
  }

  std::string opening() override {
    std::string out;
    for (size_t i = 0; order_.echo && i < order_.prompts.size() * static_cast<size_t>(order_.params.n); ++i)
      out += chunk(i, prompt_text(i), "null", "null");
    return out;
  }

  std::string progress(const PromptProgress& progress) override {
    return sse(fmt::format(R"({}"choices":[],"prompt_progress":{{"total":{},"cache":0,"processed":{}}}}})",
                           head_, progress.n_total, progress.n_done));
  }

  std::string piece(size_t choice, const Event& event) override {
    std::string logprobs = "null";
    if (order_.n_logprobs >= 0 && event.token) {
      LogprobTable table(model(), order_.n_logprobs, offsets_[choice]);
      table.add(event.token->token, &*event.token);
      offsets_[choice] = table.offset();
      logprobs = to_json(table.json());
    }
    std::string out;
    if (!event.text.empty() || logprobs != "null") {
      const bool drafted = order_.return_drafted && event.token && event.token->was_drafted;
      out += chunk(choice, event.text, logprobs, "null", drafted);
    }
    if (event.generation != nullptr) {
      std::string document = fmt::format(
          R"({}"choices":[{{"index":{},"text":"","logprobs":null,"finish_reason":"{}"}}],"timings":{},"ruvltra":{})",
          head_, choice, finish_reason(*event.generation), to_json(timings_json(*event.generation)),
          to_json(about_));
      out += sse(document + (order_.include_usage ? R"(,"usage":null})" : "}"));
    }
    return out;
  }

  std::string closing(const Usage& usage) override {
    std::string out;
    if (order_.include_usage)
      out = sse(head_ + R"("choices":[],"usage":)" + to_json(usage_json(usage)) + "}");
    return out + "data: [DONE]\n\n";
  }

  std::string failure(const Error& error) override {
    return sse(to_response(error, ErrorShape::kOpenAi).body) + "data: [DONE]\n\n";
  }

  Result<HttpResponse> whole(std::span<const Generation> generations, const Usage& usage) override {
    Json choices = Json::array();
    for (size_t i = 0; i < generations.size(); ++i) {
      const Generation& generation = generations[i];
      Json logprobs = nullptr;
      if (order_.n_logprobs >= 0) {
        LogprobTable table(model(), order_.n_logprobs);
        if (order_.echo) add_prompt(i, table);
        for (const Sampled& sampled : generation.logprobs) table.add(sampled.token, &sampled);
        logprobs = table.json();
      }
      choices.push_back({{"index", i},
                         {"text", (order_.echo ? prompt_text(i) : "") + generation.text},
                         {"logprobs", std::move(logprobs)},
                         {"finish_reason", finish_reason(generation)}});
    }
    Json document = frame(std::move(choices), usage);
    document["timings"] = timings_json(generations[0]);
    document["ruvltra"] = about_;
    return json_response(document);
  }

  // The prompts and what the model makes of them, without a single token drawn.
  HttpResponse only_prompts() {
    set_id(0);
    Generation scored;
    scored.adapter_generation = order_.scored_generation;
    fingerprint_ = fingerprint(model(), scored);
    Usage usage;
    Json choices = Json::array();
    for (size_t i = 0; i < order_.prompts.size(); ++i) {
      usage.n_prompt += order_.prompts[i].size();
      Json logprobs = nullptr;
      if (order_.n_logprobs >= 0) {
        LogprobTable table(model(), order_.n_logprobs);
        add_prompt(i, table);
        logprobs = table.json();
      }
      choices.push_back({{"index", i},
                         {"text", prompt_text(i)},
                         {"logprobs", std::move(logprobs)},
                         {"finish_reason", "length"}});
    }
    return json_response(frame(std::move(choices), usage));
  }

 private:
  const MediumModel& model() const { return *service_.model(); }
  const std::vector<TokenId>& prompt_of(size_t choice) const {
    return order_.prompts[choice / static_cast<size_t>(order_.params.n)];
  }
  std::string prompt_text(size_t choice) const {
    std::string bytes;
    for (const TokenId token : prompt_of(choice)) bytes += model().token_bytes(token);
    return utf8_replace_invalid(bytes);
  }
  void add_prompt(size_t choice, LogprobTable& table) const {
    const auto& tokens = prompt_of(choice);
    const auto& scores = order_.prompt_scores[choice / static_cast<size_t>(order_.params.n)];
    for (size_t t = 0; t < tokens.size(); ++t) table.add(tokens[t], t == 0 ? nullptr : &scores[t - 1]);
  }
  Json frame(Json choices, const Usage& usage) const {
    return {{"id", id_},
            {"object", "text_completion"},
            {"created", created_},
            {"model", order_.model},
            {"system_fingerprint", fingerprint_},
            {"choices", std::move(choices)},
            {"usage", usage_json(usage)}};
  }
  std::string chunk(size_t choice, std::string_view text, std::string_view logprobs, std::string_view reason,
                    bool drafted = false) const {
    return sse(fmt::format(R"({}"choices":[{{"index":{},"text":{},"logprobs":{},"finish_reason":{}}}]{}{}}})",
                           head_, choice, json_string(text), logprobs, reason,
                           drafted ? R"(,"drafted":true)" : "",
                           order_.include_usage ? R"(,"usage":null)" : ""));
  }

  Service& service_;
  const CompletionOrder order_;
  std::string id_, fingerprint_, head_;
  int64_t created_ = 0;
  Json about_;
  std::vector<size_t> offsets_;  // of the next token in a streamed choice
};

// A string, token ids, or an array of either.
Result<std::vector<std::vector<TokenId>>> read_prompts(MediumModel& model, const Json& body) {
  const Json& prompt = member(body, "prompt");
  const bool one = prompt.is_string() || (prompt.is_array() && !prompt.empty() && prompt[0].is_number());
  const Json list = one ? Json::array({prompt}) : prompt;
  if (!list.is_array()) return bad_field("prompt", "expected a string or an array, found {}", type_of(list));
  if (list.empty() || list.size() > 64)
    return bad_field("prompt", "expected 1 to 64 prompts, found {}", list.size());
  std::vector<std::vector<TokenId>> prompts;
  for (const Json& text : list) {
    if (text.is_string()) {
      ASSIGN_OR_RETURN(auto tokens, model.tokenize(text.get_ref<const std::string&>()));
      prompts.push_back(std::move(tokens));
    } else if (text.is_array()) {
      std::vector<TokenId> tokens;
      for (const Json& id : text) {
        if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
            id.get<int64_t>() >= model.config().vocab_size)
          return bad_field("prompt", "expected token ids of 0..{}", model.config().vocab_size - 1);
        tokens.push_back(id.get<TokenId>());
      }
      prompts.push_back(std::move(tokens));
    } else {
      return bad_field("prompt", "expected strings or token ids, found {}", type_of(text));
    }
    if (prompts.back().empty()) return bad_field("prompt", "expected prompts that are not empty");
  }
  return prompts;
}

// Once the prompts are scored, if they must be.
Handled complete(Call& call, CompletionOrder order);

}  // namespace

Handled completions(Call& call) {
  ASSIGN_OR_RETURN(Json body, call.body());
  CompletionOrder order;
  RETURN_IF_ERROR(read_bool(body, "echo", order.echo));
  order.only_echo = order.echo && member(body, "max_tokens") == 0;
  if (order.only_echo) body["max_tokens"] = 1;
  const Json& format = member(body, "response_format");
  ASSIGN_OR_RETURN(static_cast<Order&>(order), read_order(call, body));
  if (!format.is_null()) return bad_field("response_format", "expected it in a chat");
  RETURN_IF_ERROR(read_integer(body, "logprobs", 0, 20, order.n_logprobs));
  if (order.n_logprobs >= 0) order.params.n_logprobs = std::max(order.n_logprobs, 1);
  ASSIGN_OR_RETURN(order.prompts, read_prompts(call.model(), body));
  if (order.echo && order.n_logprobs >= 0) {
    if (order.stream) return bad_field("logprobs", "expected no stream beside echo and logprobs");
    size_t n_scores = 0;
    for (const auto& prompt : order.prompts) n_scores += prompt.size();
    n_scores *= static_cast<size_t>(order.params.n) * static_cast<size_t>(order.n_logprobs + 1);
    if (n_scores > kMaxScores)
      return bad_field("logprobs", "expected at most {} in one answer, found {}", kMaxScores, n_scores);
    std::optional<Scope> learned = Scope{order.treatment.tenant, order.treatment.session};
    if (order.adapter == 0) learned.reset();
    if (const Sona* sona = call.service.sona(); sona != nullptr && learned)
      order.scored_generation = sona->live(*learned).number;
    return later(call, [order = std::move(order), learned](Call& held) mutable -> Handled {
      for (const auto& prompt : order.prompts) {
        if (held.exchange->closed()) return std::nullopt;
        ASSIGN_OR_RETURN(auto scores, held.model().score(prompt, order.n_logprobs, learned));
        order.prompt_scores.push_back(std::move(scores));
      }
      return complete(held, std::move(order));
    });
  }
  return complete(call, std::move(order));
}

namespace {

Handled complete(Call& call, CompletionOrder order) {
  if (order.only_echo) {
    if (order.stream) return bad_field("max_tokens", "expected at least 1 in a stream");
    return CompletionPresenter(call.service, std::move(order)).only_prompts();
  }
  AnswerOrder job{.requests = {},
                  .streamed = order.stream,
                  .with_progress = order.stream && order.return_progress,
                  .preview = {},
                  .id_prefix = "cmpl-"};
  for (const auto& prompt : order.prompts) {
    Request request;
    request.prompt = prompt;
    request.params = order.params;
    request.treatment = order.treatment;
    ASSIGN_OR_RETURN(request.treatment.task, call.model().detokenize(prompt));
    request.adapter = order.adapter;
    job.requests.push_back(std::move(request));
  }
  job.preview = preview_of(job.requests[0].treatment.task);
  return answer(call, std::move(job), std::make_unique<CompletionPresenter>(call.service, std::move(order)));
}

}  // namespace

}  // namespace ruvltra

// The subset of Ollama's routes that its clients use: /api/chat, generate, embed, tags, show, ps, version.
#include <algorithm>
#include <ctime>

#include "base/fail.h"
#include "server/answer.h"
#include "server/fields.h"
#include "server/messages.h"
#include "server/openai.h"
#include "server/order.h"
#include "server/other_faces.h"
#include "server/tool_calls.h"

namespace ruvltra {
namespace {

std::string rfc3339(int64_t seconds) {
  const auto time = static_cast<time_t>(seconds);
  std::tm parts = {};
  gmtime_r(&time, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts));
}

int64_t nanoseconds(double seconds) { return static_cast<int64_t>(1e9 * seconds); }

// "NAME:latest" is NAME.
std::string without_tag(std::string model) {
  constexpr std::string_view kLatest = ":latest";
  if (model.ends_with(kLatest)) model.resize(model.size() - kLatest.size());
  return model;
}

// Their request in the terms of the others: options become fields.
Result<Json> flattened(Json body) {
  const Json options = member(body, "options");
  if (!options.is_null() && !options.is_object())
    return bad_field("options", "expected an object, found {}", type_of(options));
  for (const char* name : {"temperature", "top_p", "top_k", "min_p", "seed", "stop", "repeat_penalty",
                           "presence_penalty", "frequency_penalty"})
    if (options.is_object() && options.contains(name)) body[name] = options[name];
  // -1 and -2 mean "as long as it gets".
  const Json& n_predict = member(options, "num_predict");
  if (!n_predict.is_null() && !n_predict.is_number())
    return bad_field("options.num_predict", "expected a number, found {}", type_of(n_predict));
  if (n_predict.is_number() && n_predict.get<double>() > 0) body["max_tokens"] = n_predict;
  std::string model;
  RETURN_IF_ERROR(read_string(body, "model", model, 256));
  body["model"] = without_tag(model);
  if (!body.contains("stream")) body["stream"] = true;
  // What would change the answer and is not there is refused.
  for (const char* name : {"images", "suffix", "template", "context"}) {
    if (const Json& value = member(body, name); !value.is_null() && !value.empty() && value != "")
      return bad_field(name, "expected none: it is not supported");
  }
  for (const Json& message : member(body, "messages"))
    if (!member(message, "images").empty()) return bad_field("messages", "expected texts, found images");
  body.erase("n");
  return body;
}

// What an answer of theirs looks like.
struct Form {
  bool chats = true, has_tools = false;
  int n_top = -1;  // likeliest tokens beside each; -1: no log-probabilities
};

class OllamaPresenter final : public Presenter {
 public:
  OllamaPresenter(Service& service, std::string model, Form form)
      : service_(service), model_(std::move(model)), form_(form) {}

  void begin(std::span<const Stream>) override {}
  std::string content_type() const override { return "application/x-ndjson"; }
  std::string_view ping() const override { return "\n"; }

  std::string piece(size_t, const Event& event) override {
    ToolCallReader::Piece read = read_text(event.text, event.generation != nullptr);
    Json logprobs = Json::array();
    if (event.token) add(*event.token, logprobs);
    std::string out;
    if (!read.text.empty() || !read.calls.empty() || !logprobs.empty()) {
      Json line = frame();
      put(line, read);
      line["done"] = false;
      if (!logprobs.empty()) line["logprobs"] = std::move(logprobs);
      out = to_json(line) + "\n";
    }
    if (event.generation != nullptr) last_ = *event.generation;
    return out;
  }

  std::string closing(const Usage& usage) override {
    Json line = frame();
    put(line, {});
    finish(line, last_, usage);
    return to_json(line) + "\n";
  }

  std::string failure(const Error& error) override { return to_json({{"error", error.message}}) + "\n"; }

  Result<HttpResponse> whole(std::span<const Generation> generations, const Usage& usage) override {
    Json document = frame();
    put(document, read_text(generations[0].text, true));
    finish(document, generations[0], usage);
    if (form_.n_top >= 0) {
      document["logprobs"] = Json::array();
      for (const Sampled& sampled : generations[0].logprobs) add(sampled, document["logprobs"]);
    }
    return json_response(document);
  }

 private:
  Json frame() const { return {{"model", model_}, {"created_at", rfc3339(unix_seconds())}}; }

  // Tokens without a text, like the last one, are no part of an answer.
  void add(const Sampled& sampled, Json& logprobs) const {
    const MediumModel& model = *service_.model();
    if (form_.n_top < 0 || model.detokenize(std::span(&sampled.token, 1)).value_or("x").empty()) return;
    logprobs.push_back(chat_logprob(model, sampled, form_.n_top));
  }

  ToolCallReader::Piece read_text(const std::string& text, bool last) {
    if (!form_.has_tools) return {text, {}};
    ToolCallReader::Piece read = reader_.push(text);
    if (last) {
      ToolCallReader::Piece rest = reader_.finish();
      read.text += rest.text;
      read.calls.insert(read.calls.end(), rest.calls.begin(), rest.calls.end());
    }
    return read;
  }

  void put(Json& line, const ToolCallReader::Piece& read) const {
    if (!form_.chats) {
      line["response"] = read.text;
      return;
    }
    Json message = {{"role", "assistant"}, {"content", read.text}};
    for (const ToolCall& call : read.calls) {
      auto arguments = parse_json(call.arguments, "arguments");
      message["tool_calls"].push_back(
          {{"function",
            {{"name", call.name}, {"arguments", arguments ? std::move(*arguments) : Json::object()}}}});
    }
    line["message"] = std::move(message);
  }

  static void finish(Json& line, const Generation& generation, const Usage& usage) {
    const Timings& timings = generation.timings;
    line["done"] = true;
    line["done_reason"] = finish_reason(generation);
    line["total_duration"] = nanoseconds(timings.first_token_seconds + timings.generate_seconds);
    line["load_duration"] = 0;
    line["prompt_eval_count"] = usage.n_prompt;
    line["prompt_eval_duration"] = nanoseconds(timings.prompt_seconds);
    line["eval_count"] = usage.n_completion;
    line["eval_duration"] = nanoseconds(timings.generate_seconds);
  }

  Service& service_;
  const std::string model_;
  const Form form_;
  ToolCallReader reader_;
  Generation last_;
};

Handled start(Call& call, const Json& body, Order order, Prompt prompt, const std::string& task, Form form,
              Constraint::Pointer constraint) {
  bool logprobs = false;
  int n_top = 0;
  RETURN_IF_ERROR(read_bool(body, "logprobs", logprobs));
  RETURN_IF_ERROR(read_integer(body, "top_logprobs", 0, 20, n_top));
  if (logprobs) {
    form.n_top = n_top;
    order.params.n_logprobs = std::max(n_top, 1);
  }
  Request request;
  request.prompt = std::move(prompt);
  request.params = order.params;
  request.treatment = order.treatment;
  request.treatment.task = task;
  request.adapter = order.adapter;
  request.constraint = std::move(constraint);
  AnswerOrder job{.requests = {std::move(request)},
                  .streamed = order.stream,
                  .with_progress = false,
                  .preview = preview_of(task),
                  .id_prefix = "ollama-"};
  return answer(call, std::move(job), std::make_unique<OllamaPresenter>(call.service, order.model, form));
}

// Clients load a model by asking it nothing.
HttpResponse loaded(const Order& order, bool chats) {
  Json document = {{"model", order.model},
                   {"created_at", rfc3339(unix_seconds())},
                   {"done", true},
                   {"done_reason", "load"}};
  if (chats) {
    document["message"] = {{"role", "assistant"}, {"content", ""}};
  } else {
    document["response"] = "";
  }
  return json_response(document);
}

Json details(const Service& service) {
  return {
      {"format", "gguf"},
      {"family", "qwen2"},
      {"families", Json::array({"qwen2"})},
      {"parameter_size", fmt::format("{:.1f}M", static_cast<double>(service.model()->n_parameters()) / 1e6)},
      {"quantization_level", service.info().quant}};
}

Json entry(const Service& service) {
  const ServedInfo& info = service.info();
  return {{"name", info.id + ":latest"},          {"model", info.id + ":latest"},
          {"modified_at", rfc3339(info.created)}, {"size", info.file_bytes},
          {"digest", service.model()->sha256()},  {"details", details(service)}};
}

Result<std::vector<float>> embedding_of(MediumModel& model, const Json& text, int n_dimensions,
                                        size_t& n_tokens) {
  if (!text.is_string()) return bad_field("input", "expected strings, found {}", type_of(text));
  ASSIGN_OR_RETURN(const auto tokens, model.tokenize(text.get_ref<const std::string&>()));
  n_tokens += tokens.size();
  return unit_embedding(model, tokens, n_dimensions);
}

// Whether the model's chat template tells the model of tools.
bool knows_tools(const MediumModel& model) {
  const std::vector<ChatMessage> messages = {{"user", "x", {}}};
  const auto with = model.tokenize(
      messages, R"([{"type":"function","function":{"name":"f","description":"","parameters":{}}}])");
  const auto without = model.tokenize(messages);
  return with && without && *with != *without;
}

}  // namespace

Handled ollama_chat(Call& call) {
  ASSIGN_OR_RETURN(Json raw, call.body());
  ASSIGN_OR_RETURN(const Json body, flattened(std::move(raw)));
  ASSIGN_OR_RETURN(Order order, read_order(call, body));
  if (member(body, "messages").is_array() && member(body, "messages").empty()) return loaded(order, true);
  ASSIGN_OR_RETURN(const auto messages, read_messages(body));
  ASSIGN_OR_RETURN(const Tools tools, read_tools(body));
  ASSIGN_OR_RETURN(const Constraint::Pointer form, read_ollama_format(body));
  ASSIGN_OR_RETURN(auto prompt, call.model().tokenize(messages, tools.json));
  return start(call, body, std::move(order), std::move(prompt), messages.back().content,
               {.chats = true, .has_tools = !tools.json.empty()}, form);
}

Handled ollama_generate(Call& call) {
  ASSIGN_OR_RETURN(Json raw, call.body());
  ASSIGN_OR_RETURN(const Json body, flattened(std::move(raw)));
  ASSIGN_OR_RETURN(Order order, read_order(call, body));
  std::string prompt, system;
  bool as_it_is = false;
  RETURN_IF_ERROR(read_string(body, "prompt", prompt));
  RETURN_IF_ERROR(read_string(body, "system", system));
  RETURN_IF_ERROR(read_bool(body, "raw", as_it_is));
  ASSIGN_OR_RETURN(const Constraint::Pointer form, read_ollama_format(body));
  if (prompt.empty()) return loaded(order, false);
  if (as_it_is || !call.model().has_chat_template().value_or(true))
    return start(call, body, std::move(order), prompt, prompt, {.chats = false}, form);
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({"system", system, {}});
  messages.push_back({"user", prompt, {}});
  ASSIGN_OR_RETURN(auto tokens, call.model().tokenize(messages));
  return start(call, body, std::move(order), std::move(tokens), prompt, {.chats = false}, form);
}

Handled ollama_embed(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  std::string model;
  RETURN_IF_ERROR(read_string(body, "model", model, 256));
  RETURN_IF_ERROR(profile_of_model(call.service, without_tag(model)));
  const Json& input = member(body, "input");
  const Json list = input.is_array() ? input : Json::array({input});
  if (list.empty() || list.size() > 64)
    return bad_field("input", "expected 1 to 64 texts, found {}", list.size());
  const int d_model = call.model().config().d_model;
  int n_dimensions = d_model;
  RETURN_IF_ERROR(read_integer(body, "dimensions", 1, d_model, n_dimensions));
  Json embeddings = Json::array();
  size_t n_tokens = 0;
  for (const Json& text : list) {
    if (call.exchange->closed()) return std::nullopt;
    ASSIGN_OR_RETURN(auto vector, embedding_of(call.model(), text, n_dimensions, n_tokens));
    embeddings.push_back(std::move(vector));
  }
  return json_response(
      {{"model", model}, {"embeddings", std::move(embeddings)}, {"prompt_eval_count", n_tokens}});
}

Handled ollama_embeddings(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  std::string model;
  RETURN_IF_ERROR(read_string(body, "model", model, 256));
  RETURN_IF_ERROR(profile_of_model(call.service, without_tag(model)));
  size_t n_tokens = 0;
  ASSIGN_OR_RETURN(auto vector, embedding_of(call.model(), member(body, "prompt"),
                                             call.model().config().d_model, n_tokens));
  return json_response({{"embedding", std::move(vector)}});
}

Handled ollama_tags(Call& call) { return json_response({{"models", Json::array({entry(call.service)})}}); }

Handled ollama_ps(Call& call) {
  Json one = entry(call.service);
  one["expires_at"] = "9999-12-31T23:59:59Z";
  one["size_vram"] = 0;
  return json_response({{"models", Json::array({std::move(one)})}});
}

Handled ollama_show(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  std::string model;
  RETURN_IF_ERROR(read_string(body, "model", model, 256));
  if (model.empty()) RETURN_IF_ERROR(read_string(body, "name", model, 256));
  RETURN_IF_ERROR(profile_of_model(call.service, without_tag(model)));
  const MediumConfig& config = call.model().config();
  Json capabilities = {"completion", "embedding"};
  if (knows_tools(call.model())) capabilities.push_back("tools");
  return json_response({{"details", details(call.service)},
                        {"model_info",
                         {{"general.architecture", "qwen2"},
                          {"general.name", call.model().name()},
                          {"general.parameter_count", call.model().n_parameters()},
                          {"qwen2.context_length", config.context_length},
                          {"qwen2.block_count", config.n_layers},
                          {"qwen2.embedding_length", config.d_model},
                          {"qwen2.attention.head_count", config.n_heads},
                          {"qwen2.attention.head_count_kv", config.n_kv_heads}}},
                        {"capabilities", std::move(capabilities)}});
}

Handled ollama_version(Call&) { return json_response({{"version", RUVLTRA_VERSION}}); }

}  // namespace ruvltra

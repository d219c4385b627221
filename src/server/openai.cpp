#include "server/openai.h"

#include <openssl/evp.h>

#include <chrono>
#include <cmath>

#include "base/fail.h"
#include "base/utf8.h"
#include "server/fields.h"
#include "server/messages.h"
#include "server/order.h"

namespace ruvltra {

std::string json_string(std::string_view text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string sse(std::string_view document) {
  std::string out;
  out.reserve(document.size() + 8);
  out.append("data: ").append(document).append("\n\n");
  return out;
}

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string token_text(const MediumModel& model, TokenId token) {
  return utf8_replace_invalid(model.token_bytes(token));
}

namespace {

Json one_logprob(const MediumModel& model, TokenId token, double logprob) {
  const std::string_view bytes = model.token_bytes(token);
  Json list = Json::array();
  for (const char byte : bytes) list.push_back(static_cast<uint8_t>(byte));
  // JSON has no infinity: OpenAI's value for "as good as impossible".
  return {{"token", utf8_replace_invalid(bytes)},
          {"logprob", std::isfinite(logprob) ? logprob : -9999.0},
          {"bytes", std::move(list)}};
}

}  // namespace

Json chat_logprob(const MediumModel& model, const Sampled& sampled, int n_top) {
  Json entry = one_logprob(model, sampled.token, sampled.logprob);
  Json top = Json::array();
  for (size_t i = 0; i < sampled.top.size() && i < static_cast<size_t>(n_top); ++i)
    top.push_back(one_logprob(model, sampled.top[i].token, sampled.top[i].logprob));
  entry["top_logprobs"] = std::move(top);
  return entry;
}

std::string fingerprint(const MediumModel& model, const Generation& generation) {
  const std::string hash = model.sha256().substr(0, 12);
  return generation.adapter_generation == 0 ? "rv_" + hash
                                            : fmt::format("rv_{}_g{}", hash, generation.adapter_generation);
}

namespace {

Json model_json(const Service& service, std::string_view id) {
  const ServedInfo& info = service.info();
  const MediumModel* model = service.model();
  return {{"id", id},
          {"object", "model"},
          {"created", info.created},
          {"owned_by", "ruvltra"},
          {"status", model != nullptr ? "ready" : "loading"},
          {"meta",
           {{"n_ctx", model->config().context_length},
            {"n_params", model->n_parameters()},
            {"size_bytes", info.file_bytes},
            {"quant", info.quant},
            {"sha256", model->sha256()}}}};
}

std::vector<std::string> model_ids(const Service& service) {
  std::vector<std::string> ids = {service.info().id, "ruvltra-base", "ruvltra-coder", "ruvltra-agent"};
  for (const std::string& alias : service.options().aliases)
    if (alias != "*") ids.push_back(alias);
  return ids;
}

Result<std::vector<TokenId>> read_token_ids(const Json& list, std::string_view name, int n_vocab) {
  std::vector<TokenId> tokens;
  for (const Json& one : list) {
    if (!one.is_number_integer() || one.get<int64_t>() < 0 || one.get<int64_t>() >= n_vocab)
      return bad_field(name, "expected token ids of 0..{}, found {}", n_vocab - 1,
                       ruvltra::quoted(to_json(one)));
    tokens.push_back(one.get<TokenId>());
  }
  return tokens;
}

std::string base64(const std::vector<float>& values) {
  const size_t n_bytes = values.size() * sizeof(float);
  std::string text(4 * ((n_bytes + 2) / 3) + 1, '\0');
  const int n =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(values.data()), static_cast<int>(n_bytes));
  text.resize(static_cast<size_t>(n));
  return text;
}

}  // namespace

Handled list_models(Call& call) {
  Json data = Json::array();
  for (const std::string& id : model_ids(call.service)) data.push_back(model_json(call.service, id));
  return json_response({{"object", "list"}, {"data", std::move(data)}});
}

Handled show_model(Call& call) {
  RETURN_IF_ERROR(profile_of_model(call.service, call.arguments[0]));
  return json_response(model_json(call.service, call.arguments[0]));
}

Result<std::vector<float>> unit_embedding(MediumModel& model, std::span<const TokenId> tokens,
                                          int n_dimensions) {
  if (tokens.empty()) return bad_field("input", "expected texts that are not empty");
  ASSIGN_OR_RETURN(std::vector<float> vector, model.embed(tokens));
  vector.resize(static_cast<size_t>(n_dimensions));
  double sum = 0;
  for (const float value : vector) sum += static_cast<double>(value) * static_cast<double>(value);
  const auto scale = static_cast<float>(sum > 0 ? 1 / std::sqrt(sum) : 0);
  for (float& value : vector) value *= scale;
  return vector;
}

Handled embeddings(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  std::string model_name, format = "float";
  RETURN_IF_ERROR(read_string(body, "model", model_name, 256));
  RETURN_IF_ERROR(profile_of_model(call.service, model_name));
  RETURN_IF_ERROR(read_string(body, "encoding_format", format, 16));
  if (format != "float" && format != "base64")
    return bad_field("encoding_format", "expected float or base64, found {}", ruvltra::quoted(format));
  MediumModel& model = call.model();
  int n_dimensions = model.config().d_model;
  RETURN_IF_ERROR(read_integer(body, "dimensions", 1, model.config().d_model, n_dimensions));

  const Json& input = member(body, "input");
  const bool one_list = input.is_array() && !input.empty() && input[0].is_number();
  const Json inputs = input.is_array() && !one_list ? input : Json::array({input});
  if (inputs.empty() || inputs.size() > 64)
    return bad_field("input", "expected 1 to 64 texts, found {}", inputs.size());
  Json data = Json::array();
  size_t n_tokens = 0;
  for (const Json& one : inputs) {
    std::vector<TokenId> tokens;
    if (one.is_string()) {
      ASSIGN_OR_RETURN(tokens, model.tokenize(one.get_ref<const std::string&>()));
    } else if (one.is_array()) {
      ASSIGN_OR_RETURN(tokens, read_token_ids(one, "input", model.config().vocab_size));
    } else {
      return bad_field("input", "expected a string or token ids, found {}", type_of(one));
    }
    n_tokens += tokens.size();
    if (call.exchange->closed()) return std::nullopt;
    ASSIGN_OR_RETURN(const std::vector<float> vector, unit_embedding(model, tokens, n_dimensions));
    data.push_back({{"object", "embedding"},
                    {"index", data.size()},
                    {"embedding", format == "base64" ? Json(base64(vector)) : Json(vector)}});
  }
  return json_response({{"object", "list"},
                        {"data", std::move(data)},
                        {"model", model_name.empty() ? call.service.info().id : model_name},
                        {"usage", {{"prompt_tokens", n_tokens}, {"total_tokens", n_tokens}}}});
}

Handled tokenize(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  std::string content;
  bool parse_special = true, with_pieces = false;
  if (!member(body, "content").is_string())
    return bad_field("content", "expected a string, found {}", type_of(member(body, "content")));
  RETURN_IF_ERROR(read_string(body, "content", content));
  RETURN_IF_ERROR(read_bool(body, "parse_special", parse_special));
  RETURN_IF_ERROR(read_bool(body, "with_pieces", with_pieces));
  ASSIGN_OR_RETURN(const auto tokens, call.model().tokenize(content, parse_special));
  Json list = Json::array();
  for (const TokenId token : tokens) {
    if (!with_pieces) {
      list.push_back(token);
      continue;
    }
    const std::string_view bytes = call.model().token_bytes(token);
    Json piece = bytes;
    if (!utf8_is_valid(bytes)) {
      piece = Json::array();
      for (const char byte : bytes) piece.push_back(static_cast<uint8_t>(byte));
    }
    list.push_back({{"id", token}, {"piece", std::move(piece)}});
  }
  return json_response({{"tokens", std::move(list)}});
}

Handled detokenize(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  const Json& list = member(body, "tokens");
  if (!list.is_array()) return bad_field("tokens", "expected an array, found {}", type_of(list));
  ASSIGN_OR_RETURN(const auto tokens, read_token_ids(list, "tokens", call.model().config().vocab_size));
  ASSIGN_OR_RETURN(const std::string content, call.model().detokenize(tokens));
  return json_response({{"content", content}});
}

Handled apply_template(Call& call) {
  ASSIGN_OR_RETURN(const Json body, call.body());
  ASSIGN_OR_RETURN(const auto messages, read_messages(body));
  ASSIGN_OR_RETURN(const Tools tools, read_tools(body));
  ASSIGN_OR_RETURN(const auto tokens, call.model().tokenize(messages, tools.json));
  std::string prompt;
  for (const TokenId token : tokens) prompt += call.model().token_bytes(token);
  return json_response({{"prompt", utf8_replace_invalid(prompt)}});
}

}  // namespace ruvltra
